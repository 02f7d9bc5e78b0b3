"""Descend a landscape from many starts at once, by any rule, with torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

import consensus_lib as cl
from course.toys.landscapes import Landscape

__all__ = ["OPTIMIZERS", "Paths", "descend", "side_by_side"]

Stepper = Callable[[list[Tensor], float], torch.optim.Optimizer]

# foreach joins many tensors into one call; here there is one tensor, and joining costs time.
OPTIMIZERS: Mapping[str, Stepper] = MappingProxyType(
    {
        "SGD": lambda weights, rate: torch.optim.SGD(weights, lr=rate, foreach=False),
        "momentum": lambda weights, rate: torch.optim.SGD(
            weights, lr=rate, momentum=0.9, foreach=False
        ),
        "Adam": lambda weights, rate: torch.optim.Adam(weights, lr=rate, foreach=False),
    }
)


@dataclass(frozen=True, eq=False)
class Paths:
    """Where S descents went in T steps.

    Attributes:
        weights: (T + 1, S, 2), before each step and after the last.
        updates: (T, S, 2), what the rule made of the gradients at each step.
        losses: (T + 1, S, B), of every example, also where a step saw only some of them.
    """

    weights: Tensor
    updates: Tensor
    losses: Tensor

    @property
    def ends(self) -> Tensor:
        """(S, 2), where they are after the last step."""
        return self.weights[-1]

    @property
    def masked(self) -> Tensor:
        """(T, S, 2), true where the rule left a weight without an update."""
        return self.updates == 0


def descend(
    landscape: Landscape,
    starts: Tensor | Sequence[Sequence[float]],
    rule: cl.Rule,
    learning_rate: float = 0.3,
    steps: int = 200,
    optimizer: str = "SGD",
    batches: Sequence[Sequence[int]] | None = None,
) -> Paths:
    """Descend from each start by one rule; arguments and errors as for `side_by_side`."""
    rules = {"": rule}
    return side_by_side(landscape, starts, rules, learning_rate, steps, optimizer, batches)[""]


@torch.no_grad()
def side_by_side(
    landscape: Landscape,
    starts: Tensor | Sequence[Sequence[float]],
    rules: Mapping[str, cl.Rule],
    learning_rate: float = 0.3,
    steps: int = 200,
    optimizer: str = "SGD",
    batches: Sequence[Sequence[int]] | None = None,
) -> dict[str, Paths]:
    """Descend from each start by each rule, for the same number of steps.

    Args:
        landscape: where.
        starts: (S, 2), the first weights.
        rules: {name: how to reduce the gradients}; rules that look at each weight by itself (no
            `RandomMask`, and no rescaling), since all starts are reduced in one call.
        learning_rate: of the optimizer.
        steps: T, at least 0.
        optimizer: a name of `OPTIMIZERS`: plain SGD, SGD with momentum 0.9, or Adam.
        batches: for each step the numbers of the examples that it sees, counted from 0; they
            are taken from the beginning again when used up. None: all examples at every step.

    Raises:
        ValueError: for an unknown optimizer, no rule, or starts of another shape.
        FloatingPointError: when a gradient is no longer finite.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer is one of {list(OPTIMIZERS)}, not {optimizer!r}")
    if not rules:
        raise ValueError("there is no rule to descend by")
    first = torch.as_tensor(starts, dtype=torch.float64)
    if first.dim() != 2 or first.shape[1] != 2:
        raise ValueError(f"starts are a list of pairs (S, 2), not the shape {tuple(first.shape)}")
    # All rules share a call of the gradients and one of the optimizer, which take most of the time.
    weights = first.repeat(len(rules), 1, 1)
    stepper = OPTIMIZERS[optimizer]([weights], learning_rate)
    places = weights.new_empty(steps + 1, *weights.shape)
    updates = weights.new_empty(steps, *weights.shape)
    for step in range(steps):
        places[step] = weights
        gradients = landscape.gradients(weights)
        if batches is not None:
            gradients = gradients[list(batches[step % len(batches)])]
        by_rule = zip(rules.values(), gradients.unbind(dim=1), strict=True)
        weights.grad = torch.stack([rule.reduce(g) for rule, g in by_rule])
        updates[step] = weights.grad
        stepper.step()
    places[steps] = weights
    parts = zip(
        *(x.unbind(dim=1) for x in (places, updates, landscape.losses(places))), strict=True
    )
    return {name: Paths(*part) for name, part in zip(rules, parts, strict=True)}
