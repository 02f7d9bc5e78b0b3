"""The training loop: zero the gradients, one backward by the rule, one step of the optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from consensus_lib.recording import Voters, backward
from consensus_lib.report import Report
from consensus_lib.rules import Rule

__all__ = ["Diverged", "History", "stop_at_loss", "train"]


@dataclass(repr=False)
class History:
    """What a training run saw; entry t of each list is of the weights before step t.

    Attributes:
        loss: mean training loss.
        consensus_ratio: share of all weights with consensus.
        live_consensus_ratio: the same among weights at which any voter's gradient is not zero.
        update_ratio: share of all weights that the rule's update moves.
        floor: the coin-flip floor 2^(1-N).
        seconds: wall time since the start of the run.
        stopped: why the run ended: "steps" (all done), "stop" or "diverged".
    """

    loss: list[float] = field(default_factory=list)
    consensus_ratio: list[float] = field(default_factory=list)
    live_consensus_ratio: list[float] = field(default_factory=list)
    update_ratio: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stopped: str = "steps"

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        losses = f", loss {self.loss[0]:.4g} to {self.loss[-1]:.4g}" if self.loss else ""
        return f"{type(self).__name__}({len(self)} steps{losses}, ended by {self.stopped!r})"

    def first_step_at(self, loss: float) -> int | None:
        """The first step whose training loss is at most `loss`; None if none is."""
        return next((t for t, value in enumerate(self.loss) if value <= loss), None)

    def append(self, report: Report, seconds: float) -> None:
        """Add one step."""
        self.loss.append(report.loss)
        self.consensus_ratio.append(report.consensus_ratio)
        self.live_consensus_ratio.append(report.total.live_consensus_ratio)
        self.update_ratio.append(report.update_ratio)
        self.floor.append(report.floor)
        self.seconds.append(seconds)


class Diverged(FloatingPointError):  # noqa: N818 - named for what the run did
    """A loss or gradient was not finite.

    Attributes:
        history: the steps before it; the weights are those of the failed step.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history

    def __reduce__(self) -> tuple[type[Diverged], tuple[str, History]]:
        return Diverged, (str(self), self.history)  # to come back whole from another process


def stop_at_loss(loss: float) -> Callable[[History], bool]:
    """A `stop` for `train`: end the run at the first training loss of at most `loss`."""
    return lambda history: history.loss[-1] <= loss


def train(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor | Sequence[Tensor],
    targets: Tensor | Sequence[Tensor],
    rule: Rule,
    optimizer: torch.optim.Optimizer,
    steps: int,
    voters: Voters | None = None,
    on_step: Callable[[int, Report], None] | None = None,
    stop: Callable[[History], bool] | None = None,
) -> History:
    """Train on the whole batch for some steps.

    Args:
        model: the model, trained in place and left in its mode (train or eval).
        loss_fn: (outputs, targets) -> one loss an example, (B,).
        inputs: (B, ...), or a list of groups of different shapes.
        targets: as inputs.
        rule: how to reduce the voters.
        optimizer: any torch optimizer over the model's parameters; to keep weights without an
            update in place, give it to `hold_masked_weights` first.
        steps: how many steps, >= 1.
        voters: one integer id an example; None makes every example a voter.
        on_step: called as on_step(t, report) after the backward pass of step t, while the
            model still has the weights that the report speaks of.
        stop: called as stop(history) after on_step; true ends the run before the weights move.

    Returns:
        The history of the run.

    Raises:
        Diverged: when a loss or gradient is not finite; it carries the history.
        ValueError: as `backward`, or for steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps is at least 1, not {steps}")
    history = History()
    begin = time.perf_counter()
    for step in range(steps):
        optimizer.zero_grad()
        try:
            report = backward(model, loss_fn, inputs, targets, rule, voters)
        except FloatingPointError as error:
            history.stopped = "diverged"
            raise Diverged(f"step {step}: {error}", history) from error
        history.append(report, time.perf_counter() - begin)
        if on_step is not None:
            on_step(step, report)
        if stop is not None and stop(history):
            history.stopped = "stop"
            break
        optimizer.step()
    return history
