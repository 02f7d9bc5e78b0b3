"""What the rows of the two studies say: differences between contenders, and the plans' verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from course.study import arc_folds, small_worlds
from course.study.inference import FEWEST_TASKS, Bootstrap

__all__ = [
    "ARC",
    "MARGIN",
    "WORLDS",
    "Difference",
    "Kind",
    "Needed",
    "compare",
    "difference",
    "pairs_needed",
    "score",
    "verdict",
]

Moment = float | Literal["end", "common"]
"""A training loss first reached; the last step; or of two runs the lowest level both reach."""

MARGIN = 0.03  # the largest difference that does not matter
NARROW = 0.015  # the half-width from which on an interval decides
ERROR = 0.05


@dataclass(frozen=True)
class Kind:
    """How rows of a study are read.

    Attributes:
        unit: the column of what a population is made of.
        run: the columns that tell two runs of a contender apart.
        flagged: training losses above it are too high to say much, nats a cell.
        steps: of a run.
    """

    unit: str
    run: tuple[str, ...]
    flagged: float
    steps: int


ARC = Kind("task", ("task", "fold", "seed"), 0.5, arc_folds.BUDGET.steps)
WORLDS = Kind("world", ("world",), 0.1, small_worlds.BUDGET.steps)


def score(rows: pd.DataFrame) -> pd.Series:
    """The measure that decides: on ARC changed-cell accuracy, in worlds the accuracy."""
    return rows["test_changed_accuracy"] if "task" in rows else small_worlds.accuracy(rows)


@dataclass(frozen=True)
class Difference:
    """What the units say of one contender against another.

    Attributes:
        name: who against whom, and when.
        by_unit: (T,) differences, averaged over the runs of a unit.
        left_out: units without a pair of runs at the moment.
        flagged: the share of pairs of runs compared at a flagged level.
    """

    name: str
    by_unit: pd.Series
    left_out: int
    flagged: float = 0.0

    @property
    def mean(self) -> float:
        """The mean difference over units; nan without any."""
        return float(self.by_unit.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval around it, unbounded for fewer than six units."""
        if len(self.by_unit) < FEWEST_TASKS:
            return -math.inf, math.inf
        return Bootstrap(self.by_unit.to_numpy()).interval(1 - ERROR)

    @property
    def half_width(self) -> float:
        """Half the length of the interval: all that a top-up may look at."""
        low, high = self.interval
        return (high - low) / 2

    def __str__(self) -> str:
        low, high = self.interval
        flagged = f", {self.flagged:.0%} at a flagged level" if self.flagged else ""
        return (
            f"{self.name}: {self.mean:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"{len(self.by_unit)} units, {self.left_out} left out{flagged}"
        )


def verdict(low: float, high: float) -> str:
    """The plans' word for a 95 % interval of consensus minus mean; each case has one."""
    if low > 0:
        return "supported" if high >= MARGIN else "a gain, too small to matter"
    if high < MARGIN or (high - low) / 2 <= NARROW:
        return "no gain worth having"
    return "undecided"


def contenders(rows: pd.DataFrame) -> pd.Series:
    """The name of who a row belongs to: the rule, and whether masked weights are held."""
    return rows["rule"] + np.where(rows["held"] == 1, ", held", "")


def difference(
    rows: pd.DataFrame,
    ours: str,
    theirs: str,
    moment: Moment,
    kind: Kind,
    measure: pd.Series | None = None,
) -> Difference:
    """Compare two contenders, run by run with the same first weights.

    Args:
        rows: of one cell, with one setting of each contender.
        ours: a name as `contenders` gives it.
        theirs: another.
        moment: when.
        kind: of study.
        measure: a number for each row; None is `score`.

    Raises:
        ValueError: if a contender has two rows for a run at the moment.
    """
    rows = rows.assign(who=contenders(rows), measure=score(rows) if measure is None else measure)
    rows = rows[rows["who"].isin([ours, theirs])]
    run = list(kind.run)
    asked = rows[kind.unit].nunique()
    if moment == "end":
        seen = rows[(rows["at"] == "step") & (rows["value"] == kind.steps)]
    else:
        seen = rows[rows["at"] == "loss"]
        level = _common(seen, run) if moment == "common" else moment
        if not isinstance(level, float):
            level = seen.set_index(run).index.map(level)
        seen = seen[seen["value"] == level]
    if seen.duplicated([*run, "who"]).any():
        raise ValueError("a contender has two rows for a run: choose one cell and setting first")
    table = seen.pivot(index=run, columns="who", values="measure")
    pairs = table.reindex(columns=[ours, theirs]).dropna()
    by_unit = (pairs[ours] - pairs[theirs]).groupby(level=kind.unit).mean()
    high = seen.set_index(run)["value"].loc[pairs.index] > kind.flagged
    flagged = high.groupby(level=run).first().mean() if moment == "common" and len(pairs) else 0.0
    when = moment if isinstance(moment, str) else f"training loss {moment:g}"
    name = f"{ours} minus {theirs}, {when}"
    return Difference(name, by_unit, asked - len(by_unit), float(flagged))


def _common(seen: pd.DataFrame, run: list[str]) -> pd.Series:
    """For each run the lowest level that both contenders reach; nan where one reaches none."""
    lowest = seen.groupby([*run, "who"])["value"].min().unstack()
    return lowest.max(axis=1).where(lowest.notna().sum(axis=1) == 2)


def compare(
    rows: pd.DataFrame, moments: Sequence[Moment], kind: Kind, theirs: str = "mean"
) -> pd.DataFrame:
    """Every other contender among the rows against one, a row each and moment."""
    others = [who for who in contenders(rows).unique() if who != theirs]
    table = []
    for ours in others:
        for moment in moments:
            found = difference(rows, ours, theirs, moment, kind)
            low, high = found.interval
            table.append((ours, moment, found.mean, low, high, len(found.by_unit), found.left_out))
    names = ["contender", "moment", f"minus {theirs}", "low", "high", "units", "left out"]
    return pd.DataFrame(table, columns=names)


@dataclass(frozen=True)
class Needed:
    """How many training pairs the mean needs to do as well as consensus; inf: more than tried."""

    pairs: int
    needed: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"consensus with {self.pairs} pairs: the mean needs {self.needed:.1f} "
            f"[{self.low:.1f}, {self.high:.1f}]"
        )


def pairs_needed(mean: pd.DataFrame, consensus: pd.Series, draws: int = 2000) -> Needed:
    """How many training pairs the best mean needs to do as well as consensus.

    Args:
        mean: accuracies at the end, a row a world and a column a number of pairs, rising.
        consensus: accuracies in the same worlds; its name is its number of pairs.
        draws: resamplings of the worlds, for the 95 % interval.
    """
    counts = mean.columns.to_numpy(float)
    curve, target = mean.to_numpy(), consensus.loc[mean.index].to_numpy()
    source = np.random.default_rng(0)
    drawn = source.integers(0, len(curve), (draws, len(curve)))
    found = [_where(counts, curve[own].mean(axis=0), target[own].mean()) for own in drawn]
    low, high = np.quantile(found, [ERROR / 2, 1 - ERROR / 2], method="nearest")
    needed = _where(counts, curve.mean(axis=0), target.mean())
    return Needed(int(consensus.name), needed, float(low), float(high))


def _where(counts: np.ndarray, accuracies: np.ndarray, target: float) -> float:
    """The least count at which the accuracies, made non-decreasing, come to the target."""
    rising = isotonic_regression(accuracies).x
    if target > rising[-1]:
        return math.inf
    after = int(np.argmax(rising >= target))
    if after == 0:
        return float(counts[0])
    share = (target - rising[after - 1]) / (rising[after] - rising[after - 1])
    return float(math.exp(np.log(counts[after - 1 : after + 1]) @ [1 - share, share]))
