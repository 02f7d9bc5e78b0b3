"""Are the streamed gradients the ordinary ones? Asked once for each kind of recording.

Examples get weights w_i, all different, and the streamed sum_i w_i g_i is compared with one
ordinary backward pass of sum_i w_i loss_i. Rows that belong to other examples than assumed, and
uses of a parameter that were missed, cannot give the same sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from consensus_lib.calls import Component, Order, chunks
from consensus_lib.folding import stacks
from consensus_lib.graph import Graph
from consensus_lib.streaming import stream

__all__ = ["failed_parameters"]

# For each model, the kinds of recording that have been proved, and the parameters that failed.
_PROOFS: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], set[str]]] = WeakKeyDictionary()

# Relative, and as a share of the largest gradient: wide enough for rounding, far too narrow for a
# missed use or a row of another example.
_TOLERANCE = {torch.float64: (1e-8, 1e-12), torch.float32: (1e-3, 1e-5)}


def failed_parameters(
    model: nn.Module,
    losses: Tensor,
    graph: Graph,
    parts: Sequence[Component],
    parameters: dict[str, nn.Parameter],
    chunk_floats: int,
) -> set[str]:
    """The parameters whose streamed gradients are not the ordinary ones, by name.

    Args:
        model: whose recording it is; recordings of a kind that is known are not looked at.
        losses: (B,), with their graph, which is kept.
        graph: of the losses.
        parts: the components to prove.
        parameters: {name: parameter}, at least those of the parts.
        chunk_floats: how many numbers may be materialised at a time.
    """
    calls = [call for part in parts for call in part.calls]
    kind = tuple(
        (id(c.module), c.first, c.inputs.dim(), c.size in c.inputs.shape[1:]) for c in calls
    )
    proofs = _PROOFS.setdefault(model, {})
    if kind in proofs:
        return proofs[kind]
    names = [name for part in parts for name in part.shapes]
    weights = 0.5 + (torch.arange(len(losses), device=losses.device) * 0.618034) % 1
    gradients = torch.autograd.grad(
        losses, [parameters[n] for n in names], weights.to(losses.dtype), retain_graph=True
    )
    expected = dict(zip(names, gradients, strict=True))
    comparison = _Comparison(expected, weights.double(), chunk_floats)
    stream(losses, graph, parts, comparison.take, keep_graph=True)
    failed = comparison.failed()
    if not comparison.empty:  # 0 = 0 proves nothing
        proofs[kind] = failed
    return failed


class _Comparison:
    """Compares component by component, so that no more than one is held in double precision."""

    def __init__(self, expected: dict[str, Tensor], weights: Tensor, chunk_floats: int) -> None:
        self._expected = expected
        self._weights = weights
        self._order = Order(len(weights))
        self._chunk_floats = chunk_floats // 6  # for double precision, and for copies
        # for each parameter: the largest difference, magnitude and ordinary gradient
        self._found: dict[str, Tensor] = {}
        self._precision: dict[str, torch.dtype] = {}
        self.empty = False

    def take(self, part: Component) -> None:
        sizes = [shape.numel() for shape in part.shapes.values()]
        total = scale = 0
        for rows in chunks(
            len(self._weights), max(1, self._chunk_floats // part.floats_per_example)
        ):
            (stack,) = stacks([part], self._order, rows, together=True)
            stack = stack.double() * self._weights[rows, None]
            total = total + stack.sum(dim=0)
            scale = scale + stack.abs_().sum(dim=0)
        for name, ours, size in zip(
            part.shapes, total.split(sizes), scale.split(sizes), strict=True
        ):
            theirs = self._expected[name].to_dense().flatten()
            # under autocast the ordinary gradient was rounded as the outputs were
            dtypes = (theirs.dtype, *(call.grads.dtype for call in part.calls))
            self._precision[name] = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
            theirs = theirs.double()
            self._found[name] = torch.stack(
                [(ours - theirs).abs().amax(), size.amax(), theirs.abs().amax()]
            )
        for call in part.calls:
            call.grads = None

    def failed(self) -> set[str]:
        """The parameters that differ; looked at together, so that the device is waited for once."""
        found = torch.stack(list(self._found.values())).tolist()
        # those that are zero but for rounding (a bias before a softmax) are judged by the others
        noise = max(scale for _, scale, _ in found)
        self.empty = not all(greatest for _, _, greatest in found)
        wrong = set()
        for name, (gap, scale, _) in zip(self._found, found, strict=True):
            relative, absolute = _TOLERANCE.get(self._precision[name], (0.1, 0.01))
            if not gap <= relative * scale + absolute * noise:
                wrong.add(name)
        return wrong
