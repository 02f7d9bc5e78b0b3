"""The second study on ARC: what is run. The reasons are in data/study/PLAN-ARC.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import pandas as pd

from course.arc import Pair, load_task
from course.study.first_study import LEVEL, study_tasks, tuning_tasks
from course.study.networks import Architecture
from course.study.stepping import Method
from course.study.training import Budget, Row, Run, Training
from course.study.tuning import ADAM, ADAMW, Lattice, Setting

__all__ = ["BUDGET", "LEVEL", "PARTS", "TOGETHER", "ArcJob", "folds"]

BUDGET = Budget(
    steps=2000,
    checkpoints=(0, 100, 200, 500, 1000, 2000),
    levels=(
        *(1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12),
        *(LEVEL, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01),
    ),
    fitted=0.01,
)
MOST_CELLS = 4000  # training cells of all folds of a task
SEEDS = (3000, 3001, 3002)
TUNING_SEED, TOGETHER_SEED = 1000, 2000
TOGETHER = -1  # instead of a fold: all pairs of a task are trained on
_ENOUGH = 0.8  # of the folds that the best setting brings to the level


@cache
def folds(task_id: str) -> tuple[int, ...]:
    """Which pairs of a task are held out, counted from 0, training pairs before test pairs.

    Those with changed cells, test pairs first, as many as have `MOST_CELLS` training cells
    together, but at least two if there are two.
    """
    pairs = _pairs(task_id)
    cells = sum(pair.input.size for pair in pairs)
    tests = len(load_task(task_id).test)
    order = [*range(len(pairs) - tests, len(pairs)), *range(len(pairs) - tests)]
    chosen: list[int] = []
    used = 0
    for fold in order:
        pair = pairs[fold]
        if (pair.input == pair.output).all():
            continue
        used += cells - pair.input.size
        if len(chosen) >= 2 and used > MOST_CELLS:
            break
        chosen.append(fold)
    return tuple(chosen)


def _pairs(task_id: str) -> tuple[Pair, ...]:
    task = load_task(task_id)
    return task.train + task.test


@dataclass(frozen=True)
class ArcJob:
    """One fold of a task from one seed, by several methods side by side: the unit of work."""

    task: str
    fold: int
    seed: int
    methods: tuple[Method, ...]
    depth: int = 3
    budget: Budget = BUDGET

    @property
    def labels(self) -> list[Row]:
        """What tells each of its runs from all others, as it stands in the rows."""
        own = {"task": self.task, "fold": self.fold, "seed": self.seed, "depth": self.depth}
        return [own | asdict(method) | {"held": int(method.held)} for method in self.methods]

    @property
    def cost(self) -> float:
        """About how long it takes, in billions of weights times cells."""
        cells = sum(pair.input.size for pair in self._parts()[0])
        size = Architecture(depth=self.depth).size
        return len(self.methods) * cells * size * self.budget.steps / 1e9

    def run(self) -> list[list[Row]]:
        """Train and return the rows of each run."""
        train, test = self._parts()
        runs = [Run(method, self.seed, train, {"test": test}) for method in self.methods]
        return Training(runs, self.budget, Architecture(depth=self.depth)).train()

    def _parts(self) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        pairs = _pairs(self.task)
        if self.fold == TOGETHER:
            return pairs, pairs
        return pairs[: self.fold] + pairs[self.fold + 1 :], pairs[self.fold : self.fold + 1]


Rows = Callable[[str], pd.DataFrame]
"""From the name of a part to its stored rows."""


@dataclass(frozen=True)
class ArcPart:
    """A question of the study.

    Attributes:
        about: it, in a few words.
        name: of its file.
        jobs: what is known to be run for it by now, given the rows stored so far.
    """

    about: str
    name: str
    jobs: Callable[[Rows], list[ArcJob]] = field(repr=False)


MEAN, FREE, HELD = Method("mean", 0), Method("consensus", 0), Method("consensus", 0, held=True)
_CONTENDERS = (MEAN, FREE, HELD)
_START = tuple((rate, decay) for rate in (1e-3, 3e-3, 1e-2) for decay in (0.0, 1.0, 10.0))
_COUPLED_START = tuple(
    (rate, decay) for rate in (1e-3, 3e-3, 1e-2) for decay in (0.0, 1e-4, 1e-3, 1e-2)
)


def tuning_scores(
    rows: pd.DataFrame, method: Method, at_level: bool
) -> tuple[dict[Setting, float], set[Setting]]:
    """The scores of the settings that all tuning folds have tried, and those that may win.

    Args:
        rows: of tuning tasks.
        method: which rule and optimizer; its rate and decay do not matter.
        at_level: the score at equal training loss, or else that at the end.
    """
    own = rows[
        (rows["rule"] == method.rule)
        & (rows["held"] == int(method.held))
        & (rows["optimizer"] == method.optimizer)
        & rows["task"].isin(tuning_tasks())
    ]
    run = ["learning_rate", "weight_decay", "task"]
    level = own[(own["at"] == "loss") & (own["value"] == LEVEL)]
    at_the_level = level.set_index(run)["test_changed_accuracy"]
    # the last look of a run; one that diverged has only what it came to
    end = own.sort_values("step", kind="stable").groupby(run)["test_changed_accuracy"].last()
    score = at_the_level.reindex(end.index).fillna(end) if at_level else end
    by_setting = score.groupby(level=[0, 1]).agg(["mean", "size"])
    by_setting["reached"] = at_the_level.groupby(level=[0, 1]).size()
    by_setting = by_setting[by_setting["size"] == len(tuning_tasks())].fillna({"reached": 0})
    scores = {_setting(index): mean for index, mean in by_setting["mean"].items()}
    enough = by_setting["reached"] >= _ENOUGH * by_setting["reached"].max()
    may_win = set(scores) if not at_level else {_setting(i) for i in by_setting.index[enough]}
    return scores, may_win


def _setting(index: tuple[float, float]) -> Setting:
    return float(index[0]), float(index[1])


def _tried_and_chosen(
    rows: pd.DataFrame, method: Method, lattice: Lattice, start: Sequence[Setting], at_level: bool
) -> tuple[list[Setting], Setting | None]:
    scores, may_win = tuning_scores(rows, method, at_level)
    # what may not win is tried, but never the best
    ranked = {s: score if s in may_win else -1.0 for s, score in scores.items()}
    wanted = lattice.wanted(start, ranked)
    return [*scores, *wanted], None if wanted else lattice.best(ranked)


def chosen(rows: Rows, method: Method, at_level: bool = True) -> Method:
    """The method with its tuned rate and decay.

    Raises:
        ValueError: if its tuning is not complete.
    """
    _, setting = _tried_and_chosen(rows("arc-tuning"), method, ADAMW, _START, at_level)
    if setting is None:
        raise ValueError(f"the settings of {method.rule} are not tuned yet: run arc-tuning first")
    return replace(method, learning_rate=setting[0], weight_decay=setting[1])


def _tuning(
    rows: pd.DataFrame, methods: Sequence[Method], lattice: Lattice, start: Sequence[Setting]
) -> list[ArcJob]:
    jobs: dict[ArcJob, None] = {}
    for method in methods:
        for at_level in (True, False):
            for rate, decay in _tried_and_chosen(rows, method, lattice, start, at_level)[0]:
                own = replace(method, learning_rate=rate, weight_decay=decay)
                for task in tuning_tasks():
                    jobs[ArcJob(task, folds(task)[0], TUNING_SEED, (own,))] = None
    return list(jobs)


def _main(seeds: Sequence[int], *methods: Method) -> Callable[[Rows], list[ArcJob]]:
    """All folds of all tasks, seed by seed."""

    def jobs(rows: Rows) -> list[ArcJob]:
        own = tuple(chosen(rows, method) for method in methods)
        return [
            ArcJob(task, fold, seed, own)
            for seed in seeds
            for task in study_tasks()
            for fold in folds(task)
        ]

    return jobs


_THIRD = 87


def _third(methods: Sequence[Method], most: int | None = None, depth: int = 3) -> list[ArcJob]:
    """Folds of the first third of the tasks, or so many of each; one seed."""
    return [
        ArcJob(task, fold, SEEDS[0], tuple(methods), depth)
        for task in study_tasks()[:_THIRD]
        for fold in folds(task)[:most]
    ]


def _controls(rows: Rows) -> list[ArcJob]:
    consensus = chosen(rows, FREE)
    rules = ("mean", "scaled mean", "random mask", "AND-mask")
    return _third([replace(consensus, rule=rule) for rule in rules])


def _at_the_end(rows: Rows) -> list[ArcJob]:
    methods = tuple(chosen(rows, method, at_level=False) for method in (MEAN, FREE))
    return [ArcJob(task, fold, SEEDS[0], methods) for task in study_tasks() for fold in folds(task)]


def _coupled(rows: Rows) -> list[ArcJob]:
    stored = rows("arc-coupled")
    methods = [replace(method, optimizer="adam") for method in (MEAN, FREE)]
    tuning = _tuning(stored, methods, ADAM, _COUPLED_START)
    best = [
        (method, _tried_and_chosen(stored, method, ADAM, _COUPLED_START, at_level=False)[1])
        for method in methods
    ]
    if any(setting is None for _, setting in best):
        return tuning
    return tuning + _third(
        [replace(m, learning_rate=rate, weight_decay=decay) for m, (rate, decay) in best]
    )


PARTS: tuple[ArcPart, ...] = (
    ArcPart(
        "rates and decays, on evaluation tasks",
        "arc-tuning",
        lambda rows: _tuning(rows("arc-tuning"), _CONTENDERS, ADAMW, _START),
    ),
    ArcPart("every fold of every task, mean and consensus", "arc", _main(SEEDS, MEAN, FREE)),
    ArcPart("held consensus, one seed", "arc-held", _main(SEEDS[:1], HELD)),
    ArcPart(
        "which tasks can the network express? All pairs together",
        "arc-together",
        lambda rows: [
            ArcJob(task, TOGETHER, TOGETHER_SEED, (chosen(rows, MEAN),)) for task in study_tasks()
        ],
    ),
    ArcPart("controls at the settings of consensus", "arc-controls", _controls),
    ArcPart("at the settings that are best at the end", "arc-end", _at_the_end),
    ArcPart("Adam with coupled decay", "arc-coupled", _coupled),
    ArcPart(
        "six convolutions",
        "arc-depth",
        lambda rows: _third([chosen(rows, MEAN), chosen(rows, FREE)], most=1, depth=6),
    ),
    ArcPart("held consensus, two more seeds", "arc-held-more", _main(SEEDS[1:], HELD)),
)
LABELS = ("task", "fold", "seed", "depth", *Method.__dataclass_fields__)
COLUMNS: tuple[str, ...] = (
    *LABELS,
    *("at", "value", "step", "ended", "train_loss"),
    *("consensus_ratio", "live_consensus_ratio", "update_ratio"),
    *("test_loss", "test_exact", "test_changed_accuracy", "test_kept_accuracy"),
)


def described() -> dict[str, Any]:
    """What the rows depend on, for the configuration beside them."""
    return {
        "budget": asdict(BUDGET),
        "most_cells": MOST_CELLS,
        "seeds": {"reported": SEEDS, "tuning": TUNING_SEED, "together": TOGETHER_SEED},
        "folds": {task: folds(task) for task in study_tasks()},
        "tuning_tasks": tuning_tasks(),
        "parts": {part.name: part.about for part in PARTS},
        "start": {"adamw": _START, "adam": _COUPLED_START},
    }
