"""One backward pass that hands over each layer's gradient when it comes by, and keeps none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from consensus_lib.calls import Call, Component
from consensus_lib.graph import Graph
from consensus_lib.preconditions import voter_of
from consensus_lib.statistics import not_finite

__all__ = ["OutputCheck", "stream"]


def stream(
    losses: Tensor,
    graph: Graph,
    parts: Sequence[Component],
    take: Callable[[Component], None],
    keep_graph: bool,
) -> None:
    """Differentiate the summed losses by the outputs of all calls.

    What lies behind the earliest layers is not computed, nor are the gradients of weights. So
    far as nobody else holds them, activations are freed as the pass goes on, as in an ordinary
    one.

    Args:
        losses: (B,).
        graph: of the losses.
        parts: the components; each call must lie on the way to the losses.
        take: called with a component as soon as all its calls know their `grads`.
        keep_graph: whether another backward pass will follow.
    """
    missing = {id(part): len(part.calls) for part in parts}

    def arrive(part: Component, call: Call, gradient: Tensor) -> None:
        call.arrive(gradient)
        missing[id(part)] -= 1
        if not missing[id(part)]:
            take(part)

    def passed(part: Component, call: Call, gradients: tuple[Tensor, ...]) -> None:
        arrive(part, call, gradients[call.edge.output_nr])

    calls = [(part, call) for part in parts for call in part.calls]
    earliest = graph.earliest(call.edge.node for _, call in calls)
    last = [(part, call) for part, call in calls if call.edge.node in earliest]
    hooks = [
        call.edge.node.register_prehook(partial(passed, part, call))
        for part, call in calls
        if call.edge.node not in earliest
    ]
    try:
        gradients = torch.autograd.grad(
            losses.sum(), [call.edge for _, call in last], retain_graph=keep_graph
        )
    finally:
        for hook in hooks:
            hook.remove()
    for (part, call), gradient in zip(last, gradients, strict=True):
        arrive(part, call, gradient)


class OutputCheck:
    """Looks for a nan or inf in the gradients of outputs, at the price of a sum."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._calls: list[Call] = []

    def look(self, part: Component) -> None:
        """Remember the row sums of a component's calls: one that is not finite spoils its sum."""
        for call in part.calls:
            dtype = torch.promote_types(call.grads.dtype, torch.float32)
            self._sums.append(call.grads.reshape(call.size, -1).sum(dim=1, dtype=dtype))
            self._calls.append(call)

    def require_finite(self, groups: Sequence[Tensor] | None) -> None:
        """Raise FloatingPointError naming parameter and voter, unless all sums are finite.

        Args:
            groups: for each voter its examples; None: each example is a voter.
        """
        if not self._sums or torch.cat(self._sums).isfinite().all():
            return
        # the backward pass met the last layers first; the first bad one is where it began
        for call, sums in zip(self._calls, self._sums, strict=True):
            bad = ~sums.isfinite()
            if bad.any():
                voter = voter_of(bad.nonzero().flatten() + call.first, groups)
                raise not_finite(next(iter(call.names.values())), voter)
