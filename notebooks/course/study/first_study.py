"""The first study: its tasks, and what was run. The reasons are in data/study/PLAN.md."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from types import MappingProxyType

import pandas as pd

from course.arc import GENERATED_TASKS, Task, augment_pairs, generate_pairs, load_task, task_ids
from course.study.flatness import rise_around
from course.study.networks import Architecture
from course.study.rules import MAIN_RULES, RELATIVES, SCALED_MEAN, SOFTER_RULES
from course.study.stepping import Method
from course.study.store import select
from course.study.training import Budget, Row, Run, Training

__all__ = [
    "BUDGET",
    "COLUMNS",
    "LEVEL",
    "MAIN",
    "PARTS",
    "FirstJob",
    "FirstPart",
    "method_of",
    "rates",
    "study_tasks",
    "tuning_tasks",
]

LEVEL = 0.1  # the training loss at which rules are compared, nats a cell
BUDGET = Budget(200, (0, 10, 30, 100, 200), (1.0, 0.3, LEVEL, 0.03, 0.01), fitted=0.001)
MAIN, FREE = "held AdamW", "AdamW"
TUNED = {MAIN: "tuning", FREE: "tuning-others"}
FRESH_PAIRS, FRESH_SEED = 200, 0
_RATES = (0.001, 0.003, 0.01, 0.03)
_DECAY = 0.01
_TUNING_CELLS, _CONFIRMATION_CELLS = 600, 1000
_DECAYS = (0.0, 0.001, 0.01, 0.1, 0.3, 1.0)
_VOTERS = (2, 4, 8, 16, 32, 64)
_FEW = (0, 1, 2)


@cache
def study_tasks() -> tuple[str, ...]:
    """The 262 training tasks that keep the grid size, in a random order fixed for good.

    The first so many of them are therefore a random sample.
    """
    return _shuffled(task for task in task_ids("training") if load_task(task).same_size)


@cache
def tuning_tasks() -> tuple[str, ...]:
    """30 same-size tasks of the evaluation set with at most 600 training cells, at random."""
    fits = (task for task in task_ids("evaluation") if _is_small(task, _TUNING_CELLS))
    return _shuffled(fits)[:30]


@cache
def confirmation_tasks() -> tuple[str, ...]:
    """The same-size tasks of the evaluation set with at most 1000 training cells, less the 30."""
    fits = {task for task in task_ids("evaluation") if _is_small(task, _CONFIRMATION_CELLS)}
    return _shuffled(fits - set(tuning_tasks()))


def _is_small(task_id: str, cells: int) -> bool:
    task = load_task(task_id)
    return task.same_size and sum(pair.input.size for pair in task.train) <= cells


def _shuffled(tasks: Iterable[str]) -> tuple[str, ...]:
    return tuple(random.Random(0).sample(found := sorted(tasks), len(found)))


@cache
def _voters_tasks() -> tuple[str, ...]:
    """10 study tasks, at random, whose 64 copies can still be trained on in seconds."""
    small = (task for task in study_tasks() if _is_small(task, 200))
    enough = (t for t in small if len(augment_pairs(load_task(t).train, "both")[0]) >= _VOTERS[-1])
    return tuple(enough)[:10]


def method_of(setting: str, rule: str, rate: float, decay: float = _DECAY) -> Method:
    """A rule in a setting of the study, "held AdamW" or "AdamW"."""
    return Method(rule, rate, decay, held=setting == MAIN)


@dataclass(frozen=True)
class FirstJob:
    """One rule on one task from several seeds, trained side by side: the unit of work.

    Attributes:
        task: an ARC-AGI-1 id.
        setting: "held AdamW" or "AdamW".
        rule: a name of `course.study.rules`.
        learning_rate: of the optimizer.
        weight_decay: of the optimizer.
        voters: how many copies of the training pairs vote; 0: the pairs themselves.
        seeds: of the first weights.
        extra: "fresh" to examine on generated pairs too, "flatness" to look around the weights.
        budget: how long.
    """

    task: str
    setting: str
    rule: str
    learning_rate: float
    weight_decay: float = _DECAY
    voters: int = 0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    extra: str = ""
    budget: Budget = BUDGET

    @property
    def labels(self) -> list[Row]:
        """What tells each of its runs from all others, as it stands in the rows."""
        names = ("task", "setting", "rule", "learning_rate", "weight_decay", "voters")
        common = {name: getattr(self, name) for name in names}
        return [common | {"seed": seed} for seed in self.seeds]

    @property
    def cost(self) -> float:
        """About how long it takes, in billions of weights times cells."""
        pairs = load_task(self.task).train
        cells = sum(pair.input.size for pair in pairs) * max(1, self.voters / len(pairs))
        return cells * Architecture().size * len(self.seeds) * self.budget.steps / 1e9

    def run(self) -> list[list[Row]]:
        """Train and return the rows of each run.

        Rows of the best training loss and of single layers, which were stored once, are not made.
        """
        method = method_of(self.setting, self.rule, self.learning_rate, self.weight_decay)
        task = _with_voters(load_task(self.task), self.voters)
        exams = {"test": task.test}
        if self.extra == "fresh":
            exams["fresh"] = tuple(generate_pairs(task.id, FRESH_PAIRS, FRESH_SEED))
        budget = self.budget
        if self.extra == "flatness":
            budget = Budget(budget.steps, (budget.steps,), (LEVEL,), fitted=LEVEL)
        training = Training(
            [Run(method, seed, task.train, exams) for seed in self.seeds], budget, Architecture()
        )
        found = training.train()
        if self.extra == "flatness":
            return rise_around(training.final, found, task)
        changed = {
            name: sum(int((p.input != p.output).sum()) for p in pairs)
            / sum(p.input.size for p in pairs)
            for name, pairs in exams.items()
        }
        return [[_as_stored(row, changed) for row in rows] for rows in found]


def _as_stored(row: Row, changed: Mapping[str, float]) -> Row:
    """The row with the measures of the first study: all cells instead of those kept."""
    row = dict(row)
    for name, share in changed.items():
        kept = row.pop(f"{name}_kept_accuracy")
        parts = ((row[f"{name}_changed_accuracy"], share), (kept, 1 - share))
        row[f"{name}_cell_accuracy"] = sum(right * part for right, part in parts if part)
    # a task is solved when all its test pairs are
    row["test_exact"] = float(math.floor(row["test_exact"]))
    return row


def _with_voters(task: Task, voters: int) -> Task:
    """The task with so many copies of its training pairs, each a voter; 0: with the pairs."""
    if not voters:
        return task
    copies, _ = augment_pairs(task.train, "both")
    return replace(task, train=tuple(random.Random(0).sample(copies, len(copies))[:voters]))


Rows = Callable[[str], pd.DataFrame]
"""From the name of a part to its stored rows."""

Rates = Mapping[tuple[str, str], float]
"""{(setting, rule): learning rate}."""


@dataclass(frozen=True)
class FirstPart:
    """A question of the study.

    Attributes:
        about: it, in a few words.
        name: of its file.
        plan: what is run for it, given the learning rates.
        tunes: whether it is there to choose learning rates, and needs none.
        package: what must be installed besides the course's requirements.
    """

    about: str
    name: str
    plan: Callable[[Rates], list[FirstJob]]
    tunes: bool = False
    package: str = ""

    def jobs(self, rows: Rows) -> list[FirstJob]:
        """All its jobs.

        Raises:
            ValueError: if a learning rate that it needs is not chosen yet.
        """
        try:
            return self.plan({} if self.tunes else rates(rows))
        except KeyError as error:
            setting, rule = error.args[0]
            raise ValueError(
                f"'{self.name}' needs the learning rate of '{rule}' with {setting}: run the "
                f"tuning parts first ({', '.join(part.name for part in PARTS if part.tunes)})"
            ) from None


def rates(rows: Rows) -> dict[tuple[str, str], float]:
    """{(setting, rule): learning rate}, as far as the tuning parts are complete.

    Chosen is the rate with the highest mean accuracy on the changed cells of the tuning tasks'
    test pairs at the last step; of equals the smaller.
    """
    chosen: dict[tuple[str, str], float] = {}
    for part in PARTS:
        if not part.tunes or not len(found := rows(part.name)):
            continue
        last = select(found, at="step", value=BUDGET.steps)
        runs = last.groupby(["setting", "rule", "learning_rate"])["test_changed_accuracy"]
        means = runs.mean()[runs.size() == len(tuning_tasks())]
        for (setting, rule), own in means.groupby(level=[0, 1]):
            if len(own) == len(_RATES):
                chosen[setting, rule] = float(own.idxmax()[2])
    for setting, rule in [*chosen]:
        if rule == "consensus":  # whose step length the scaled mean copies
            chosen[setting, SCALED_MEAN] = chosen[setting, rule]
    return chosen


def _tuning(setting: str, rules: Sequence[str]) -> list[FirstJob]:
    return [
        FirstJob(task, setting, rule, rate, seeds=(1000,))
        for task in tuning_tasks()
        for rule in rules
        if rule != SCALED_MEAN
        for rate in _RATES
    ]


def _runs(
    rates: Rates, tasks: Sequence[str], rules: Sequence[str], setting: str = MAIN, **more: object
) -> list[FirstJob]:
    return [
        FirstJob(task, setting, rule, rates[setting, rule], **more)
        for task, rule in product(tasks, rules)
    ]


_TWO = ("mean", "consensus")
PARTS: tuple[FirstPart, ...] = (
    FirstPart("learning rates", "tuning", lambda rates: _tuning(MAIN, MAIN_RULES), tunes=True),
    FirstPart(
        "every task, every rule, five seeds",
        "main",
        lambda rates: _runs(rates, study_tasks(), MAIN_RULES),
    ),
    FirstPart(
        "five tasks with generators of our own, judged on 200 fresh pairs too",
        "fresh",
        lambda rates: _runs(rates, GENERATED_TASKS, MAIN_RULES, extra="fresh"),
    ),
    FirstPart(
        "learning rates for the softer rules",
        "tuning-softer",
        lambda rates: _tuning(MAIN, SOFTER_RULES),
        tunes=True,
    ),
    FirstPart(
        "thresholds and power means between mean and consensus",
        "softer",
        lambda rates: _runs(rates, study_tasks()[:30], SOFTER_RULES),
    ),
    FirstPart(
        "2 to 64 voters, copies of the training pairs",
        "voters",
        lambda rates: [
            job
            for voters in _VOTERS
            for job in _runs(rates, _voters_tasks(), _TWO, voters=voters, seeds=_FEW)
        ],
    ),
    FirstPart(
        "how far the loss rises around the weights reached at equal training loss",
        "flatness",
        lambda rates: _runs(
            rates,
            study_tasks()[:40],
            ("mean", "consensus", "AND-mask", "random mask"),
            extra="flatness",
        ),
    ),
    FirstPart(
        "learning rates for rules that look at whole gradients",
        "tuning-relatives",
        lambda rates: _tuning(MAIN, RELATIVES),
        tunes=True,
        package="torchjd",
    ),
    FirstPart(
        "rules that look at whole gradients",
        "relatives",
        lambda rates: _runs(rates, study_tasks()[:30], RELATIVES),
        package="torchjd",
    ),
    FirstPart(
        "learning rates without holding",
        "tuning-others",
        lambda rates: _tuning(FREE, _TWO),
        tunes=True,
    ),
    FirstPart(
        "weight decay from 0 to 1",
        "decay",
        lambda rates: [
            job
            for decay, setting in product(_DECAYS, (MAIN, FREE))
            for job in _runs(
                rates, study_tasks()[:20], _TWO, setting, weight_decay=decay, seeds=_FEW
            )
        ],
    ),
    FirstPart(
        "a lead that was found by looking, on tasks that had no part in finding it",
        "confirmation",
        lambda rates: [
            job
            for task in confirmation_tasks()
            for job in (
                *_runs(
                    rates,
                    [task],
                    ("mean", "consensus", "AND-mask", "random mask", "scaled mean"),
                    seeds=_FEW,
                ),
                FirstJob(task, MAIN, "mean", rates[MAIN, "consensus"], seeds=_FEW),
            )
        ],
    ),
)
_JOB = ("task", "setting", "rule", "learning_rate", "weight_decay", "voters", "seed")
_EXAM = ("loss", "exact", "changed_accuracy", "cell_accuracy")
_COLUMNS = (
    *(*_JOB, "at", "value", "step", "ended", "train_loss"),
    *("consensus_ratio", "live_consensus_ratio", "update_ratio"),
    *(f"layer_{number}_ratio" for number in range(1, 6)),
    *(f"test_{name}" for name in _EXAM),
)
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {part.name: _COLUMNS for part in PARTS}
    | {
        "fresh": (*_COLUMNS, *(f"fresh_{name}" for name in _EXAM)),
        "flatness": (*_JOB, "ended", "train_loss", "radius", "rise"),
    }
)
