"""Rules against a baseline: paired by task and seed, with a verdict on each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from course.study.inference import TIE, Bootstrap, holm, p_different

__all__ = ["Comparison", "Pairs", "Scores", "compare", "pair", "scores_of"]

Scores = Mapping[tuple[str, int], float]
"""{(task, seed): number}; nan or left out where a run has none."""

Verdict = Literal["equivalent", "better", "worse", "different", "undecided"]

ERROR = 0.05  # the share of studies in which a verdict of a kind may be wrong


@dataclass(frozen=True, eq=False)
class Pairs:
    """A rule and a baseline on the tasks for which both have a number with the same seed.

    Attributes:
        tasks: T names, sorted.
        differences: float64 (T,), rule minus baseline, averaged over the seeds that both have.
        runs: the pairs of runs behind them, all seeds counted.
        left_out: the tasks that only one of the two has, or none with a seed of the other.
    """

    tasks: tuple[str, ...]
    differences: np.ndarray
    runs: int
    left_out: int


@dataclass(frozen=True)
class Comparison:
    """What the tasks say of a rule against a baseline.

    The p-values are Holm-adjusted over the rules compared, each kind by itself; the intervals
    are of this rule alone. p_different and p_beyond below 5 % speak against "no difference" and
    "no difference beyond the margin", p_equivalent against "a difference of the margin or more".

    Attributes:
        rule: its name.
        baseline: the other's.
        difference: the mean over tasks, rule minus baseline, in units of the measure.
        interval_95: around it, by `Bootstrap.interval`.
        interval_90: the one to hold against the margin for equivalence.
        tasks: how many, T >= 1.
        runs: pairs of runs behind them.
        left_out: tasks without a pair.
        better: tasks where the rule is better than the baseline, after averaging over seeds.
        worse: tasks where it is worse.
        equal: tasks where it is neither.
        p_different: by `p_different`.
        p_equivalent: by `Bootstrap.p_equivalent`.
        p_beyond: by `Bootstrap.p_beyond`.
        margin: the largest difference that does not matter, in units of the measure.
        higher_is_better: as for accuracies, not for losses.
    """

    rule: str
    baseline: str
    difference: float
    interval_95: tuple[float, float]
    interval_90: tuple[float, float]
    tasks: int
    runs: int
    left_out: int
    better: int
    worse: int
    equal: int
    p_different: float
    p_equivalent: float
    p_beyond: float
    margin: float
    higher_is_better: bool

    @property
    def verdict(self) -> Verdict:
        """The first of these that holds.

        - "equivalent": p_equivalent < 5 %. A difference, if there is one, is below the margin;
          it may still be real, see p_different.
        - "better", "worse": p_different and p_beyond < 5 %. It is larger than the margin.
        - "different": p_different < 5 %. There is one, and it may lie on either side of it.
        - "undecided": the tasks do not tell.
        """
        if self.p_equivalent < ERROR:
            return "equivalent"
        if self.p_different >= ERROR:
            return "undecided"
        if self.p_beyond >= ERROR:
            return "different"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"

    def row(self) -> dict[str, object]:
        """The comparison as a row of a table, {column: text or number}."""
        low, high = self.interval_95
        return {
            "rule": self.rule,
            f"minus {self.baseline}": self.difference,
            "95 % interval": f"[{low:+.3f}, {high:+.3f}]",
            "tasks": self.tasks,
            "left out": self.left_out,
            "better": self.better,
            "worse": self.worse,
            "equal": self.equal,
            "p different": self.p_different,
            "p equivalent": self.p_equivalent,
            "verdict": self.verdict,
        }


def scores_of(columns: pd.DataFrame, measure: str) -> dict[str, Scores]:
    """One measure of the study's rows by rule, {rule: {(task, seed): number}}.

    Args:
        columns: with "rule", "task", "seed" and `measure`; one moment of each run.
        measure: a column, such as "test_exact".

    Raises:
        ValueError: if a run occurs twice.
    """
    runs = columns.set_index(["rule", "task", "seed"])[measure]
    if runs.index.has_duplicates:
        rule, task, seed = runs.index[runs.index.duplicated()][0]
        raise ValueError(
            f"{rule!r} has two rows for task {task} and seed {seed}: choose the rows of one "
            "moment, setting and learning rate first"
        )
    return {rule: runs.loc[rule].to_dict() for rule in columns["rule"].unique()}


def pair(scores: Mapping[str, Scores], rule: str, baseline: str) -> Pairs:
    """Take the difference of each run of the rule to that of the baseline with the same seed.

    Both have the same first weights then, so that their luck in these cancels.

    Raises:
        ValueError: if no run can be paired, or a number is infinite; it says what to do.
    """
    ours, theirs = (_finite(scores[name], name) for name in (rule, baseline))
    by_task = defaultdict(list)
    for task, seed in sorted(ours.keys() & theirs.keys()):
        by_task[task].append(ours[task, seed] - theirs[task, seed])
    if not by_task:
        raise ValueError(_why_unpaired(ours, theirs, rule, baseline))
    known = {task for name in (rule, baseline) for task, _ in scores[name]}
    return Pairs(
        tasks=tuple(by_task),
        differences=np.array([math.fsum(by_seed) / len(by_seed) for by_seed in by_task.values()]),
        runs=sum(map(len, by_task.values())),
        left_out=len(known) - len(by_task),
    )


def compare(
    scores: Mapping[str, Scores],
    baseline: str,
    margin: float,
    *,
    higher_is_better: bool = True,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every other rule with the baseline on one measure.

    The order of tasks and seeds does not matter, and a rule and a baseline that change places
    give the opposite.

    Args:
        scores: {rule: numbers}, see `scores_of`.
        baseline: one of them.
        margin: the largest difference that does not matter, in units of the measure; chosen
            before looking.
        higher_is_better: as for accuracies; False for losses.
        seed: of the draws.

    Returns:
        One comparison a rule, in the order of `scores`.

    Raises:
        ValueError: if a rule cannot be paired with the baseline (see `pair`), there is no such
            baseline or no other rule, or the margin is not a positive number.
    """
    if baseline not in scores:
        raise ValueError(f"no baseline {baseline!r} among the rules {', '.join(map(repr, scores))}")
    if len(scores) == 1:
        raise ValueError(f"there is no rule to compare with {baseline!r}: add its scores")
    if not 0 < margin < math.inf:
        raise ValueError(f"margin is a positive number in units of the measure, not {margin}")
    pairs = {rule: pair(scores, rule, baseline) for rule in scores if rule != baseline}
    means = {rule: Bootstrap(p.differences, seed) for rule, p in pairs.items()}
    different = holm([p_different(p.differences, seed) for p in pairs.values()])
    equivalent = holm([mean.p_equivalent(margin) for mean in means.values()])
    beyond = holm([mean.p_beyond(margin) for mean in means.values()])
    comparisons = []
    for k, (rule, found) in enumerate(pairs.items()):
        gains = found.differences if higher_is_better else -found.differences
        better, worse = int((gains > TIE).sum()), int((gains < -TIE).sum())
        comparison = Comparison(
            rule=rule,
            baseline=baseline,
            difference=math.fsum(found.differences) / len(found.tasks),
            interval_95=means[rule].interval(1 - ERROR),
            interval_90=means[rule].interval(1 - 2 * ERROR),
            tasks=len(found.tasks),
            runs=found.runs,
            left_out=found.left_out,
            better=better,
            worse=worse,
            equal=len(found.tasks) - better - worse,
            p_different=float(different[k]),
            p_equivalent=float(equivalent[k]),
            p_beyond=float(beyond[k]),
            margin=margin,
            higher_is_better=higher_is_better,
        )
        comparisons.append(comparison)
    return comparisons


def _finite(scores: Scores, name: str) -> dict[tuple[str, int], float]:
    for (task, seed), number in scores.items():
        if math.isinf(number):
            raise ValueError(
                f"{name!r} is {number} on task {task} with seed {seed}: say nan if the run has no "
                "number, which leaves it out"
            )
    return {run: number for run, number in scores.items() if not math.isnan(number)}


def _why_unpaired(ours: Scores, theirs: Scores, rule: str, baseline: str) -> str:
    for name, numbers in ((rule, ours), (baseline, theirs)):
        if not numbers:
            return (
                f"{name!r} has no number on any task, all are nan or missing: leave it out, or "
                "compare where its runs have come to, such as at a higher training loss"
            )
    if not {task for task, _ in ours} & {task for task, _ in theirs}:
        return f"{rule!r} and {baseline!r} have no task in common: run both on the same tasks"
    seeds = [", ".join(map(str, sorted({seed for _, seed in runs}))) for runs in (ours, theirs)]
    return (
        f"{rule!r} (seeds {seeds[0]}) and {baseline!r} (seeds {seeds[1]}) have tasks in common "
        "but no seed on any of them: run both with the same seeds, so that they start alike"
    )
