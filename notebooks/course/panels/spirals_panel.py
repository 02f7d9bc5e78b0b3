"""The panel of notebook 05: the spirals learned by the mean and by another rule, side by side."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn

from consensus_lib.rules import AgreementWeighted, AndMask, Consensus, Mean, Rule
from course.figures import style
from course.figures.invariance import looks, show_accuracies, show_answers
from course.panels.controls import choice, ladder, number, tick
from course.panels.drawn_panel import DrawnPanel
from course.panels.panel import Leash
from course.toys.spirals import Data, Outcome, Recipe, alike_everywhere, draw_data, fit

__all__ = ["RULES", "Spirals"]

RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        "consensus": Consensus(),
        "AND-mask": AndMask(rescale=True),
        "weighted mean": AgreementWeighted(),
    }
)
_WELL, _BADLY, _FEW, _LONG = 0.9, 0.6, 4, 4
_BETWEEN_LOOKS = 20
_REST = 4  # between two pictures, in times that one takes


@dataclass
class _Course:
    """What the panel shows of one rule's run."""

    rule: str
    seen: list[tuple[int, float, float]] = field(default_factory=list)
    network: nn.Module | None = None
    done: bool = False

    @property
    def test(self) -> float:
        return self.seen[-1][2]


class Spirals(DrawnPanel):
    """Learn the spirals by the mean, then by another rule, with the same first weights.

    Controls: `environments` (2 to 16), `dimensions` of the signature (1 to 16), `rule` (a name
    of `RULES`), `learning_rate`, `weight_decay`, `hold_masked`, `steps`, `seed`.

    Attributes:
        recipe: the size that the controls ask for.
        courses: what was run last, the mean first.
    """

    target = (
        f"at most {_FEW} environments, signatures of at least {_LONG}; test accuracy of consensus "
        f"{_WELL} or more, of the mean {_BADLY} or less."
    )
    presets: ClassVar = {
        "twelve environments": {},
        "four environments": {"environments": 4},
        "two environments": {"environments": 2},
        "no weight decay": {"weight_decay": 0.0},
        "masked weights held": {"hold_masked": True},
        "AND-mask": {"rule": "AND-mask"},
        "softer: weighted mean": {"rule": "weighted mean"},
    }

    controls: ClassVar = {
        "environments": number("voters E", 2, 16, 1, first=12),
        "dimensions": number("signature", 1, 16, 1, first=8),
        "rule": choice("rule", RULES),
        "learning_rate": ladder("learning rate", [1e-3, 3e-3, 1e-2, 3e-2, 1e-1], 3e-2),
        "weight_decay": ladder("decay", [0.0, 1e-5, 1e-4, 1e-3, 1e-2], 1e-4),
        "hold_masked": tick("hold masked"),
        "steps": ladder("steps", [100, 300, 500, 1000, 2000], 500),
        "seed": number("seed", 0, 9, 1, first=0),
    }

    def __init__(self) -> None:
        self.courses: list[_Course] = []
        self._data: Data | None = None
        self._asked: dict[str, Any] = {}
        self._next_picture = 0.0
        super().__init__()

    @property
    def recipe(self) -> Recipe:
        """The size that the controls ask for."""
        names = ("environments", "dimensions", "steps")
        return Recipe(**{name: self.values[name] for name in names})

    def on_change(self, names: Collection[str]) -> None:
        """Drop results that the controls no longer stand for."""
        if not self.running:
            self.forget()

    def work(self, stop: Leash) -> str | None:
        """Train by the mean, and then by the rule on the control."""
        values, recipe = self.values, self.recipe
        names = ("learning_rate", "weight_decay", "seed", "hold_masked")
        chosen = {name: values[name] for name in names}
        rules = {"mean": Mean(), values["rule"]: RULES[values["rule"]]}
        self.courses = [_Course(rule) for rule in rules]
        self._data, self._asked = draw_data(recipe, values["seed"]), values
        for place, (course, rule) in enumerate(zip(self.courses, rules.values(), strict=True)):

            def follow(outcome: Outcome, course: _Course = course, place: int = place) -> bool:
                course.seen, course.network = outcome.seen, outcome.network
                step, train, test = outcome.seen[-1]
                self.tell(progress=(place * recipe.steps + step) / (2 * recipe.steps))
                self.say(f"{course.rule}, step {step}: training {train:.2f}, test {test:.2f}")
                if time.monotonic() >= self._next_picture:
                    begin = time.monotonic()
                    self.redraw()
                    self._next_picture = time.monotonic() + _REST * (time.monotonic() - begin)
                return stop.is_set()

            outcome = fit(recipe, rule, **chosen, every=_BETWEEN_LOOKS, on_look=follow)
            if stop.pulled:
                return None
            if outcome.history.stopped == "diverged":
                raise ArithmeticError(f"{course.rule} diverged: lower the learning rate")
            course.done = True
        ends = ", ".join(f"{course.rule} {course.test:.2f}" for course in self.courses)
        alike = f"{alike_everywhere(self._data)} of {recipe.dimensions}"
        return f"Test accuracy: {ends}. Same sign in every environment: {alike} of a signature."

    def forget(self) -> None:
        """Drop both runs."""
        self.courses, self._data = [], None

    def draw(self) -> style.Picture:
        """Return the plane as both rules answer it, and their accuracies over the steps."""
        values, data = self.values, self._data or draw_data(self.recipe, self.values["seed"])
        picture, axes = style.new_figure(
            1, 3, size=(9.6, 3.9), gridspec_kw={"width_ratios": (1, 1, 1.15)}
        )
        courses = self.courses or [_Course("mean"), _Course(values["rule"])]
        colors = looks([course.rule for course in courses])
        for ax, course in zip(axes, courses, strict=False):
            show_answers(ax, course.network, data)
            words = f"test accuracy {course.test:.2f}" if course.seen else "not trained"
            style.label(ax, course.rule, words)
            ax.title.set(color=colors[course.rule]["color"], fontweight="bold")
        show_accuracies(axes[2], {course.rule: course.seen for course in courses})
        axes[2].set_xlim(0, values["steps"])
        style.hold_still(picture, left=0.01, right=0.975, bottom=0.16, top=0.91, wspace=0.24)
        told = (f"{c.rule} {c.test:.2f}" for c in courses if c.seen)
        picture.alt = f"Spirals. Test accuracy: {', '.join(told) or 'not trained yet'}"
        return picture

    def judge(self) -> str | None:
        """Return both accuracies and the number of environments, where the target is reached."""
        if len(self.courses) < 2 or not all(course.done for course in self.courses):
            return None
        mean, other = self.courses
        count, length = (self._asked[name] for name in ("environments", "dimensions"))
        hard = other.rule == "consensus" and count <= _FEW and length >= _LONG
        if hard and other.test >= _WELL and mean.test <= _BADLY:
            ends = f"consensus {other.test:.2f}, mean {mean.test:.2f}"
            return f"{count} environments, signatures of {length}: {ends}."
        return None
