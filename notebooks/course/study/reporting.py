"""What the stored rows say: the comparisons of the plan, and its verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import pandas as pd

from course.arc import load_task
from course.study.comparing import ERROR, Comparison, Scores, compare, scores_of
from course.study.first_study import LEVEL
from course.study.inference import holm
from course.study.rules import RULES
from course.study.store import select

__all__ = [
    "CHANGED",
    "EXACT",
    "LEVEL",
    "MEASURES",
    "Findings",
    "Measure",
    "Moment",
    "Primary",
    "by_pairs",
    "compare_at",
    "compare_solved",
    "finished",
    "moment_in_words",
    "of_task",
    "primary",
    "reach",
    "rows_at",
    "rules_of",
    "training_pairs",
]

Moment = float | Literal["end", "best"]
"""When a run is looked at: its last step, its lowest training loss, or a loss first reached."""


@dataclass(frozen=True)
class Measure:
    """A column of the rows, and the largest difference in it that does not matter.

    The margins of changed cells and exact are those of data/study/PLAN.md. The plan names none
    for the others: all cells, one cell in a hundred, about one of a test grid; the loss, as much
    as the training loss at which rules are compared.
    """

    column: str
    name: str
    unit: str
    margin: float
    higher_is_better: bool = True


CHANGED = Measure("test_changed_accuracy", "changed-cell accuracy", "share of cells", 0.03)
EXACT = Measure("test_exact", "exact", "share of tasks", 0.02)
MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        measure.name: measure
        for measure in (
            CHANGED,
            EXACT,
            Measure("test_cell_accuracy", "cell accuracy", "share of cells", 0.01),
            Measure("test_loss", "test loss", "nats a cell", 0.1, higher_is_better=False),
        )
    }
)
_MOST_PAIRS = 5  # tasks with as many training pairs or more are one group


@dataclass(frozen=True)
class Findings:
    """Rules against a baseline, on one measure at one moment.

    Attributes:
        measure: what is compared.
        moment: when.
        baseline: the rule that all others are compared with.
        comparisons: one a rule that could be paired, Holm-adjusted over these.
        unpaired: the rules without any task on which a seed of theirs and of the baseline came
            to the moment.
        asked: {rule: of how many tasks it was asked}; a task on which no seed of both came to the
            moment has no difference.
        tasks: how many there are rows of.
        on: the tasks in words, where it is not all of them.
    """

    measure: Measure
    moment: Moment
    baseline: str
    comparisons: tuple[Comparison, ...]
    unpaired: tuple[str, ...]
    asked: Mapping[str, int]
    tasks: int
    on: str = ""

    @property
    def title(self) -> str:
        """What is compared, when, and on which tasks if not on all."""
        on = f"; {self.on}" if self.on else ""
        return f"{self.measure.name}, {moment_in_words(self.moment)}{on}"

    def rows(self) -> list[dict[str, object]]:
        """A row a comparison, for a table; "left out" are tasks asked that give no difference."""
        return [c.row() | {"left out": self.asked[c.rule] - c.tasks} for c in self.comparisons]


def finished(columns: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tasks for which every rule among the rows is stored."""
    rules = columns.groupby("task")["rule"].transform("nunique")
    return columns[rules == columns["rule"].nunique()]


def rules_of(columns: pd.DataFrame) -> list[str]:
    """The rules among the rows, in the order of the plan; others last."""
    found = dict.fromkeys(columns["rule"].tolist())
    return sorted(found, key=lambda rule: (*RULES, rule).index(rule))


def rows_at(columns: pd.DataFrame, moment: Moment) -> pd.DataFrame:
    """The row of each run at a moment; runs that did not come to it have none."""
    if moment == "best":
        return select(columns, at="best")
    if moment == "end":
        steps = select(columns, at="step")
        return steps[steps["value"] == steps["value"].max()]
    return select(columns, at="loss", value=moment)


def moment_in_words(moment: Moment) -> str:
    """Such as "at training loss 0.1"."""
    words = {"end": "after the last step", "best": "at the best training loss"}
    return words.get(moment, f"at training loss {moment}")


def compare_at(
    columns: pd.DataFrame,
    moment: Moment,
    measure: Measure = CHANGED,
    baseline: str = "mean",
    rules: Collection[str] | None = None,
) -> Findings:
    """Compare rules with a baseline, task by task.

    Args:
        columns: rows of one setting and weight decay.
        moment: when.
        measure: what.
        baseline: a rule.
        rules: the others; None for all that are stored.
    """
    names = rules or rules_of(columns)
    tasks = set(columns["task"].tolist())
    asked = dict.fromkeys((name for name in names if name != baseline), tasks)
    return _findings(columns, moment, measure, baseline, asked)


def compare_solved(columns: pd.DataFrame, moment: Moment, baseline: str = "mean") -> Findings:
    """Compare "exact" on the tasks that the rule or the baseline solves with some seed.

    Elsewhere both are 0, which is no evidence that they are alike where it matters.
    """
    solved = defaultdict(set)
    for rule, runs in scores_of(rows_at(columns, moment), EXACT.column).items():
        solved[rule] = {task for (task, _), exact in runs.items() if exact}
    others = [rule for rule in rules_of(columns) if rule != baseline]
    asked = {rule: solved[rule] | solved[baseline] for rule in others}
    found = _findings(columns, moment, EXACT, baseline, asked)
    return replace(found, on="the tasks that either rule solves")


def by_pairs(columns: pd.DataFrame, moment: Moment, rule: str = "consensus") -> Findings:
    """Compare a rule with the mean in changed cells, for each number of training pairs apart.

    The "rules" of the findings are the groups of tasks: "2 pairs", ..., "5 pairs or more".
    """
    groups = defaultdict(set)
    for task in set(columns["task"].tolist()):
        groups[min(_MOST_PAIRS, training_pairs(task))].add(task)
    asked = {
        f"{count} pairs{' or more' * (count == _MOST_PAIRS)}": groups[count]
        for count in sorted(groups)
    }
    return _findings(columns, moment, CHANGED, "mean", asked, rule)


def training_pairs(task: str) -> int:
    """How many training pairs a task has: its voters."""
    return len(load_task(task).train)


def _findings(
    columns: pd.DataFrame,
    moment: Moment,
    measure: Measure,
    baseline: str,
    asked: Mapping[str, Collection[str]],
    rule: str | None = None,
) -> Findings:
    """Compare each name, a rule or a group of tasks of one rule, on the tasks it is asked of."""
    rows = select(rows_at(columns, moment), rule=[baseline, *([rule] if rule else asked)])
    scores = scores_of(rows, measure.column)
    of_baseline = scores.get(baseline, {})
    paired: dict[str, Scores] = {}
    for name, tasks in asked.items():
        runs = scores.get(rule or name, {})
        own = {run: runs[run] for run in runs.keys() & of_baseline.keys() if run[0] in tasks}
        if own:
            paired[name] = own
    comparisons = paired and compare(
        {baseline: of_baseline} | paired,
        baseline,
        measure.margin,
        higher_is_better=measure.higher_is_better,
    )
    return Findings(
        measure=measure,
        moment=moment,
        baseline=baseline,
        comparisons=tuple(comparisons),
        unpaired=tuple(name for name in asked if name not in paired),
        asked={name: len(tasks) for name, tasks in asked.items()},
        tasks=len(set(columns["task"].tolist())),
    )


@dataclass(frozen=True)
class Primary:
    """The primary comparison: a rule against the mean in changed cells, at two moments.

    Attributes:
        rule: its name.
        end: after the last step; None where nothing could be paired.
        level: at equal training loss; None where no pair came to it.
        p_values: p_different of these two, Holm-adjusted over the two; 1 for one that is missing.
        tasks: how many have stored rows.
    """

    rule: str
    end: Comparison | None
    level: Comparison | None
    p_values: tuple[float, float]
    tasks: int

    @property
    def verdict(self) -> Literal["supported", "rejected", "undecided"]:
        """What data/study/PLAN.md says of the hypothesis that the rule generalizes better.

        - "supported": at either moment better, with a 95 % interval above 0 and p < 5 %.
        - "rejected": at both the whole interval is below the margin.
        - "undecided": otherwise.
        """
        both = (self.end, self.level)
        for comparison, p in zip(both, self.p_values, strict=True):
            if comparison and comparison.interval_95[0] > 0 and p < ERROR:
                return "supported"
        below = [c is not None and c.interval_95[1] < c.margin for c in both]
        return "rejected" if all(below) else "undecided"

    def __repr__(self) -> str:
        lines = [f"{self.rule} minus mean, {CHANGED.name}, {self.tasks} tasks:"]
        moments = (("end", self.end), (LEVEL, self.level))
        for (moment, comparison), p in zip(moments, self.p_values, strict=True):
            lines.append(f"  {moment_in_words(moment)}: {_told(comparison, p)}")
        why = {
            "supported": "it is better at one of the two moments, and chance is a poor excuse.",
            "rejected": f"at both, a gain of {CHANGED.margin} or more is ruled out.",
            "undecided": "no gain is shown, and a gain worth having is not ruled out.",
        }
        claim = f"the hypothesis that {self.rule} generalizes better is"
        lines.append(f"{claim} {self.verdict}: {why[self.verdict]}")
        return "\n".join(lines)


def _told(comparison: Comparison | None, p: float) -> str:
    if comparison is None:
        return "no task on which both came to it"
    low, high = comparison.interval_95
    return (
        f"{comparison.difference:+.4f}, 95 % interval [{low:+.4f}, {high:+.4f}], p = {p:.2g}; "
        f"of {comparison.tasks} tasks {comparison.better} better, {comparison.worse} worse, "
        f"{comparison.equal} equal"
    )


def primary(columns: pd.DataFrame, rule: str = "consensus") -> Primary:
    """The primary comparison for a rule, from rows of one setting."""
    found = [compare_at(columns, moment, CHANGED, "mean", [rule]) for moment in ("end", LEVEL)]
    end, level = (f.comparisons[0] if f.comparisons else None for f in found)
    p_values = holm([1.0 if c is None else c.p_different for c in (end, level)])
    return Primary(rule, end, level, tuple(p_values.tolist()), found[0].tasks)


def reach(columns: pd.DataFrame) -> dict[str, dict[float, float]]:
    """The share of a rule's runs that come to a training loss, {rule: {loss: share}}."""
    runs = rows_at(columns, "end").groupby("rule").size()
    reached = select(columns, at="loss").groupby(["rule", "value"]).size().unstack(fill_value=0)
    shares = reached.reindex(runs.index, fill_value=0).div(runs, axis=0)
    shares = shares.sort_index(axis=1, ascending=False)
    return {rule: shares.loc[rule].to_dict() for rule in rules_of(columns)}


def of_task(columns: pd.DataFrame, name: str) -> dict[str, float]:
    """A column averaged over the seeds of each task, {task: number}."""
    return columns.groupby("task", sort=False)[name].mean().to_dict()
