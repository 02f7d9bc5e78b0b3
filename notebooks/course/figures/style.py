"""The one look of the course: colours, line styles, sizes, and a figure that shows itself."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from itertools import cycle
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from PIL import Image

DPI = 100
TEXT_SIZE = 13
TITLE_SIZE = 15
NEUTRAL = "#5F5F5F"
PALE = "#E8E8E8"
GAIN, PAYS = "#CDEBDD", "#F8CFC4"  # behind who gains by a step and who pays for it


Look = Mapping[str, Any]


def _line(color: str, linestyle: Any, **kw: Any) -> Look:
    return MappingProxyType({"color": color, "linestyle": linestyle, "linewidth": 2.5} | kw)


def _control(linestyle: Any, marker: str) -> Look:
    face = {"marker": marker, "markersize": 6, "markerfacecolor": "white"}
    return _line(NEUTRAL, linestyle, **face)


# Okabe and Ito, "Color Universal Design", 2008. Line styles tell the same once more, for
# readers who see no hue and for grey print.
MEAN = _line("#0072B2", "-")
CONSENSUS = _line("#D55E00", "--")
OTHER_RULES = (
    _line("#009E73", "-."),
    _line("#CC79A7", ":"),
    _line("#E69F00", (0, (6, 1, 1, 1, 1, 1))),
    _line("#56B4E9", (0, (1, 1))),
)
COINS = _line(NEUTRAL, (0, (1, 2)), linewidth=1.5)  # a floor: what chance alone would give

_LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        "mean": MEAN,
        "consensus": CONSENSUS,
        "abstain": _line("black", "-."),
        "sign vote": OTHER_RULES[0],
        "power mean": OTHER_RULES[1],
        "agreement-weighted": OTHER_RULES[2],
        "AND-mask": OTHER_RULES[3],
        "random mask": _control("-.", "s"),
        "smallest magnitude": _control(":", "^"),
        "scaled mean": _control("--", "D"),
        "slow mean": _control("-", "v"),
    }
)


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """{name: its line}: rules and controls have one look everywhere, others take what is left."""
    names = list(names)
    taken = [_LOOKS.get(name) for name in names]
    left = cycle([look for look in OTHER_RULES if look not in taken] or OTHER_RULES)
    return {name: look or next(left) for name, look in zip(names, taken, strict=True)}


def look_of(name: str) -> Look:
    """The line of a rule or a control."""
    return looks_of([name])[name]


class Picture(Figure):
    """A figure of fixed size that Jupyter shows as a PNG, without pyplot and its global state.

    `alt` is the text for readers who do not see the picture; by default its title.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        FigureCanvasAgg(self)
        self.alt = ""

    @property
    def title(self) -> str:
        """The title above the figure, else that of the first axes that has one."""
        titles = [self.get_suptitle(), *(axes.get_title() for axes in self.axes)]
        return " ".join(next((title for title in titles if title), "untitled").split())

    def png(self) -> bytes:
        """Return the picture as PNG bytes, the same for the same picture and library versions."""
        buffer = BytesIO()
        self.canvas.print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        return self.png(), {"alt": self.alt or self.title}

    def __repr__(self) -> str:
        return f"<Picture: {self.title}>"

    __str__ = __repr__


class LivePicture(Picture):
    """A Picture of which all but its `moving` artists is drawn once: fast enough to follow a hand.

    Attributes:
        moving: artists of the picture or its axes, drawn anew in each PNG.
    """

    def __init__(self, size: tuple[float, float]) -> None:
        """Take the size (width, height) in inches."""
        super().__init__(figsize=size, dpi=DPI, facecolor="white")
        self.moving: list[Artist] = []
        self._still: Any = None

    def add_plot(self, place: tuple[float, float, float, float], **kw: Any) -> Axes:
        """Add axes in the course's look at (left, bottom, width, height), shares of the picture."""
        ax = self.add_axes(place, **kw)
        _dress(ax)
        return ax

    def png(self) -> bytes:
        """Return the picture as PNG bytes."""
        for artist in self.moving:
            artist.set_animated(True)  # left out by `draw`
        if self._still is None:
            self.canvas.draw()
            self._still = self.canvas.copy_from_bbox(self.bbox)
        self.canvas.restore_region(self._still)
        for artist in self.moving:
            artist.draw(self.canvas.get_renderer())
        buffer = BytesIO()
        pixels = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        # Compressed well, it would take most of a frame's time.
        pixels.save(buffer, format="png", compress_level=1)
        return buffer.getvalue()


def new_figure(
    rows: int = 1,
    cols: int = 1,
    size: tuple[float, float] = (8.0, 4.5),
    title: str = "",
    **kw: Any,
) -> tuple[Picture, Any]:
    """Return a Picture and its axes in the course's look.

    size: inches (width, height), at 100 dots an inch. title: above all axes. **kw: as for
    `Figure.subplots` (sharex, gridspec_kw, ...). The axes are one Axes, or an array of them
    when there are several. Sets everything on the objects and reads or writes no rcParams, which
    are global: panels draw from several threads.
    """
    figure = Picture(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, cols, **kw)
    for ax in figure.axes:
        _dress(ax)
    if title:
        figure.suptitle(title, fontsize=TITLE_SIZE)
    return figure, axes


def _dress(ax: Axes) -> None:
    ax.set_facecolor("white")
    ax.tick_params(which="both", labelsize=TEXT_SIZE)
    ax.spines[["top", "right"]].set_visible(False)


def label(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Write the title and the names (with units) of the axes in the course's sizes."""
    ax.set_title(title, fontsize=TEXT_SIZE)
    ax.set_xlabel(x, fontsize=TEXT_SIZE)
    ax.set_ylabel(y, fontsize=TEXT_SIZE)


def mark_level(ax: Axes, height: float, words: str, below: bool = False) -> None:
    """Draw a level, such as the coin-flip floor, over the whole width, and name it at the right."""
    ax.axhline(height, **COINS)
    look = {"xytext": (0, -3 if below else 3), "textcoords": "offset points", "zorder": 5}
    look |= {"ha": "right", "va": "top" if below else "bottom", "color": NEUTRAL}
    look |= {"bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}}
    place = {"xy": (0.98, height), "xycoords": ("axes fraction", "data")}
    ax.annotate(words, fontsize=TEXT_SIZE - 1, **place, **look)


def add_legend(ax: Axes, **kw: Any) -> Legend:
    """Add a legend in the course's size, with lines long enough to tell their styles apart."""
    return ax.legend(fontsize=TEXT_SIZE, frameon=False, handlelength=3, **kw)


def legend_below(picture: Picture, handles: Iterable[Artist], **kw: Any) -> None:
    """Add one legend below all axes, in the course's size and by default in one row."""
    handles = list(handles)
    look = {"frameon": False, "fontsize": TEXT_SIZE, "handlelength": 3, "ncols": len(handles)}
    picture.legend(handles=handles, **{"loc": "outside lower center"} | look | kw)


def hold_still(picture: Picture, **margins: float) -> None:
    """Fix the margins (shares of the picture, as for `subplots_adjust`).

    In a panel no axes may jump when a number gets longer, as under a constrained layout.
    """
    picture.set_layout_engine("none")
    picture.subplotpars.update(**margins)
    for ax in picture.axes:
        ax.set_position(ax.get_subplotspec().get_position(picture))
