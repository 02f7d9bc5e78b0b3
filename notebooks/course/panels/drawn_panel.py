"""A panel of which Python draws the picture, after each change and while it works."""

from __future__ import annotations

import threading

from traitlets import Bytes

from course.figures import style
from course.panels.panel import Panel, front_end

__all__ = ["DrawnPanel"]

# One picture at a time in the whole process: callbacks run in several threads, and matplotlib's
# figures share state, such as the parser of mathematical text.
_PEN = threading.RLock()
_DPI = 150  # of the page's picture, which is shown larger than a figure


class DrawnPanel(Panel):
    """A Panel whose `draw` is shown on the page.

    Attributes:
        picture: the last one drawn, None where none could be.
        screen: the same as PNG bytes.
    """

    _esm = front_end("drawn")
    screen = Bytes().tag(sync=True)

    def __init__(self) -> None:
        self.picture: style.Picture | None = None
        self._stale = False
        super().__init__()
        self.redraw()

    def redraw(self) -> None:
        """Draw and judge; requests that come while a picture is being drawn share the next one."""
        self._stale = True
        with _PEN:
            if not self._stale:
                return
            self._stale = False
            self.picture = self.draw()
            dpi = self.picture.dpi
            self.picture.set_dpi(_DPI)
            self.screen = self.picture.png()
            self.picture.set_dpi(dpi)
            self.tell(alt=self.picture.alt, reached=self.reached)

    def still(self) -> style.Picture:
        """The picture that stands beside the controls where no page can move."""
        return self.picture or self.draw()
