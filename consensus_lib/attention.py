"""nn.MultiheadAttention: its two projections are Linear, and the graph knows what they were given.

Hooks on its output projection never fire, for the module reads the weights itself. But in the graph
stand the two matrix products with these weights, and what each was multiplied with is saved there.
So masks and dropout are what they were, nothing is computed again, and nothing more is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from consensus_lib.layers import Use, layer_reader, linear

__all__ = ["projections"]

# by the name of the operation, where it saves the left factor of its matrix product
_LEFT_FACTORS = {"AddmmBackward0": "_raw_saved_mat1", "MmBackward0": "_raw_saved_self"}
_VIEWS = {"TBackward0", "TransposeBackward0", "ToCopyBackward0"}


@layer_reader(nn.MultiheadAttention)
def projections(
    module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> list[Use]:
    """The uses of in_proj_weight (3d, d), out_proj.weight (d, d) and their biases, where found.

    Not found are the weights of attention between sequences, and what was checkpointed.
    """
    query = args[0] if args else kwargs["query"]
    if query.dim() != 3 or output[0].grad_fn is None:
        return []
    size, steps = query.shape[:2] if module.batch_first else (query.shape[1], query.shape[0])
    weights = {"out_proj": module.out_proj.weight, "in_proj": module.in_proj_weight}
    names = {"out_proj": "out_proj.{}", "in_proj": "in_proj_{}"}
    behind = {
        tensor.grad_fn for tensor in (*args[:3], *kwargs.values()) if isinstance(tensor, Tensor)
    }
    uses = []
    for node in _nodes(output[0].grad_fn, behind):
        for name, weight in weights.items():
            factor = _left_factor(node, weight, size * steps)
            if factor is not None:
                local = {of: names[name].format(of) for of in ("weight", "bias")}
                rows = partial(_rows, size=size)
                uses.append(Use(linear, rows(factor), GradientEdge(node, 0), local, rows))
    return uses


def _rows(products: Tensor, size: int) -> Tensor:
    """(T * B, d), as the module lays them out, to (B, T, d)."""
    return products.unflatten(0, (-1, size)).transpose(0, 1)


def _nodes(start: Node, behind: set[Node | None]) -> Iterator[Node]:
    """The operations from `start` back to those `behind`."""
    met = {start, *behind}
    waiting = [start]
    while waiting:
        node = waiting.pop()
        yield node
        parents = {parent for parent, _ in node.next_functions if parent is not None} - met
        met |= parents
        waiting += parents


def _left_factor(node: Node, weight: Tensor | None, rows: int) -> Tensor | None:
    """What a matrix product with the weight multiplied it with, (rows, d); None for other nodes."""
    if (attribute := _LEFT_FACTORS.get(node.name())) is None:
        return None
    of = node.next_functions[-1][0]
    while of is not None and of.name() in _VIEWS:
        of = of.next_functions[0][0]
    saved = getattr(node, attribute)
    # what is packed away, as a checkpoint does it, can be unpacked once only, and not by us
    if getattr(of, "variable", None) is not weight or saved.unpack_hook is not None:
        return None
    return saved.data if saved.data.shape[:1] == (rows,) else None
