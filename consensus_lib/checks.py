"""Is the recorded gradient right? For tests, students and authors of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consensus_lib.preconditions import require_one_loss_per_example
from consensus_lib.recording import record
from consensus_lib.statistics import (
    Agreed,
    Least,
    Stack,
    Statistic,
    Sum,
    Touched,
    Unopposed,
    Votes,
)

__all__ = ["GradientCheck", "GradientMismatch", "check_gradients"]

_CHECKED: tuple[Statistic, ...] = (
    Sum(),
    Votes(),
    Touched(),
    Least(),
    Agreed(),
    Unopposed(),
)


class GradientMismatch(AssertionError):  # noqa: N818 - it is a failed check, not a fault
    """The recorded gradients are not those of ordinary backward passes."""


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` compared, all of it equal.

    Attributes:
        examples: how many examples.
        parameters: the names of the trainable parameters.
    """

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
    devices = sorted({p.device.index for p in parameters.values() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices):
            seed = torch.initial_seed()
            torch.manual_seed(seed)
            with record(model) as tape:
                losses = loss_fn(model(inputs), targets)
            tape._prove = False  # a wrong layer rule shall be seen here, not worked around
            recorded = tape.statistics(losses, frozenset(_CHECKED))
            torch.manual_seed(seed)
            expected = _one_backward_an_example(model, loss_fn, inputs, targets)
            _require_examples_apart(model, loss_fn, inputs, targets, seed)
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    for name, stack in expected.items():
        _require_equal(name, recorded.by_parameter[name], stack)
    return GradientCheck(len(losses), tuple(parameters))


def _one_backward_an_example(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
) -> dict[str, Tensor]:
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    kept = {name: p.grad for name, p in trainable.items()}
    rows: dict[str, list[Tensor]] = {name: [] for name in trainable}
    try:
        losses = loss_fn(model(inputs), targets)
        for i in range(len(losses)):
            for p in trainable.values():
                p.grad = None
            losses[i].backward(retain_graph=True)
            for name, p in trainable.items():
                rows[name].append(torch.zeros_like(p) if p.grad is None else p.grad.to_dense())
    finally:
        for name, p in trainable.items():
            p.grad = kept[name]
    return {name: torch.stack(gradients) for name, gradients in rows.items()}


@torch.no_grad()
def _require_examples_apart(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    seed: int,
) -> None:
    together = []
    for other_seed in (seed, seed + 1):
        torch.manual_seed(other_seed)
        together.append(loss_fn(model(inputs), targets))
    if not torch.equal(*together):
        return  # random: alone, an example would draw other dropout masks
    for i, in_batch in enumerate(together[0]):
        alone = loss_fn(model(inputs[i : i + 1]), targets[i : i + 1])
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
