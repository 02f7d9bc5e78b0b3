"""All panels that need no lesson on one page, with a bar to change between them."""

from __future__ import annotations

from typing import Any

import anywidget
import ipywidgets as widgets
from traitlets import Dict, Unicode

from course.panels.agreement_map import AgreementMap
from course.panels.agreement_panel import FamilyOfRules
from course.panels.arc_lab import ArcLab
from course.panels.one_weight_panel import OneWeight
from course.panels.panel import Panel, front_end
from course.panels.two_weights_panel import TwoWeights

__all__ = ["Demo"]

_PANELS: dict[str, tuple[str, type[Panel]]] = {
    "OneWeight": ("One weight", OneWeight),
    "TwoWeights": ("Two weights", TwoWeights),
    "AgreementMap": ("The agreement map", AgreementMap),
    "FamilyOfRules": ("Family of rules", FamilyOfRules),
    "ArcLab": ("The ARC lab", ArcLab),
}


class _Bar(anywidget.AnyWidget):
    """The names of the panels, and the one that is chosen."""

    _esm = front_end("bar")
    _css = Panel._css
    names = Dict().tag(sync=True)
    chosen = Unicode().tag(sync=True)


class Demo(widgets.VBox):
    """A bar, and below it the panel that is chosen on it; each keeps its state.

    Attributes:
        panels: {name: panel} of those that were shown so far.
    """

    def __init__(self) -> None:
        self.panels: dict[str, Panel] = {}
        names = {name: words for name, (words, _) in _PANELS.items()}
        self._bar = _Bar(names=names, chosen="OneWeight")
        self._stage = widgets.Box(layout={"width": "100%"})
        super().__init__([self._bar, self._stage], layout={"width": "100%"})
        self._bar.observe(lambda change: self.show(change["new"]), "chosen")
        self.show("OneWeight")

    def show(self, name: str) -> Panel:
        """Show a panel, by the name of its class, and return it; ValueError for another name."""
        if name not in _PANELS:
            raise ValueError(f"no panel {name!r}; there are: {', '.join(_PANELS)}")
        if name not in self.panels:
            self.panels[name] = _PANELS[name][1]()
            self.panels[name].layout.width = "100%"
            if name == "AgreementMap":
                self.panels[name].start()  # a map of no run is an empty page
        self._bar.chosen = name
        self._stage.children = [self.panels[name]]
        return self.panels[name]

    def _repr_mimebundle_(self, **kw: Any) -> dict[str, Any]:
        # The picture of the panel beside the widget, for pages without a kernel.
        picture, _ = self.panels[self._bar.chosen]._repr_mimebundle_(**kw)
        picture.pop("application/vnd.jupyter.widget-view+json")
        return super()._repr_mimebundle_(**kw) | picture

    def __repr__(self) -> str:
        return f"Demo({', '.join(_PANELS)})"
