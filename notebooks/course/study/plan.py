"""What is run: settings, budgets, tasks and parts. The reasons are in data/study/PLAN.md."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import Literal

from course.arc import GENERATED_TASKS, augment_pairs, load_task, task_ids
from course.study.rules import MAIN_RULES, RELATIVES, SCALED_MEAN, SOFTER_RULES

__all__ = [
    "LEVEL",
    "PARTS",
    "SETTINGS",
    "Budget",
    "Job",
    "Part",
    "Setting",
    "study_tasks",
    "tuning_tasks",
]


@dataclass(frozen=True)
class Setting:
    """An optimizer and a network.

    Attributes:
        optimizer: AdamW, or SGD without momentum.
        hold_masked: whether weights without an update stay where they are.
        weight_decay: of the optimizer.
        width: channels of the network.
        depth: its number of 3x3 convolutions.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    hold_masked: bool = True
    weight_decay: float = 0.01
    width: int = 32
    depth: int = 3


@dataclass(frozen=True)
class Budget:
    """How long a run is, and when it is looked at.

    Attributes:
        steps: full-batch steps at most.
        checkpoints: steps at which the test pairs are examined; the last is `steps`.
        levels: training losses at whose first reaching they are examined, nats a cell.
        fitted: the training loss at which a run ends early.
    """

    steps: int = 200
    checkpoints: tuple[int, ...] = (0, 10, 30, 100, 200)
    levels: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01)
    fitted: float = 0.001


@dataclass(frozen=True)
class Job:
    """One rule on one task from several seeds, trained side by side: the unit of work.

    Attributes:
        task: an ARC-AGI-1 id.
        setting: a name of `SETTINGS`.
        rule: a name of `course.study.rules.RULES`.
        learning_rate: of the optimizer.
        weight_decay: of the optimizer.
        voters: how many copies of the training pairs vote; 0: the pairs themselves.
        seeds: of the first weights.
        budget: how long.
    """

    task: str
    setting: str
    rule: str
    learning_rate: float
    weight_decay: float
    voters: int = 0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    budget: Budget = Budget()

    @property
    def key(self) -> tuple[str, ...]:
        """What tells the job from others of its part, as it stands in the stored rows."""
        numbers = (f"{self.learning_rate:g}", f"{self.weight_decay:g}", str(self.voters))
        return (self.task, self.setting, self.rule, *numbers)

    @property
    def cost(self) -> float:
        """About how long it takes, in units of nothing: cells x seeds x steps x weights."""
        setting, pairs = SETTINGS[self.setting], load_task(self.task).train
        cells = sum(pair.input.size for pair in pairs) * max(1, self.voters / len(pairs))
        weights = setting.width * (99 + 9 * setting.width * (setting.depth - 1))
        return cells * weights * len(self.seeds) * self.budget.steps


@dataclass(frozen=True)
class Part:
    """A question of the study.

    Attributes:
        about: the question, in a few words.
        jobs: what is run for it, given the learning rate of each (setting, rule).
        tunes: whether it is there to choose learning rates, and needs none.
        package: what must be installed besides the course's requirements.
    """

    about: str
    jobs: Callable[[Mapping[tuple[str, str], float]], list[Job]]
    tunes: bool = False
    package: str = ""


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "held AdamW": Setting(),
        "AdamW": Setting(hold_masked=False),
        "SGD": Setting("sgd", hold_masked=False, weight_decay=0.0),
        "larger": Setting(width=48),
    }
)
MAIN, *OTHERS = SETTINGS
LEVEL = 0.1  # the training loss at which rules are compared, nats a cell

_RATES = {"adamw": (0.001, 0.003, 0.01, 0.03), "sgd": (0.1, 0.3, 1.0, 3.0, 10.0)}
_TUNING_CELLS, _CONFIRMATION_CELLS = 600, 1000
_DECAYS = (0.0, 0.001, 0.01, 0.1, 0.3, 1.0)
_VOTERS = (2, 4, 8, 16, 32, 64)
_FEW = (0, 1, 2)
_CONFIRMED = ("mean", "consensus", "AND-mask", "random mask", "scaled mean")
_OTHER_RULES = ("mean", "consensus", "abstain", "AND-mask", "random mask")


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


def _tuning(settings: Sequence[str], rules: Sequence[str], seeds: tuple[int, ...]) -> list[Job]:
    return [
        _job(task, setting, rule, rate, seeds=seeds)
        for task in tuning_tasks()
        for setting, rule in product(settings, rules)
        if rule != SCALED_MEAN  # takes the learning rate of the consensus it is as long as
        for rate in _RATES[SETTINGS[setting].optimizer]
    ]


def _runs(
    rates: Mapping[tuple[str, str], float],
    tasks: Sequence[str],
    settings: Sequence[str],
    rules: Sequence[str],
    **changes: object,
) -> list[Job]:
    return [
        replace(_job(task, setting, rule, rates[setting, rule]), **changes)
        for task in tasks
        for setting, rule in product(settings, rules)
    ]


def _job(task: str, setting: str, rule: str, rate: float, **more: object) -> Job:
    return Job(task, setting, rule, rate, SETTINGS[setting].weight_decay, **more)


def _slow_mean(task: str, rates: Mapping[tuple[str, str], float], **more: object) -> Job:
    return _job(task, MAIN, "mean", rates[MAIN, "consensus"], **more)


# In the order in which they are run: what the verdict rests on comes first. Seeds above 1000 are
# used for tuning alone.
PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "tuning": Part(
            "learning rates for the main setting, on evaluation tasks",
            lambda rates: _tuning([MAIN], MAIN_RULES, (1000,)),
            tunes=True,
        ),
        "main": Part(
            "every task, every rule, five seeds",
            lambda rates: _runs(rates, study_tasks(), [MAIN], MAIN_RULES),
        ),
        "fresh": Part(
            "five tasks with generators of our own, judged on 200 fresh pairs too",
            lambda rates: _runs(rates, GENERATED_TASKS, [MAIN], MAIN_RULES),
        ),
        "tuning softer": Part(
            "learning rates for the softer rules, on evaluation tasks",
            lambda rates: _tuning([MAIN], SOFTER_RULES, (1000,)),
            tunes=True,
        ),
        "softer": Part(
            "thresholds and power means between mean and consensus",
            lambda rates: _runs(rates, study_tasks()[:30], [MAIN], SOFTER_RULES),
        ),
        "voters": Part(
            "2 to 64 voters, copies of the training pairs",
            lambda rates: [
                job
                for voters in _VOTERS
                for job in _runs(
                    rates,
                    _voters_tasks(),
                    [MAIN],
                    ["mean", "consensus"],
                    voters=voters,
                    seeds=_FEW,
                )
            ],
        ),
        "flatness": Part(
            "how far the loss rises around the weights reached at equal training loss",
            lambda rates: _runs(
                rates, study_tasks()[:40], [MAIN], ["mean", "consensus", "AND-mask", "random mask"]
            ),
        ),
        "tuning relatives": Part(
            "learning rates for rules that look at whole gradients",
            lambda rates: _tuning([MAIN], RELATIVES, (1000,)),
            tunes=True,
            package="torchjd",
        ),
        "relatives": Part(
            "rules that look at whole gradients",
            lambda rates: _runs(rates, study_tasks()[:30], [MAIN], RELATIVES),
            package="torchjd",
        ),
        "tuning others": Part(
            "learning rates for the other settings, on evaluation tasks",
            lambda rates: _tuning(OTHERS, _OTHER_RULES, (1000,)),
            tunes=True,
        ),
        "decay": Part(
            "weight decay from 0 to 1",
            lambda rates: [
                job
                for decay in _DECAYS
                for job in _runs(
                    rates,
                    study_tasks()[:20],
                    [MAIN, "AdamW"],
                    ["mean", "consensus"],
                    weight_decay=decay,
                    seeds=_FEW,
                )
            ],
        ),
        "others": Part(
            "other optimizers and a larger network, on a third of the tasks",
            lambda rates: _runs(rates, study_tasks()[:87], OTHERS, _OTHER_RULES, seeds=(0, 1)),
        ),
        "rate": Part(
            "the mean at the learning rate of consensus: is it the rule, or the rate?",
            lambda rates: [_slow_mean(task, rates) for task in study_tasks()],
        ),
        "confirmation": Part(
            "a lead that was found by looking, on tasks that had no part in finding it",
            lambda rates: [
                job
                for task in confirmation_tasks()
                for job in (
                    *_runs(rates, [task], [MAIN], _CONFIRMED, seeds=_FEW),
                    _slow_mean(task, rates, seeds=_FEW),
                )
            ],
        ),
    }
)
