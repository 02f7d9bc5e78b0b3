"""What lies on the straight line between the weights that two rules end with?"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from course.arc import Task
from course.study.networks import Cells, Networks
from course.study.plan import LEVEL, Budget, Setting
from course.study.trials import Trainer, Trial

__all__ = ["Line", "line_between"]

_POINTS = 41


@dataclass(frozen=True, eq=False)
class Line:
    """Losses on the way from one network to another.

    Attributes:
        shares: (41,), 0 at the first network, 1 at the second.
        train: (41,) training losses, nats a cell.
        test: (41,) test losses.
        ends: the steps after which the two runs ended.
    """

    shares: Tensor
    train: Tensor
    test: Tensor
    ends: tuple[int, int]

    @property
    def barrier(self) -> float:
        """How far the training loss on the way rises above the higher of its ends."""
        return float(self.train.max() - max(self.train[0], self.train[-1]))

    @property
    def gain(self) -> float:
        """How far the test loss on the way falls below the lower of its ends."""
        return float(min(self.test[0], self.test[-1]) - self.test.min())


def line_between(
    task: Task,
    rules: tuple[str, str],
    rates: tuple[float, float],
    seed: int,
    steps: int = 200,
    stop: threading.Event | None = None,
) -> Line | None:
    """Train by two rules from the same first weights to the same training loss, and look between.

    Two networks with the same loss may lie in one basin, or in two with a barrier between them
    (linear mode connectivity; Frankle et al. 2020, arXiv 1912.05671).

    Args:
        task: keeps the grid size.
        rules: two names of `course.study.rules.RULES`.
        rates: their learning rates.
        seed: of the first weights.
        steps: after which a run ends even if it has not reached the training loss of 0.1.
        stop: ends the training early, once it is set.

    Returns:
        The line; None if it was stopped.
    """
    budget = Budget(steps, (steps,), (LEVEL,), fitted=LEVEL)
    ends, steps_done = [], []
    for rule, rate in zip(rules, rates, strict=True):
        trainer = Trainer(Trial(task, rule, Setting(), rate, (seed,), budget))
        trainer.train(stop)
        if stop is not None and stop.is_set():
            return None
        ends.append(trainer.best[0])
        steps_done.append(trainer.runs[0].best_step)
    shares = torch.linspace(0, 1, _POINTS)
    weights = torch.stack([torch.lerp(*ends, share) for share in shares])
    train, test = (_losses(trainer, weights, Cells(pairs)) for pairs in (task.train, task.test))
    return Line(shares, train, test, tuple(steps_done))


def _losses(trainer: Trainer, weights: Tensor, cells: Cells) -> Tensor:
    networks = Networks(trainer.architecture, weights, cells)
    return networks.losses(networks.log_probabilities()).mean(dim=1)
