"""One task, one rule, several seeds: trained side by side and examined on the way."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from consensus_lib.questions import Agreed, Stack, Touched
from course.arc import Pair, Task
from course.study.networks import Architecture, Cells, Differentiable, Networks
from course.study.plan import Budget, Setting
from course.study.rules import SCALED_MEAN, Reducer
from course.study.stepping import Method, ScaledStepper, Stepper

__all__ = ["Row", "Trainer", "Trial", "run_trial"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What is trained: a rule of `course.study.rules` on a task, once for each seed.

    `fresh` are further pairs to examine the networks on, beside the test pairs.
    """

    task: Task
    rule: str
    setting: Setting
    learning_rate: float
    seeds: Sequence[int]
    budget: Budget
    fresh: Sequence[Pair] = ()


@dataclass
class _Run:
    """One seed: what it still has to reach, and what was seen of it."""

    levels: list[float]
    checkpoints: list[int]
    best_loss: float = math.inf
    best_step: int = 0
    ended: str = "budget"
    rows: list[Row] = field(default_factory=list)

    def due(self, step: int, loss: float, fitted: float) -> list[tuple[str, float]]:
        """What to examine it for now: the levels reached first, and the checkpoints come to.

        A fitted run ends here, and has come to all its checkpoints.
        """
        due: list[tuple[str, float]] = []
        while self.levels and loss <= self.levels[0]:
            due.append(("loss", self.levels.pop(0)))
        if loss <= fitted:
            self.ended = "fitted"
        while self.checkpoints and (self.ended == "fitted" or self.checkpoints[0] == step):
            due.append(("step", self.checkpoints.pop(0)))
        return due


def run_trial(trial: Trial) -> list[Row]:
    """Train all seeds and return a row for each time that one of them was examined.

    A run ends with the budget; earlier when its training loss is `fitted`, or when a loss or
    gradient is not finite. The checkpoints after that are examined with its last weights, in a
    diverged run with those of its best training loss.

    Returns:
        Rows seed by seed; the columns are described in data/study/README.md.
    """
    return Trainer(trial).train()


class Trainer:
    """The training of a trial; `run_trial` makes one.

    Attributes:
        architecture: of the networks.
        cells: the training pairs.
        runs: for each seed what was seen.
        best: weights (S, P), of each seed those of its lowest training loss.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        budget, seeds, setting = trial.budget, trial.seeds, trial.setting
        self.architecture = Architecture(setting.width, setting.depth)
        first = self.architecture.first_weights(seeds)
        self.best = first.clone()
        stepper = ScaledStepper if trial.rule == SCALED_MEAN else Stepper
        method = Method(
            trial.rule,
            trial.learning_rate,
            setting.weight_decay,
            setting.hold_masked,
            setting.optimizer,
        )
        self.stepper = stepper(first, method)
        self.reducer = Reducer(trial.rule, self.architecture, seeds)
        self.runs = [_Run([*budget.levels], [*budget.checkpoints]) for _ in seeds]
        self.alive = list(range(len(seeds)))
        self.cells = Cells(trial.task.train)
        self.exams = {"test": Cells(trial.task.test)}
        if trial.fresh:
            self.exams["fresh"] = Cells(trial.fresh)
        self.networks = Differentiable(self.architecture, self.stepper.weights, self.cells)

    def train(self, stop: threading.Event | None = None) -> list[Row]:
        """Train and return the rows, as `run_trial`; once `stop` is set, those so far."""
        budget = self.trial.budget
        for step in range(budget.steps + 1):
            if stop is not None and stop.is_set():
                break
            losses, gradients = self._finite_gradients()
            if not self.alive:
                break
            stack = Stack(gradients)
            update = self.reducer.reduce(stack, self.alive)
            self._watch(step, losses, stack, update)
            going = [row for row, i in enumerate(self.alive) if self.runs[i].ended == "budget"]
            if step == budget.steps or not going:
                break
            self.stepper.move(update, stack)
            self._keep(going)
        self._examine_best()
        return [row for run in self.runs for row in run.rows]

    def _finite_gradients(self) -> tuple[Tensor, Tensor]:
        """The mean losses (S,) and the gradients (N, S, P) of those alive that are finite."""
        losses, gradients = self.networks.gradients()
        losses = losses.mean(dim=1)
        finite = torch.isfinite(losses) & torch.isfinite(gradients.sum(dim=(0, 2)))
        if finite.all():
            return losses, gradients
        for row, i in enumerate(self.alive):
            if not finite[row]:
                self.runs[i].ended = "diverged"
        self._keep(finite.nonzero()[:, 0].tolist())
        return self._finite_gradients() if self.alive else (losses, gradients)

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self.alive):
            return
        self.alive = [self.alive[row] for row in rows]
        if not rows:
            return
        self.stepper.keep(rows, self.stepper.weights[rows])
        self.networks = Differentiable(self.architecture, self.stepper.weights, self.cells)

    def _watch(self, step: int, losses: Tensor, stack: Stack, update: Tensor) -> None:
        found: list[Row] = []
        for row, (i, loss) in enumerate(zip(self.alive, losses.tolist(), strict=True)):
            run = self.runs[i]
            if loss < run.best_loss:
                run.best_loss, run.best_step = loss, step
                self.best[i] = self.stepper.weights[row]
            for at, value in run.due(step, loss, self.trial.budget.fitted):
                found = found or self._measure(self.stepper.weights, stack, update)
                self._note(i, at, value, step, loss, found[row])

    def _examine_best(self) -> None:
        networks = Differentiable(self.architecture, self.best, self.cells)
        _, gradients = networks.gradients()
        stack = Stack(gradients)
        update = self.reducer.reduce(stack, range(len(self.runs)))
        found = self._measure(self.best, stack, update)
        for i, run in enumerate(self.runs):
            due = [("step", step) for step in run.checkpoints] + [("best", math.nan)]
            for at, value in due:  # checkpoints are left only where a run diverged
                self._note(i, at, value, run.best_step, run.best_loss, found[i])
            for row in run.rows:
                row["ended"] = run.ended

    def _note(self, i: int, at: str, value: float, step: int, loss: float, found: Row) -> None:
        row = {"seed": self.trial.seeds[i], "at": at, "value": value, "step": step}
        self.runs[i].rows.append(row | {"train_loss": loss} | found)

    def _measure(self, weights: Tensor, stack: Stack, update: Tensor) -> list[Row]:
        """What can be said of each of the networks with these weights (S, P)."""
        agreed = stack[Agreed()].count_nonzero(dim=1)
        size = self.architecture.size
        columns = {
            "consensus_ratio": agreed / size,
            "live_consensus_ratio": agreed / stack[Touched()].count_nonzero(dim=1),
            "update_ratio": update.count_nonzero(dim=1) / size,
        }
        for number in range(len(self.architecture.layers)):
            columns[f"layer_{number + 1}_ratio"] = self._live_ratio_of_layer(number, stack)
        for name, cells in self.exams.items():
            columns |= _examined(name, Networks(self.architecture, weights, cells))
        return [
            dict(zip(columns, row, strict=True))
            for row in zip(*(column.tolist() for column in columns.values()), strict=True)
        ]

    def _live_ratio_of_layer(self, number: int, stack: Stack) -> Tensor:
        layer = self.architecture.layers[number]
        own = slice(layer.start, layer.end)
        live = stack[Touched()][:, own].count_nonzero(dim=1)
        return stack[Agreed()][:, own].count_nonzero(dim=1) / live


def _examined(name: str, networks: Networks) -> dict[str, Tensor]:
    cells = networks.cells
    logs = networks.log_probabilities()
    right = logs.argmax(dim=1) == cells.targets
    exact = torch.stack([right[:, own].all(dim=1) for own in cells.pairs], dim=1)
    return {
        f"{name}_loss": networks.losses(logs).mean(dim=1),
        # a task is solved when all its test pairs are; fresh pairs are single questions
        f"{name}_exact": exact.all(dim=1).float() if name == "test" else exact.float().mean(dim=1),
        f"{name}_changed_accuracy": right[:, cells.changed[0]].float().mean(dim=1),
        f"{name}_cell_accuracy": right.float().mean(dim=1),
    }
