"""A model with its loss and a batch: what every contender is given to make one step of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Problem", "Workload", "class_loss", "token_loss"]


@dataclass(frozen=True, eq=False)
class Workload:
    """One batch and what to learn from it.

    Attributes:
        model: in training mode, on the device of the batch.
        loss_fn: (outputs, targets) -> one loss an example, (B,).
        groups: inputs and targets; several pairs where the examples differ in shape.
    """

    model: nn.Module
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    groups: tuple[tuple[Tensor, Tensor], ...]

    @property
    def parameter_bytes(self) -> int:
        """The size of the model."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def losses(self) -> Tensor:
        """One forward pass: the losses of all groups, (B,)."""
        losses = [self.loss_fn(self.model(x), y) for x, y in self.groups]
        return losses[0] if len(losses) == 1 else torch.cat(losses)


@dataclass(frozen=True)
class Problem:
    """A model of the benchmark, for any batch size.

    Attributes:
        title: how tables and figures call it.
        make: (batch, device) -> Workload; the same weights and examples in every process.
        goals: {batch: the most ordinary steps that a consensus step should cost}.
        fixed_batch: the only batch size there is, or None.
        packages: what must be installed besides the course's requirements.
    """

    title: str
    make: Callable[[int, str], Workload]
    goals: dict[int, float]
    fixed_batch: int | None = None
    packages: tuple[str, ...] = ()


def class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of each example: (B, classes), (B,) -> (B,)."""
    return functional.cross_entropy(outputs, targets, reduction="none")


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy over each example's tokens: (B, T, classes), (B, T) -> (B,)."""
    return functional.cross_entropy(outputs.mT, targets, reduction="none").mean(dim=1)
