"""The panel of notebook 08: choose a comparison of the study; it counts how many you looked at."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from course.figures import style
from course.figures.study_figures import COUNTS, Column, draw_forest
from course.panels.controls import choice, several
from course.panels.drawn_panel import DrawnPanel
from course.study.comparing import ERROR, Comparison
from course.study.inference import holm
from course.study.plan import Budget
from course.study.reporting import (
    MEASURES,
    Findings,
    Moment,
    compare_at,
    moment_in_words,
    rules_of,
    training_pairs,
)
from course.study.store import Columns

__all__ = ["StudyPanel"]

Look = tuple[str, str, str, Moment, str]
"""A comparison that was looked at: rule, baseline, measure, moment, group of tasks."""

_TASKS = MappingProxyType(
    {
        "all": lambda pairs: True,
        "2 pairs": lambda pairs: pairs == 2,
        "3 pairs": lambda pairs: pairs == 3,
        "4 pairs or more": lambda pairs: pairs >= 4,
    }
)
_MOMENTS: tuple[Moment, ...] = ("end", *Budget().levels, "best")


class StudyPanel(DrawnPanel):
    """Any comparison of the study as forest and table, beside the number of looks it cost.

    Controls: `measure` (a name of `MEASURES`), `moment` ("end", a training loss, "best"),
    `baseline` (a rule), `rules` (a tuple of rules), `tasks` (by their number of training pairs).

    Args:
        columns: rows of one setting, such as the main grid's.

    Attributes:
        looks: {comparison looked at: its p-value alone}; `reset` forgets them.
        shown: what the picture shows; its p-values are those of each comparison alone.
    """

    target = (
        "a rule better than the mean at 5 %, uncorrected. Does it survive Holm over your looks?"
    )
    presets: ClassVar = {
        "primary, equal steps": {"rules": ("consensus",)},
        "primary, equal loss": {"rules": ("consensus",), "moment": 0.1},
        "controls against consensus": {
            "baseline": "consensus",
            "rules": ("mean", "random mask", "smallest", "scaled mean"),
        },
        "solved exactly": {"measure": "exact"},
    }

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._groups = {
            name: columns.where(
                task=[t for t in set(columns["task"].tolist()) if belongs(training_pairs(t))]
            )
            for name, belongs in _TASKS.items()
        }
        self._found: dict[Look, Comparison | None] = {}
        self.looks: dict[Look, float] = {}
        self.shown: Findings | None = None
        rules = rules_of(columns)
        moments = [(moment_in_words(moment), moment) for moment in _MOMENTS]
        self.controls = {
            "measure": choice("measure", MEASURES),
            "moment": choice("moment", moments),
            "baseline": choice("baseline", rules),
            "tasks": choice("tasks", _TASKS),
            "rules": several("rules", rules, first=("consensus",)),
        }
        super().__init__()

    def draw(self) -> style.Picture:
        """Compare what the controls say, count it as looked at, and draw it."""
        values = self.values
        measure = MEASURES[values["measure"]]
        rules = [rule for rule in values["rules"] if rule != values["baseline"]]
        found = {rule: self._compared(rule, values) for rule in rules}
        tasks = len(set(self._groups[values["tasks"]]["task"].tolist()))
        self.shown = Findings(
            measure=measure,
            moment=values["moment"],
            baseline=values["baseline"],
            comparisons=tuple(c for c in found.values() if c),
            unpaired=tuple(rule for rule, c in found.items() if not c),
            asked=dict.fromkeys(rules, tasks),
            tasks=tasks,
        )
        after = dict(zip(self.looks, holm([*self.looks.values()]), strict=True))
        columns: tuple[Column, ...] = (
            *COUNTS,
            ("p alone", 0.85, lambda c: f"{c.p_different:.2g}"),
            (
                f"Holm, {len(self.looks)}",
                0.95,
                lambda c: f"{after[self._look(c.rule, values)]:.2g}",
            ),
        )
        return draw_forest(self.shown, columns=columns, slots=9, width=9.0)

    def judge(self) -> str | None:
        """Return the best find in the picture, and whether it survives."""
        values = self.values
        finds = [
            c
            for c in self.shown.comparisons
            if c.baseline == "mean"
            and c.p_different < ERROR
            and (c.difference > 0) == c.higher_is_better
        ]
        if not finds:
            return None
        best = min(finds, key=lambda c: c.p_different)
        place = [*self.looks].index(self._look(best.rule, values))
        after = float(holm([*self.looks.values()])[place])
        word = "It survives." if after < ERROR else "It does not survive."
        return (
            f"{best.rule}, p = {best.p_different:.2g} alone, {after:.2g} by Holm over "
            f"{len(self.looks)} looks. {word}"
        )

    def forget(self) -> None:
        """Forget what was looked at."""
        self.looks.clear()

    def _look(self, rule: str, values: dict[str, Any]) -> Look:
        return (rule, *(values[name] for name in ("baseline", "measure", "moment", "tasks")))

    def _compared(self, rule: str, values: dict[str, Any]) -> Comparison | None:
        """One comparison by itself, so that its p-values are not adjusted; kept once made."""
        look = self._look(rule, values)
        if look not in self._found:
            columns, measure = self._groups[values["tasks"]], MEASURES[values["measure"]]
            found = compare_at(columns, values["moment"], measure, values["baseline"], [rule])
            self._found[look] = found.comparisons[0] if found.comparisons else None
        if self._found[look]:
            self.looks[look] = self._found[look].p_different
        return self._found[look]
