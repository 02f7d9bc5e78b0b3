"""The author's remarks on his one task, asked of all stored tasks: confirmed, or not?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from course.arc import load_task
from course.study.reporting import Primary, of_task, primary, rows_at
from course.study.store import select

__all__ = ["Observation", "copied_cells", "observations", "rises"]

_ROUNDING = 1e-4  # relative, of a stored loss


def rises(columns: pd.DataFrame) -> dict[str, float]:
    """The share of neighbouring checkpoints between which a rule's training loss rises.

    Checkpoints after the end of a run show its last weights again, and do not count.
    """
    looks = select(columns, at="step").sort_values("value")
    before = looks.groupby(["rule", "task", "seed"])[["step", "train_loss"]].shift()
    counts = looks["step"] > before["step"]
    rose = looks["train_loss"] > before["train_loss"] * (1 + _ROUNDING)
    return rose[counts].groupby(looks["rule"]).mean().to_dict()


@dataclass(frozen=True)
class Observation:
    """A remark of the author's, and what the rows say of it.

    Attributes:
        remark: in a few words.
        criterion: when we call it confirmed.
        seen: the numbers.
        confirmed: whether.
    """

    remark: str
    criterion: str
    seen: str
    confirmed: bool


def observations(columns: pd.DataFrame) -> list[Observation]:
    """The author's remarks on his one task, asked of all stored tasks.

    Args:
        columns: rows of one setting, with the mean and consensus.
    """
    mean, consensus = (select(columns, rule=rule) for rule in ("mean", "consensus"))
    return [
        _generalizes(rows_at(mean, "end")),
        _smooth(rises(columns)),
        _falls(consensus),
        _always_moves(consensus),
        _no_more(primary(columns)),
    ]


def _generalizes(end: pd.DataFrame) -> Observation:
    cells, changed, exact = (
        of_task(end, name) for name in ("test_cell_accuracy", "test_changed_accuracy", "test_exact")
    )
    above = np.mean([cells[task] > copied_cells(task) for task in cells])
    return Observation(
        "ordinary training generalizes quite well",
        "more right cells than a copy of the input, on more than half of the tasks",
        f"on {above:.0%}; right are {_mean(changed):.0%} of the changed cells; "
        f"solved {_mean(exact):.1%}",
        bool(above > 0.5),
    )


def _smooth(found: Mapping[str, float]) -> Observation:
    return Observation(
        "consensus trains smoothly",
        "from one checkpoint to the next its training loss rises in at most 1 of 20 cases",
        f"in {found['consensus']:.1%}; under the mean in {found['mean']:.1%}",
        found["consensus"] <= 0.05,
    )


def _falls(consensus: pd.DataFrame) -> Observation:
    first, last = select(consensus, at="step", value=0), rows_at(consensus, "end")
    before, after = (of_task(rows, "consensus_ratio") for rows in (first, last))
    falls = np.mean([after[task] < before[task] for task in before])
    told = [
        f"{_median(first, name):.2f} to {_median(last, name):.2f}"
        for name in ("consensus_ratio", "live_consensus_ratio")
    ]
    return Observation(
        "the consensus ratio falls (his: from 0.4 to 0.2)",
        "it falls on more than half of the tasks",
        f"falls on {falls:.0%}; medians {told[0]}, of live weights {told[1]}",
        bool(falls > 0.5),
    )


def _always_moves(consensus: pd.DataFrame) -> Observation:
    moving = consensus["update_ratio"] > 0
    return Observation(
        "there are always updates to take",
        "the update ratio is above 0 whenever we looked",
        f"at {moving.mean():.2%} of the looks; least ratio {consensus['update_ratio'].min():.2g}",
        bool(moving.all()),
    )


def _no_more(found: Primary) -> Observation:
    return Observation(
        "consensus does not generalize more",
        "the primary comparison rejects that it does",
        f"{found.verdict}, see the verdict",
        found.verdict == "rejected",
    )


@cache
def copied_cells(task: str) -> float:
    """The cell accuracy of a copy of the input, over all test pairs of a task."""
    pairs = load_task(task).test
    right = sum(int((pair.input == pair.output).sum()) for pair in pairs)
    return right / sum(pair.input.size for pair in pairs)


def _median(columns: pd.DataFrame, name: str) -> float:
    return float(np.median([*of_task(columns, name).values()]))


def _mean(numbers: Mapping[str, float]) -> float:
    return math.fsum(numbers.values()) / len(numbers)
