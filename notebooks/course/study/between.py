"""What lies on the straight line between the weights that two rules end with?"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from course.arc import Pair, Task
from course.study.first_study import LEVEL, MAIN, method_of
from course.study.networks import Architecture, Cells, Networks
from course.study.training import Budget, Run, Training

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
    methods = [method_of(MAIN, rule, rate) for rule, rate in zip(rules, rates, strict=True)]
    runs = [Run(method, seed, task.train, {}) for method in methods]
    training = Training(runs, Budget(steps, (steps,), (), fitted=LEVEL), Architecture())
    found = training.train(stop)
    if stop is not None and stop.is_set():
        return None
    shares = torch.linspace(0, 1, _POINTS)
    weights = torch.stack([torch.lerp(training.final[0], training.final[1], s) for s in shares])
    train, test = (_losses(weights, pairs) for pairs in (task.train, task.test))
    return Line(shares, train, test, tuple(rows[-1]["step"] for rows in found))


def _losses(weights: Tensor, pairs: tuple[Pair, ...]) -> Tensor:
    networks = Networks(Architecture(), weights, Cells(pairs))
    return networks.losses(networks.log_probabilities()).mean(dim=1)
