"""The panel of notebook 01: the gradients of one weight's examples, and one step of two rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import ipywidgets as widgets
import torch
from traitlets import TraitError, Tuple, validate

from consensus_lib.rules import Consensus, Mean
from course.figures import style
from course.figures.one_step import draw_step, who_pays
from course.panels.panel import GRID, Panel

__all__ = ["Gradients", "OneWeight"]

_FEWEST, _MOST, _LARGEST = 2, 6, 3.0
_NEW = 1.0


class Gradients(widgets.GridBox):
    """A slider for how many examples there are, and one for the gradient of each.

    Attributes:
        value: 2 to 6 numbers from -3 to 3; another value raises TraitError.
        count: the slider of how many.
        sliders: those of the six gradients, of which the first `count` are shown.
    """

    value = Tuple()

    def __init__(self, value: Sequence[float]) -> None:
        self.count = widgets.IntSlider(min=_FEWEST, max=_MOST, description="examples")
        self.sliders = [
            widgets.FloatSlider(
                min=-_LARGEST, max=_LARGEST, readout_format="+.1f", description=f"gradient {i}"
            )
            for i in range(1, _MOST + 1)
        ]
        self._following = False
        layout = {"grid_area": "auto / 1 / auto / -1", **GRID}
        super().__init__([self.count, *self.sliders], layout=layout)
        self.observe(self._to_sliders, "value")
        for slider in self.children:
            slider.observe(self._from_sliders, "value")
        self.value = value

    @validate("value")
    def _checked(self, proposal: Mapping[str, Any]) -> tuple[float, ...]:
        # Rounded, since a slider's 0 may come as 3e-16, which would be a vote.
        numbers = tuple(round(float(g), 6) for g in proposal["value"])
        fits = all(math.isfinite(g) and abs(g) <= _LARGEST for g in numbers)
        if not (fits and _FEWEST <= len(numbers) <= _MOST):
            raise TraitError(
                f"expected {_FEWEST} to {_MOST} numbers from {-_LARGEST:g} to {_LARGEST:g}"
            )
        return numbers

    def _to_sliders(self, _: Mapping[str, Any]) -> None:
        if self._following:
            return
        self._following = True
        try:
            self.count.value = len(self.value)
            missing = _MOST - len(self.value)
            for slider, number in zip(self.sliders, (*self.value, *[_NEW] * missing), strict=True):
                slider.value = number
        finally:
            self._following = False
        self._show()

    def _from_sliders(self, _: Mapping[str, Any]) -> None:
        if self._following:
            return
        self._following = True
        try:
            self.value = [slider.value for slider in self.sliders[: self.count.value]]
        finally:
            self._following = False
        self._show()

    def _show(self) -> None:
        # Hidden and not removed: nothing below may jump.
        for i, slider in enumerate(self.sliders):
            slider.layout.visibility = "visible" if i < self.count.value else "hidden"


class OneWeight(Panel):
    """One step from w = 0 by the mean and by consensus, and who pays for it.

    Controls: `gradients` (2 to 6 numbers, one an example), `zeros` ("veto" or "abstain") and
    `learning_rate` (0.1 to 2.5).
    """

    target = "find three gradients whose mean step, at η ≤ 1, hurts two of the three."
    presets: ClassVar = {
        "+1, −2, +2": {"gradients": (1.0, -2.0, 2.0)},
        "+0.4, +1.2, +0.3": {"gradients": (0.4, 1.2, 0.3)},
        "+0.4, +1.2, +0.3; η = 2.1": {"gradients": (0.4, 1.2, 0.3), "learning_rate": 2.1},
        "+1, +2, +2": {"gradients": (1.0, 2.0, 2.0)},
        "+0.5, +0.6, −0.8": {"gradients": (0.5, 0.6, -0.8)},
        "+0.5, +0.6, +0.2": {"gradients": (0.5, 0.6, 0.2)},
        "−1, −2, −3": {"gradients": (-1.0, -2.0, -3.0)},
        "0, +1, +2; veto": {"gradients": (0.0, 1.0, 2.0)},
        "0, +1, +2; abstain": {"gradients": (0.0, 1.0, 2.0), "zeros": "abstain"},
        "0, 0, 0": {"gradients": (0.0, 0.0, 0.0)},
        "+1, −1": {"gradients": (1.0, -1.0)},
    }

    def __init__(self) -> None:
        super().__init__(
            {
                "zeros": widgets.Dropdown(options=["veto", "abstain"], description="zeros"),
                "learning_rate": widgets.FloatSlider(
                    value=1.0, min=0.1, max=2.5, readout_format=".1f", description="step size η"
                ),
                "gradients": Gradients((1.0, -2.0, 2.0)),
            }
        )

    def draw(self) -> style.Picture:
        """Return the figure of this step."""
        values = self.values
        consensus = Consensus(zeros=values["zeros"])
        return draw_step(values["gradients"], values["learning_rate"], consensus)

    def judge(self) -> str | None:
        """Return whom the mean hurts, where that is two of three."""
        g, learning_rate = self.values["gradients"], self.values["learning_rate"]
        losers = who_pays(g, -learning_rate * Mean().reduce(torch.tensor(g)).item())
        if len(g) == 3 and len(losers) == 2 and learning_rate <= 1:
            return f"the mean step hurts examples {losers[0]} and {losers[1]} of three."
        return None
