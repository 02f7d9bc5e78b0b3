"""What the autograd graph tells: how often each parameter is used on the way to the losses."""

from __future__ import annotations

from collections import Counter

from torch import Tensor

__all__ = ["count_uses"]


def count_uses(losses: Tensor) -> Counter[int]:
    """{id(parameter): how many operations of the graph take it as an input}.

    A layer call that uses its weight once adds one. More than the recorded calls explain means
    that the parameter is also used where no layer rule looks.

    Raises:
        ValueError: for reentrant gradient checkpointing, which hides its part of the graph.
    """
    uses: Counter[int] = Counter()
    seen = {losses.grad_fn}
    waiting = [losses.grad_fn]
    while waiting:
        node = waiting.pop()
        if node.name() == "CheckpointFunctionBackward":
            raise ValueError(
                "reentrant gradient checkpointing hides the graph of its layers: call "
                "torch.utils.checkpoint.checkpoint with use_reentrant=False"
            )
        for parent, _ in node.next_functions:
            if parent is None:
                continue
            leaf = getattr(parent, "variable", None)
            if leaf is not None:
                uses[id(leaf)] += 1
            elif parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return uses
