"""Is the recorded gradient right? For tests, students and authors of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consensus_lib.engine import record
from consensus_lib.preconditions import require_one_loss_per_example
from consensus_lib.statistics import Agreed, Least, Stack, Statistic, Sum, Touched, Unopposed, Votes

__all__ = ["GradientCheck", "GradientMismatch", "check_gradients"]

_CHECKED = (Sum(), Votes(), Touched(), Least(), Agreed(), Unopposed())


class GradientMismatch(AssertionError):  # noqa: N818 - it is a failed check, not a fault
    """The recorded gradients are not those of ordinary backward passes."""


@dataclass(frozen=True)
class GradientCheck:
    """How many examples `check_gradients` compared, at parameters of which names; all equal."""

    examples: int
    parameters: tuple[str, ...]


def check_gradients(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
) -> GradientCheck:
    """Compare the recorded statistics with those of one ordinary backward pass an example.

    Dropout is drawn alike for both. Models without randomness are also checked for examples
    that see each other: alone, each must have the loss it has in the batch. `.grad`, the
    weights, the buffers and torch's random state are as they were afterwards.

    Args:
        model: the model to check, in the mode (train or eval) that matters.
        loss_fn: (outputs, targets) -> one loss an example, (B,).
        inputs: (B, ...), a handful of examples.
        targets: (B, ...).

    Raises:
        GradientMismatch: naming the parameter, the statistic and the largest difference, or
            the example whose loss depends on the others.
        ValueError: as `Tape.statistics`.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = {p.device.index for p in parameters.values() if p.device.type == "cuda"}

    def losses_of(x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(model(x), y)

    try:
        with torch.random.fork_rng(sorted(devices)):
            seed = torch.initial_seed()
            torch.manual_seed(seed)
            with record(model) as tape:
                losses = losses_of(inputs, targets)
            tape.compare = False  # a wrong formula shall be seen here, not worked around
            recorded = tape.statistics(losses, frozenset(_CHECKED))
            torch.manual_seed(seed)
            wanted = list(parameters.values())
            rows = [
                torch.autograd.grad(loss, wanted, retain_graph=True, materialize_grads=True)
                for loss in losses_of(inputs, targets)
            ]
            _require_examples_apart(losses_of, inputs, targets, seed)
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    for name, column in zip(parameters, zip(*rows, strict=True), strict=True):
        stack = torch.stack([g.to_dense() for g in column])
        _require_equal(name, recorded.by_parameter[name], stack)
    return GradientCheck(len(losses), tuple(parameters))


@torch.no_grad()
def _require_examples_apart(
    losses_of: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, seed: int
) -> None:
    together = []
    for other_seed in (seed, seed + 1):
        torch.manual_seed(other_seed)
        together.append(losses_of(inputs, targets))
    if not torch.equal(*together):
        return  # random: alone, an example would draw other dropout masks
    for i, in_batch in enumerate(together[0]):
        alone = losses_of(inputs[i : i + 1], targets[i : i + 1])
        require_one_loss_per_example(alone, batch_size=1)
        if not torch.allclose(alone[0], in_batch, rtol=1e-3, atol=1e-5):
            raise GradientMismatch(
                f"example {i} has the loss {alone[0].item():.6g} alone and {in_batch.item():.6g} "
                "in the batch: a layer or the loss lets examples see each other, so that no "
                "example has a gradient of its own"
            )


def _require_equal(name: str, recorded: Mapping[Statistic, Tensor], stack: Tensor) -> None:
    largest = float(stack.abs().max()) if stack.numel() else 0.0
    noise = (1e-12 if stack.dtype == torch.float64 else 1e-5) * largest
    # The sign of a gradient within rounding noise of 0 says nothing; an exact 0 does.
    certain = ~((stack != 0) & (stack.abs() <= noise)).any(dim=0)
    answers = Stack(stack)
    for statistic in _CHECKED:
        ours, theirs = recorded[statistic].double(), answers[statistic].double()
        close = torch.isclose(ours, theirs, rtol=1e-4, atol=noise) | ~certain
        if not close.all():
            worst = (ours - theirs).abs()[~close].nan_to_num(nan=torch.inf).max().item()
            raise GradientMismatch(
                f"parameter '{name}': {statistic!r} differs at {int((~close).sum())} of "
                f"{close.numel()} weights from one ordinary backward pass an example, by up to "
                f"{worst:.3g}"
            )
