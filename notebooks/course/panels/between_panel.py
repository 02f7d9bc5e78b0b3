"""The panel of notebook 09: two rules from the same first weights, and what lies between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from course.arc import load_task
from course.figures import style
from course.panels.controls import choice, number
from course.panels.drawn_panel import DrawnPanel
from course.panels.panel import Leash
from course.study.between import Line, line_between
from course.study.plan import LEVEL, MAIN, study_tasks
from course.study.rules import MAIN_RULES

__all__ = ["Between", "draw_line"]

_SMALL = 250  # training cells: such a task is trained on in a second
_BARRIER, _GAIN = 0.02, 0.05


def draw_line(line: Line | None, rules: tuple[str, str]) -> style.Picture:
    """Draw both losses on the way from the first rule's network to the second's."""
    figure, ax = style.new_figure(size=(8.0, 4.4))
    style.label(ax, "", "place between the two networks", "loss, nats per cell")
    ax.set_xlim(-0.02, 1.02)
    ax.set_xticks([0, 0.5, 1], [rules[0], "halfway", rules[1]])
    ax.axhline(LEVEL, color=style.NEUTRAL, linewidth=1.2, linestyle=(0, (1, 2)))
    if line is None:
        ax.set_ylim(0, 1)
        ax.text(0.5, 0.5, "press Start", ha="center", fontsize=style.TITLE_SIZE)
    else:
        ax.plot(line.shares, line.train, color="black", linewidth=2.5, label="training loss")
        ax.plot(
            line.shares, line.test, color=style.NEUTRAL, linewidth=2.5, ls="--", label="test loss"
        )
        ax.set_ylim(0, None)
        style.add_legend(ax, loc="lower center", bbox_to_anchor=(0.5, 0.99), ncols=2)
    style.hold_still(figure, left=0.1, right=0.93, bottom=0.16, top=0.88)
    figure.alt = f"Training and test loss on the line from {rules[0]} to {rules[1]}"
    return figure


class Between(DrawnPanel):
    """Two networks from the same first weights, trained by two rules, and the line between.

    Controls: `task`, `first` and `second` (rules), `seed`.

    Args:
        rates: {(setting, rule): learning rate}, of `course.study.running.Study.rates`.
    """

    target = (
        f"find two rules, a task and a seed with a barrier below {_BARRIER} on the way, and a test "
        f"loss that falls {_GAIN} below both ends."
    )
    presets: ClassVar = {
        "mean and consensus": {},
        "mean and agreement": {"second": "agreement"},
        "two kinds of zero": {"first": "abstain", "second": "consensus"},
        "mean and a random mask": {"second": "random mask"},
    }

    def __init__(self, rates: Mapping[tuple[str, str], float]) -> None:
        self._rates = rates
        self.line: Line | None = None
        small = [t for t in study_tasks() if _cells(t) <= _SMALL][:12]
        rules = [rule for rule in MAIN_RULES if (MAIN, rule) in rates]
        self.controls = {
            "task": choice("task", small),
            "first": choice("first rule", rules, "mean"),
            "second": choice("second rule", rules, "consensus"),
            "seed": number("seed", 0, 9, 1, first=0),
        }
        super().__init__()

    @property
    def rules(self) -> tuple[str, str]:
        """The two rules, as chosen."""
        return self.values["first"], self.values["second"]

    def on_change(self, names: Collection[str]) -> None:
        """Drop the line of the settings before."""
        self.line = None

    def forget(self) -> None:
        """Drop the line."""
        self.line = None

    def work(self, stop: Leash) -> str | None:
        """Train both and look between; what was changed meanwhile makes the line worthless."""
        before = dict(self.values)
        rates = tuple(self._rates[MAIN, rule] for rule in self.rules)
        line = line_between(load_task(before["task"]), self.rules, rates, before["seed"], stop=stop)
        if line is None:
            return None
        if self.values != before:
            return "The controls changed on the way: start again."
        self.line = line
        return (
            f"Ended after {line.ends[0]} and {line.ends[1]} steps. Barrier {line.barrier:.3f}; "
            f"test loss falls {line.gain:.3f} below both ends."
        )

    def draw(self) -> style.Picture:
        """Return the figure of the line."""
        return draw_line(self.line, self.rules)

    def judge(self) -> str | None:
        """Return the two numbers, where the target is reached."""
        if self.line is None or self.line.barrier >= _BARRIER or self.line.gain < _GAIN:
            return None
        return f"barrier {self.line.barrier:.3f}, and {self.line.gain:.3f} better on the way."


def _cells(task_id: str) -> int:
    return sum(pair.input.size for pair in load_task(task_id).train)
