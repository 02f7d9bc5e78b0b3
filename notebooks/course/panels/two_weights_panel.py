"""The panel of notebook 02: a start on a landscape of two weights, and where two rules take it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import anywidget
import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from consensus_lib.rules import AgreementWeighted, AndMask, Consensus, Mean, Rule
from course.figures import style
from course.figures.two_weights import BASINS_SIZE, draw_basins
from course.figures.two_weights_descent import MAP, Descent, where_it_ends
from course.panels.matplotlib_panel import Panel
from course.toys.basins import count_ends, grid_of_starts
from course.toys.landscapes import LANDSCAPES, Landscape
from course.toys.paths import OPTIMIZERS, Paths, side_by_side

__all__ = ["RULES", "Pressable", "TwoWeights"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "mean": Mean(),
        "consensus": Consensus(),
        "abstain": Consensus(zeros="abstain"),
        "AND-mask": AndMask(),
        "weighted": AgreementWeighted(),
    }
)
_NO_RULE = "none"
_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)
_MOST_STEPS = 300  # few enough to answer while a slider moves
_STEP = 0.05
_START = {"min": -3.0, "max": 3.0, "step": _STEP}
_TOLD = ("shared", "crossing")
_OF_THE_START = frozenset({"a", "b"})
_MARGIN = 0.1  # how far beside the map, in shares of its size, a press still counts
_SIZE, _BANDS = 60, 30  # of the map of basins: starts in a row, and in how many pieces

Ends = Mapping[str, Tensor]
_NOT_YET: Ends = {}


class Pressable(anywidget.AnyWidget):
    """A picture to press and drag.

    Attributes:
        value: the picture as PNG bytes.
        spot: where it was pressed or dragged to last: shares of its width, from the left, and
            of its height, from above; empty before.
    """

    _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    value = traitlets.Bytes().tag(sync=True)
    spot = traitlets.List(traitlets.Float()).tag(sync=True)


class TwoWeights(Panel):
    """The way from one start by one rule or two, and on request the map of all starts.

    Controls: `landscape`, `rule`, `beside` (a second rule, or "none"), `optimizer`,
    `learning_rate`, `steps`, and the start, `a` and `b`. Start computes the map of basins.
    """

    target = (
        "find a start with b < 0 from which the mean ends at a crossing, and consensus at a "
        "shared zero."
    )
    presets: ClassVar = {
        "stalled beside the shared zero": {},
        "both find the shared zero": {"a": -2.0, "b": -1.5},
        "only consensus finds it": {"a": -2.5, "b": 0.5},
        "only the mean finds it": {"a": -0.5, "b": 0.9},
        "stopped by the first valley": {"a": 2.5, "b": -1.5},
        "turned: stopped at once": {"landscape": "turned", "a": -2.5, "b": 0.5},
        "one weight each: veto, abstain": {
            "landscape": "one weight each",
            "rule": "consensus",
            "beside": "abstain",
        },
        "a wave": {"landscape": "waves", "a": 0.5, "b": 0.5},
        "a wave, by the AND-mask": {
            "landscape": "waves",
            "rule": "consensus",
            "beside": "AND-mask",
            "a": 0.5,
            "b": 0.5,
        },
        "the wrong wave, shared by all": {
            "landscape": "wave pairs",
            "learning_rate": 0.5,
            "a": 2.8,
            "b": 2.5,
        },
    }

    def __init__(self) -> None:
        self._sheet: tuple[Any, Descent | None] = (None, None)
        self._ends: dict[str, str] = {}
        self._basins: dict[Any, Ends] = {}
        self._mapped: Ends | None = None
        self.map = widgets.Image(layout={"max_width": "100%"})
        screen = Pressable()
        super().__init__(
            {
                "landscape": widgets.Dropdown(options=list(LANDSCAPES), description="landscape"),
                "rule": widgets.Dropdown(options=list(RULES), description="rule"),
                "beside": widgets.Dropdown(
                    options=[*RULES, _NO_RULE], value="consensus", description="beside it"
                ),
                "optimizer": widgets.Dropdown(options=list(OPTIMIZERS), description="optimizer"),
                "learning_rate": widgets.SelectionSlider(
                    options=_RATES, value=0.3, description="learning rate"
                ),
                "steps": widgets.IntSlider(200, 10, _MOST_STEPS, 10, description="steps"),
                "a": widgets.FloatSlider(-2.0, **_START, description="start a"),
                "b": widgets.FloatSlider(1.0, **_START, description="start b"),
            },
            screen=screen,
            below=[self.map],
        )
        self.start_button.description = "Map the basins"
        screen.observe(self._on_spot, "spot")

    def draw(self) -> style.Picture:
        """Return the descent from this start; show the map of basins, if there is one."""
        values = self.values
        landscape = LANDSCAPES[values["landscape"]]
        runs = _descents(values, [(values["a"], values["b"])])
        self._ends = {name: where_it_ends(landscape, run.ends[0]) for name, run in runs.items()}
        sheet = (landscape, *runs)
        if self._sheet[0] != sheet:
            self._sheet = sheet, Descent(landscape, list(runs), _MOST_STEPS)
        picture = self._sheet[1]
        picture.show(runs)
        self._show_map(landscape)
        return picture

    def judge(self) -> str | None:
        """Return the start, where the mean ends at a crossing and consensus at a shared zero."""
        ends = (self._ends.get("mean"), self._ends.get("consensus"))
        if ends == ("crossing", "shared") and self.values["b"] < 0:
            start = f"({self.values['a']:.2f}, {self.values['b']:.2f})".replace("-", "−")
            return f"from {start} the mean ends at a crossing, consensus at a shared zero."
        return None

    def work(self, stop: threading.Event) -> None:
        """Descend from a grid of starts by each rule; the redraw that follows shows the map."""
        values, settings = self.values, self._settings()
        landscape = LANDSCAPES[values["landscape"]]
        bands = grid_of_starts(landscape, _SIZE).chunk(_BANDS)
        self.progress.max, self.progress.value = len(bands), 0
        parts = []
        for band in bands:
            if stop.is_set():
                return
            parts.append(_descents(values, band.flatten(0, 1)))
            self.progress.value += 1
        ends = {name: torch.cat([part[name].ends for part in parts]) for name in parts[0]}
        self._basins[settings] = {name: e.view(_SIZE, _SIZE, 2) for name, e in ends.items()}
        self.say(" ".join(_shares(name, count_ends(landscape, e)) for name, e in ends.items()))

    def forget(self) -> None:
        """Drop all maps."""
        self._basins.clear()

    def on_change(self, names: Collection[str]) -> None:
        """Stop the work on a map that is no longer wanted: if more than the start has moved."""
        if self.running and not set(names) <= _OF_THE_START:
            self.stop()

    def _settings(self) -> tuple[Any, ...]:
        return tuple(value for name, value in self.values.items() if name not in _OF_THE_START)

    def _show_map(self, landscape: Landscape) -> None:
        ends = self._basins.get(self._settings(), _NOT_YET)
        if self._mapped is not ends:
            self._mapped = ends
            self.map.value = (draw_basins(landscape, ends) if ends else _blank()).png()

    def _on_spot(self, change: Mapping[str, Any]) -> None:
        x, y = change["new"]
        left, bottom, width, height = MAP
        shares = (x - left) / width, (1 - y - bottom) / height
        if all(-_MARGIN <= share <= 1 + _MARGIN for share in shares):
            low, high = _START["min"], _START["max"]
            places = (low + (high - low) * min(max(share, 0), 1) for share in shares)
            a, b = (round(round(place / _STEP) * _STEP, 6) for place in places)
            self.set(a=a, b=b)


def _descents(values: Mapping[str, Any], starts: Tensor | Sequence[Any]) -> dict[str, Paths]:
    rules = {name: RULES[name] for name in (values["rule"], values["beside"]) if name != _NO_RULE}
    settings = {name: values[name] for name in ("learning_rate", "steps", "optimizer")}
    return side_by_side(LANDSCAPES[values["landscape"]], starts, rules, **settings)


def _blank() -> style.Picture:
    """What holds the place of the map, so that nothing below jumps when it comes."""
    picture, ax = style.new_figure(size=BASINS_SIZE)
    ax.set_axis_off()
    words = "“Map the basins” colours every start\nby the zero point to which it leads."
    ax.text(0.5, 0.5, words, fontsize=style.TEXT_SIZE, color=style.NEUTRAL, ha="center")
    picture.alt = "No map of basins yet"
    return picture


def _shares(name: str, counts: Mapping[str, int]) -> str:
    """Short enough for two rules in two lines on half a screen; the rest ends nowhere."""
    shares = (f"{counts[kind] / sum(counts.values()):.2f} {kind}" for kind in _TOLD)
    return f"{name}: {', '.join(shares)}."
