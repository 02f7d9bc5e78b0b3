"""One optimizer for several networks: their weights are the rows of one parameter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from consensus_lib.questions import Agreed, Stack
from consensus_lib.updates import hold_masked_weights

__all__ = ["Method", "ScaledStepper", "Stepper"]


_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class Method:
    """How a network is trained.

    Attributes:
        rule: a name of `course.study.rules.RULES`.
        learning_rate: of the optimizer.
        weight_decay: of the optimizer; decoupled under "adamw", else added to the gradient.
        held: whether weights without an update stay where they are.
        optimizer: "adamw", "adam", or "sgd" without momentum.
    """

    rule: str
    learning_rate: float
    weight_decay: float = 0.0
    held: bool = False
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"


class Stepper:
    """Moves weights (S, P), in place, by the optimizer of a method."""

    def __init__(self, weights: Tensor, method: Method) -> None:
        self._parameter = nn.Parameter(weights)
        self._optimizer = _OPTIMIZERS[method.optimizer](
            [self._parameter], lr=method.learning_rate, weight_decay=method.weight_decay
        )
        if method.held:
            hold_masked_weights(self._optimizer)

    @property
    def weights(self) -> Tensor:
        """The weights (S, P)."""
        return self._parameter.detach()

    def move(self, update: Tensor, stack: Stack) -> None:
        """Take one step, in place, given the rule's updates (S, P) and the gradients."""
        self._parameter.grad = update
        self._optimizer.step()

    def keep(self, rows: Sequence[int], weights: Tensor) -> None:
        """Go on with these networks only, whose weights stand in this tensor from now on."""
        self._parameter.data = weights
        state = self._optimizer.state[self._parameter]
        for name, value in state.items():
            if value.dim():  # the count of steps is common to all
                state[name] = value[rows]


class ScaledStepper:
    """Control: the mean's step from here, made as long as the step of consensus from here.

    Both optimizers see their own rule's gradients at the weights on the way, and each network
    moves along the first step by the length of the second: how far, without which weights.
    """

    def __init__(self, weights: Tensor, method: Method) -> None:
        self.weights = weights
        self._along = Stepper(weights.clone(), method)
        self._as_long_as = Stepper(weights.clone(), method)

    def move(self, update: Tensor, stack: Stack) -> None:
        """As `Stepper.move`."""
        direction = self._step(self._along, update, stack)
        length = self._step(self._as_long_as, stack[Agreed()], stack).norm(dim=1)
        norm = direction.norm(dim=1)
        scale = torch.where(norm > 0, length / norm, 0.0)
        self.weights += scale[:, None] * direction

    def _step(self, stepper: Stepper, update: Tensor, stack: Stack) -> Tensor:
        stepper.weights.copy_(self.weights)
        stepper.move(update, stack)
        return stepper.weights - self.weights

    def keep(self, rows: Sequence[int], weights: Tensor) -> None:
        """As `Stepper.keep`."""
        self.weights = weights
        self._along.keep(rows, weights.clone())
        self._as_long_as.keep(rows, weights.clone())
