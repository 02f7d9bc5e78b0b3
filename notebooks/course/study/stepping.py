"""One optimizer for several networks: their weights are the rows of one parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from consensus_lib.statistics import Agreed, Stack
from consensus_lib.updates import hold_masked_weights
from course.study.plan import Setting

__all__ = ["ScaledStepper", "Stepper", "SteppingRule"]


class SteppingRule(Protocol):
    """What moves the weights (S, P) of S networks."""

    weights: Tensor

    def move(self, update: Tensor, stack: Stack) -> None:
        """Take one step, in place, given the rule's updates (S, P) and the gradients."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these networks only; `weights` is then another tensor."""


class Stepper:
    """Moves by the optimizer of the setting."""

    def __init__(self, weights: Tensor, setting: Setting, learning_rate: float) -> None:
        self._parameter = nn.Parameter(weights)
        if setting.optimizer == "sgd":
            self._optimizer: torch.optim.Optimizer = torch.optim.SGD(
                [self._parameter], lr=learning_rate, weight_decay=setting.weight_decay
            )
        else:
            self._optimizer = torch.optim.AdamW(
                [self._parameter], lr=learning_rate, weight_decay=setting.weight_decay
            )
        if setting.hold_masked:
            hold_masked_weights(self._optimizer)

    @property
    def weights(self) -> Tensor:
        """The weights (S, P)."""
        return self._parameter.detach()

    def move(self, update: Tensor, stack: Stack) -> None:
        """See `SteppingRule.move`."""
        self._parameter.grad = update
        self._optimizer.step()

    def keep(self, rows: Sequence[int]) -> None:
        """See `SteppingRule.keep`."""
        self._parameter.data = self._parameter.data[rows]
        state = self._optimizer.state[self._parameter]
        for name, value in state.items():
            if value.dim():  # the count of steps is common to all
                state[name] = value[rows]


class ScaledStepper:
    """Control: the mean's step from here, made as long as the step of consensus from here.

    Both optimizers see their own rule's gradients at the weights on the way, and each network
    moves along the first step by the length of the second: how far, without which weights.
    """

    def __init__(self, weights: Tensor, setting: Setting, learning_rate: float) -> None:
        self.weights = weights.clone()
        self._along = Stepper(weights.clone(), setting, learning_rate)
        self._as_long_as = Stepper(weights.clone(), setting, learning_rate)

    def move(self, update: Tensor, stack: Stack) -> None:
        """See `SteppingRule.move`."""
        direction = self._step(self._along, update, stack)
        length = self._step(self._as_long_as, stack[Agreed()], stack).norm(dim=1)
        norm = direction.norm(dim=1)
        scale = torch.where(norm > 0, length / norm, 0.0)
        self.weights += scale[:, None] * direction

    def _step(self, stepper: Stepper, update: Tensor, stack: Stack) -> Tensor:
        stepper.weights.copy_(self.weights)
        stepper.move(update, stack)
        return stepper.weights - self.weights

    def keep(self, rows: Sequence[int]) -> None:
        """See `SteppingRule.keep`."""
        self.weights = self.weights[rows]
        self._along.keep(rows)
        self._as_long_as.keep(rows)
