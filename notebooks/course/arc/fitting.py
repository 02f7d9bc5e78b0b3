"""Fit the small network to one task by any rule, and watch the test pairs from outside."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

import consensus_lib as cl
from course.arc.augmentation import Augmentation, augment_pairs
from course.arc.encoding import cell_loss, encode_pairs, unseen_colours
from course.arc.network import TinyConv
from course.arc.scoring import Score, score
from course.arc.tasks import Pair, Task

__all__ = ["ArcHistory", "Examination", "fit"]

_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
_VOTERS = ("pairs", "copies")
_seeding = threading.Lock()


@dataclass(frozen=True, eq=False)
class Examination:
    """How a network does on the test pairs of a task.

    Attributes:
        predictions: one grid (H, W) of colours a test pair.
        scores: one Score a test pair whose output is known; else empty.
        loss: mean loss over the test pairs, nats a cell; nan if an output is hidden.
    """

    predictions: tuple[np.ndarray, ...] = field(repr=False)
    scores: tuple[Score, ...]
    loss: float

    @property
    def exact(self) -> bool:
        """Whether every test pair is known and solved without a wrong cell."""
        return bool(self.scores) and all(s.exact for s in self.scores)

    @property
    def cell_accuracy(self) -> float:
        """The share of right cells over all test pairs; nan if an output is hidden."""
        return _mean([(s.cell_accuracy, s.n_cells) for s in self.scores])

    @property
    def changed_cell_accuracy(self) -> float:
        """The same over the cells that differ from the input; nan where there are none."""
        return _mean([(s.changed_cell_accuracy, s.n_changed) for s in self.scores if s.n_changed])


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    cells = sum(n for _, n in weighted)
    return sum(value * n for value, n in weighted) / cells if cells else math.nan


@dataclass(repr=False)
class ArcHistory(cl.History):
    """A History with the test pairs examined at each step, before the weights move.

    Attributes:
        seed: of the first weights.
        examinations: one Examination a step.
        final: the Examination of the weights at the end; None while the run goes on.
        model: the network, on the device it is trained on.
    """

    seed: int = 0
    examinations: list[Examination] = field(default_factory=list)
    final: Examination | None = None
    model: TinyConv | None = None

    @property
    def examination(self) -> Examination | None:
        """The final examination, before the end that of the last step; None before the first."""
        return self.final or (self.examinations[-1] if self.examinations else None)

    @property
    def test_loss(self) -> list[float]:
        """Mean test loss at each step, nats a cell."""
        return [e.loss for e in self.examinations]

    @property
    def test_exact(self) -> list[bool]:
        """Whether all test pairs are solved, at each step."""
        return [e.exact for e in self.examinations]

    @property
    def test_cell_accuracy(self) -> list[float]:
        """The share of right test cells at each step."""
        return [e.cell_accuracy for e in self.examinations]

    @property
    def test_changed_cell_accuracy(self) -> list[float]:
        """The share of right test cells at each step, among those that differ from the input."""
        return [e.changed_cell_accuracy for e in self.examinations]


def fit(
    task: Task,
    rule: cl.Rule,
    steps: int = 200,
    seed: int = 0,
    optimizer: Literal["adam", "adamw", "sgd"] = "adam",
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
    hold_masked: bool = False,
    width: int = 32,
    depth: int = 3,
    zero_unseen: bool = False,
    augmentation: Augmentation = "none",
    voters: Literal["pairs", "copies"] = "copies",
    device: str | torch.device = "cpu",
    on_step: Callable[[ArcHistory], None] | None = None,
    stop: Callable[[ArcHistory], bool] | None = None,
) -> ArcHistory:
    """Train a TinyConv on the training pairs of a task, each pair or each of its copies a voter.

    The training loop sees the training pairs and nothing else. The test pairs are only examined,
    without gradients; with hidden outputs (`task.hidden()`) the run is the same to the last bit.

    Args:
        task: a task that keeps the grid size.
        rule: how to reduce the voters. A `RandomMask` without a generator draws from torch's
            global random state, which `seed` does not set.
        steps: full-batch steps.
        seed: of the first weights. The same seed gives every rule the same first weights.
        optimizer: "adam", "adamw" (decoupled weight decay) or "sgd" (plain, no momentum).
        learning_rate: of the optimizer.
        weight_decay: of the optimizer.
        hold_masked: keep weights without an update where they are (`hold_masked_weights`).
        width: channels of the network.
        depth: number of its 3x3 convolutions.
        zero_unseen: start the input weights of colours that no training input shows at 0.
        augmentation: train on changed copies of the pairs as well (`augment_pairs`).
        voters: "copies" (each copy of a pair votes for itself) or "pairs" (a pair and its copies
            cast one gradient, the mean of theirs). Without augmentation they are the same.
        device: where to train, such as "cpu" or "cuda".
        on_step: called with the history so far, before the weights move.
        stop: called with the history so far after on_step; true ends the run before the weights
            move.

    Returns:
        The history with the examinations of the test pairs.

    Raises:
        ValueError: for a task that changes the grid size, a setting that is not among those
            named above, or a device that is not there.
        Diverged: when a loss or gradient is not finite; it carries the ArcHistory.
    """
    if optimizer not in _OPTIMIZERS:
        raise ValueError(f"optimizer is one of {sorted(_OPTIMIZERS)}, not {optimizer!r}")
    if voters not in _VOTERS:
        raise ValueError(f"voters is one of {list(_VOTERS)}, not {voters!r}")
    device = _present(device)
    copies, origins = augment_pairs(task.train, augmentation)
    groups = encode_pairs(copies, device)
    voter_ids = None
    if voters == "pairs" and augmentation != "none":
        voter_ids = [origins[index] for group in groups for index in group.indices]
    examine = _examiner(task.test, device)
    # torch's random state is one for all threads: two panels may fit at the same time
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyConv(width, depth)
    if zero_unseen:
        model.zero_input_weights(unseen_colours(replace(task, train=copies)))
    model.to(device)
    stepper = _OPTIMIZERS[optimizer](
        model.parameters(), lr=learning_rate, weight_decay=weight_decay
    )
    if hold_masked:
        cl.hold_masked_weights(stepper)
    history, begin = ArcHistory(seed=seed, model=model), time.perf_counter()

    def watch(_: int, report: cl.Report) -> None:
        history.append(report, time.perf_counter() - begin)
        history.examinations.append(examine(model))
        if on_step is not None:
            on_step(history)

    try:
        history.stopped = cl.train(
            model,
            cell_loss,
            [group.inputs for group in groups],
            [group.targets for group in groups],
            rule=rule,
            optimizer=stepper,
            steps=steps,
            voters=voter_ids,
            on_step=watch,
            stop=None if stop is None else lambda _: stop(history),
        ).stopped
    except cl.Diverged as error:
        history.stopped, error.history = error.history.stopped, history
        raise
    finally:
        history.final = examine(model)
    return history


def _present(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # what torch raises differs by device
        raise ValueError(
            f"no device {str(device)!r} here: {str(error).splitlines()[0]}; take 'cpu'"
        ) from None
    return found


def _examiner(pairs: Sequence[Pair], device: torch.device) -> Callable[[TinyConv], Examination]:
    groups = encode_pairs(pairs, device)
    known = all(group.targets is not None for group in groups)

    @torch.no_grad()
    def examine(model: TinyConv) -> Examination:
        predictions: dict[int, np.ndarray] = {}
        losses = []
        for group in groups:
            logits = model(group.inputs)
            predictions |= zip(group.indices, logits.argmax(dim=1).cpu().numpy(), strict=True)
            if known:
                losses += cell_loss(logits, group.targets).tolist()
        ordered = tuple(predictions[i] for i in range(len(pairs)))
        scores = tuple(score(p, pair) for p, pair in zip(ordered, pairs, strict=True) if known)
        return Examination(ordered, scores, sum(losses) / len(losses) if losses else math.nan)

    return examine
