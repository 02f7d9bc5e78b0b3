"""The panel of notebook 01: the gradients of one weight's examples, and steps by two rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from consensus_lib.rules import Consensus, Mean
from course.figures import style
from course.figures.one_step import draw_step, who_pays
from course.figures.one_weight import draw_path
from course.panels.controls import choice, number, numbers
from course.panels.panel import Panel, front_end

__all__ = ["OneWeight"]


class OneWeight(Panel):
    """Steps from w = 0 by the mean and by consensus, and who pays for them.

    Controls: `gradients` (2 to 6 numbers, one an example), `zeros` ("veto" or "abstain"),
    `learning_rate` (0.05 to 2.5) and `steps` (1 to 40).
    """

    _esm = front_end("one_weight")
    target = "find three gradients whose mean step, at η ≤ 1, hurts two of the three."
    controls: ClassVar = {
        "gradients": numbers("examples", -5.0, 5.0, 0.1, (1.0, -2.0, 2.0), fewest=2, most=6),
        "learning_rate": number("step size η", 0.05, 2.5, 0.05, first=1.0),
        "zeros": choice("zeros", ["veto", "abstain"]),
        "steps": number("repeat the step", 1, 40, 1, first=1),
    }
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

    @property
    def paths(self) -> dict[str, list[float]]:
        """Where each rule is before the first step and after each: steps + 1 weights."""
        rules = {"mean": Mean(), "consensus": Consensus(zeros=self.values["zeros"])}
        g = torch.tensor(self.values["gradients"], dtype=torch.float64)
        paths: dict[str, list[float]] = {}
        for name, rule in rules.items():
            paths[name] = [0.0]
            for _ in range(self.values["steps"]):
                w = paths[name][-1]
                paths[name].append(w - self.values["learning_rate"] * rule.reduce(w + g).item())
        return paths

    def draw(self) -> style.Picture:
        """Return the figure of the step, or of the path where there are several."""
        g: Sequence[float] = self.values["gradients"]
        if self.values["steps"] > 1:
            return draw_path(g, self.paths["mean"], self.paths["consensus"])
        return draw_step(g, self.values["learning_rate"], Consensus(zeros=self.values["zeros"]))

    def judge(self) -> str | None:
        """Return whom the mean hurts, where that is two of three."""
        g, learning_rate = self.values["gradients"], self.values["learning_rate"]
        step = -learning_rate * Mean().reduce(torch.tensor(g, dtype=torch.float64)).item()
        losers = who_pays(g, step)
        if len(g) == 3 and len(losers) == 2 and learning_rate <= 1:
            return f"the mean step hurts examples {losers[0]} and {losers[1]} of three."
        return None
