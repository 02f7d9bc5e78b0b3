"""Many small networks at once, each with its own pairs, method and seed, looked at on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from consensus_lib.questions import Agreed, Stack, Touched
from course.arc import Pair
from course.study.networks import Architecture, Cells, Differentiable, Networks
from course.study.rules import SCALED_MEAN, Reducer
from course.study.stepping import Method, ScaledStepper, Stepper

__all__ = ["Budget", "Reduce", "Row", "Run", "Training"]

Row = dict[str, Any]
Reduce = Callable[[Tensor], Tensor]
"""From the gradients of S networks (N, S, P) to their updates (S, P)."""


@dataclass(frozen=True)
class Run:
    """One network to train and what to look at.

    Attributes:
        method: how.
        seed: of the first weights; and of a random mask.
        train: the pairs, each a voter.
        exams: {name: pairs} that it is examined on.
        asked: the input colour whose unchanged cells are examined; None is every colour.
        accidents: input colours that mean nothing, where one knows.
        reference: pairs whose mean gradient tells what serves the rule; () is none.
    """

    method: Method
    seed: int
    train: tuple[Pair, ...]
    exams: Mapping[str, tuple[Pair, ...]]
    asked: int | None = None
    accidents: tuple[int, ...] = ()
    reference: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Budget:
    """How long a run is, and when it is looked at.

    Attributes:
        steps: full-batch steps at most.
        checkpoints: steps at which a run is looked at; the last is `steps`.
        levels: falling training losses, nats a cell, at whose first reaching it is looked at.
        fitted: the training loss at which a run ends early.
    """

    steps: int
    checkpoints: tuple[int, ...]
    levels: tuple[float, ...]
    fitted: float


@dataclass
class _Progress:
    """What a run still has to reach, and what was seen of it."""

    levels: list[float]
    checkpoints: list[int]
    ended: str = ""
    rows: list[Row] = field(default_factory=list)

    def due(self, step: int, loss: float, fitted: float) -> list[tuple[str, float]]:
        """What to look at it for now; a run that ends has come to all its checkpoints."""
        due: list[tuple[str, float]] = []
        while self.levels and loss <= self.levels[0]:
            due.append(("loss", self.levels.pop(0)))
        if loss <= fitted:
            self.ended = "fitted"
        while self.checkpoints and (self.ended or self.checkpoints[0] == step):
            due.append(("step", self.checkpoints.pop(0)))
        if not self.checkpoints and not self.ended:
            self.ended = "budget"
        return due


class _Team:
    """The runs of one method: neighbouring rows of all weights, moved by one optimizer."""

    def __init__(
        self,
        method: Method,
        seeds: Sequence[int],
        start: int,
        weights: Tensor,
        shape: Architecture,
        reduce: Reduce | None,
    ) -> None:
        self.members = list(range(len(seeds)))
        self.rows = slice(start, start + len(seeds))
        reducer = Reducer(method.rule, shape, seeds)
        self._reduce = (
            reducer.reduce if reduce is None else lambda stack, _: reduce(stack.gradients)
        )
        stepper = ScaledStepper if method.rule == SCALED_MEAN else Stepper
        self._stepper = stepper(weights[self.rows], method)

    def update(self, gradients: Tensor) -> tuple[Stack, Tensor]:
        """The gradients of its runs and their updates, from those of all, (N, S, P)."""
        stack = Stack(gradients[:, self.rows])
        return stack, self._reduce(stack, self.members)

    def move(self, stack: Stack, update: Tensor) -> None:
        self._stepper.move(update, stack)

    def keep(self, rows: Sequence[int], start: int, weights: Tensor) -> int:
        """Go on with those of its rows among `rows`, from `start` on; the row after them."""
        own = [row - self.rows.start for row in rows if self.rows.start <= row < self.rows.stop]
        self.members = [self.members[row] for row in own]
        self.rows = slice(start, start + len(own))
        self._stepper.keep(own, weights[self.rows])
        return self.rows.stop


class Training:
    """Runs with training pairs of the same shapes, trained side by side.

    The gradients of all come from one computation, whatever their methods. A run ends with the
    budget, with a training loss of `fitted`, or when a loss or gradient is not finite ("diverged";
    it then has no rows for what it did not come to).

    Args:
        runs: those of a method stand side by side.
        budget: how long.
        architecture: of the networks.
        reduce: a rule of one's own, in the place of those of the methods.

    Attributes:
        weights: (S, P) of the runs still going, as they stand.
        final: {number of a run: its weights (P,) at the end}.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        budget: Budget,
        architecture: Architecture,
        reduce: Reduce | None = None,
    ) -> None:
        self._runs, self._budget, self._architecture = runs, budget, architecture
        self.weights = architecture.first_weights([run.seed for run in runs])
        self.final: dict[int, Tensor] = {}
        self._progress = [_Progress([*budget.levels], [*budget.checkpoints]) for _ in runs]
        self._alive = list(range(len(runs)))
        self._cells = _cells([run.train for run in runs])
        self._laid_out: dict[int, Cells] = {}
        self._teams = []
        for method, members in groupby(runs, key=lambda run: run.method):
            seeds, start = [run.seed for run in members], sum(len(t.members) for t in self._teams)
            self._teams.append(_Team(method, seeds, start, self.weights, architecture, reduce))
        self._networks = Differentiable(architecture, self.weights, self._cells)

    def train(self, stop: threading.Event | None = None) -> list[list[Row]]:
        """Train, and return the rows of each run; once `stop` is set, those so far."""
        for step in range(self._budget.steps + 1):
            if stop is not None and stop.is_set():
                break
            losses, gradients = self._networks.gradients()
            losses = losses.mean(dim=1)
            finite = torch.isfinite(losses) & torch.isfinite(gradients.sum(dim=(0, 2)))
            if not finite.all():
                self._end_diverged(finite.tolist())
                if not self._alive:
                    break
                losses, gradients = self._networks.gradients()
                losses = losses.mean(dim=1)
            moves = [(team, *team.update(gradients)) for team in self._teams]
            self._look(step, losses.tolist(), moves)
            going = [row for row, i in enumerate(self._alive) if not self._progress[i].ended]
            self._finish(set(range(len(self._alive))) - set(going))
            if not going:
                break
            for move in moves:
                move[0].move(*move[1:])
            self._keep(going)
        return [progress.rows for progress in self._progress]

    def _end_diverged(self, finite: list[bool]) -> None:
        for i, good in zip(self._alive, finite, strict=True):
            if not good:
                self._progress[i].ended = "diverged"
        self._finish({row for row, good in enumerate(finite) if not good})
        self._keep([row for row, good in enumerate(finite) if good])

    def _finish(self, rows: set[int]) -> None:
        """Remember how these ended, before the others move on."""
        for row in rows:
            i = self._alive[row]
            self.final[i] = self.weights[row].clone()
            for seen in self._progress[i].rows:
                seen["ended"] = self._progress[i].ended

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self._alive):
            return
        self._alive = [self._alive[row] for row in rows]
        self.weights = self.weights[rows]
        start = 0
        for team in self._teams:
            start = team.keep(rows, start, self.weights)
        self._teams = [team for team in self._teams if team.members]
        self._cells = self._cells.keep(rows)
        if rows:
            self._networks = Differentiable(self._architecture, self.weights, self._cells)

    def _look(
        self, step: int, losses: list[float], moves: Sequence[tuple[_Team, Stack, Tensor]]
    ) -> None:
        for team, stack, update in moves:
            for row in range(team.rows.start, team.rows.stop):
                i, loss = self._alive[row], losses[row]
                due = self._progress[i].due(step, loss, self._budget.fitted)
                if not due:
                    continue
                own = row - team.rows.start
                seen = {"step": step, "train_loss": loss}
                seen |= self._ratios(stack, update, own)
                seen |= self._served(self._runs[i], row, update[own])
                for name, pairs in self._runs[i].exams.items():
                    seen |= self._examined(name, pairs, row, self._runs[i].asked)
                self._progress[i].rows += [{"at": at, "value": value} | seen for at, value in due]

    def _ratios(self, stack: Stack, update: Tensor, own: int) -> Row:
        agreed = stack[Agreed()][own].count_nonzero().item()
        return {
            "consensus_ratio": agreed / update.shape[1],
            "live_consensus_ratio": agreed / stack[Touched()][own].count_nonzero().item(),
            "update_ratio": update[own].count_nonzero().item() / update.shape[1],
        }

    def _served(self, run: Run, row: int, update: Tensor) -> Row:
        """What of an update (P,) goes where, as far as one knows what is rule and accident."""
        if not run.reference:
            return {}
        weights = self.weights[row : row + 1]
        networks = Differentiable(self._architecture, weights, self._lay_out(run.reference))
        serves = networks.gradients()[1].mean(dim=0)[0].sign() == update.sign()
        layer, accidents = self._architecture.layers[0], list(run.accidents)
        of_update = layer.weight(update.abs()[None]).view(9, -1, layer.outputs)
        of_weights = layer.weight(weights**2).view(9, -1, layer.outputs)
        return {
            "served_update": _ratio(update.abs()[serves].sum(), update.abs().sum()),
            "accident_update": _ratio(of_update[:, accidents].sum(), of_update.sum()),
            "accident_weight": _ratio(of_weights[:, accidents].sum(), of_weights.sum()),
        }

    def _lay_out(self, pairs: tuple[Pair, ...]) -> Cells:
        """The cells of pairs, made once; all pairs live as long as the runs."""
        if id(pairs) not in self._laid_out:
            self._laid_out[id(pairs)] = Cells(pairs)
        return self._laid_out[id(pairs)]

    def _examined(self, name: str, pairs: tuple[Pair, ...], row: int, asked: int | None) -> Row:
        cells = self._lay_out(pairs)
        networks = Networks(self._architecture, self.weights[row : row + 1], cells)
        logs = networks.log_probabilities()
        right, changed = (logs.argmax(dim=1) == cells.targets)[0], cells.changed[0]
        kept = ~changed if asked is None else ~changed & (cells.inputs[0] == asked)
        exact = [right[own].all().item() for own in cells.pairs]
        return {
            f"{name}_loss": networks.losses(logs).mean().item(),
            f"{name}_exact": sum(exact) / len(exact),
            f"{name}_changed_accuracy": _ratio(right[changed].sum(), changed.sum()),
            f"{name}_kept_accuracy": _ratio(right[kept].sum(), kept.sum()),
        }


def _cells(pairs_of: Sequence[tuple[Pair, ...]]) -> Cells:
    first, *others = pairs_of
    return Cells(first) if all(pairs is first for pairs in others) else Cells(*pairs_of)


def _ratio(part: Tensor, whole: Tensor) -> float:
    return (part / whole).item()  # nan where there is nothing
