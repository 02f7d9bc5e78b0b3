"""Recorded layer calls: per-example gradients from what went in and what came back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from consensus_lib.layers import LayerRule
from consensus_lib.statistics import widened

__all__ = ["Call", "Component", "Examples", "chunks", "components", "unproven"]

# Relative, and as a share of the largest gradient: wide enough for rounding, far too narrow for a
# missed use or a row of another example.
_TOLERANCE = {torch.float64: (1e-8, 1e-12), torch.float32: (1e-3, 1e-5)}

Examples = slice | Tensor  # a run of example numbers, or any selection of them (n,)


@dataclass(eq=False)
class Call:
    """One call of a layer.

    Attributes:
        module: the layer.
        rule: its layer rule.
        names: {local name: name in the model} of its trainable parameters.
        inputs: what it was called with, row b for example first + b.
        version: how often `inputs` had been changed in place by then.
        edge: where the gradient of its output can be asked for.
        first: the number of the first example.
        size: how many examples.
        grads: the gradient of the summed losses by its output, once known.
    """

    module: nn.Module
    rule: LayerRule
    names: dict[str, str]
    inputs: Tensor
    version: int
    edge: GradientEdge
    first: int
    size: int
    grads: Tensor | None = None

    def gradients(self, rows: slice | Tensor) -> Iterator[tuple[str, Tensor]]:
        """(parameter name, per-example gradients (n, *shape)) for some rows."""
        inputs = widened(self.inputs[rows]) if self.inputs.is_floating_point() else None
        found = self.rule(
            self.module, self.inputs[rows] if inputs is None else inputs, widened(self.grads[rows])
        )
        for local, name in self.names.items():
            yield name, found[local]

    def rows_of(self, examples: Examples) -> tuple[slice | Tensor, slice | Tensor]:
        """Which of the examples this call saw: (their places in `examples`, its rows)."""
        if isinstance(examples, slice):
            start = max(examples.start, self.first)
            stop = max(start, min(examples.stop, self.first + self.size))
            return (
                slice(start - examples.start, stop - examples.start),
                slice(start - self.first, stop - self.first),
            )
        seen = (examples >= self.first) & (examples < self.first + self.size)
        places = seen.nonzero().flatten()
        return places, examples[places] - self.first

    def floats_per_example(self) -> int:
        """About how many numbers a row of work takes, the windows of a convolution included."""
        kernel = math.prod(getattr(self.module, "kernel_size", (1,)))
        return (self.inputs.numel() * kernel + self.grads.numel()) // max(1, self.size)


@dataclass
class Component:
    """Calls that must be looked at together, since they share parameters.

    Attributes:
        calls: the calls.
        shapes: {parameter name: shape} of the parameters that they account for.
    """

    calls: list[Call]
    shapes: dict[str, torch.Size]

    def stacks(self, examples: Examples) -> dict[str, Tensor]:
        """{parameter name: (n, *shape)}, summed over the calls that saw an example."""
        size = examples.stop - examples.start if isinstance(examples, slice) else len(examples)
        found: dict[str, Tensor] = {}
        for call in self.calls:
            places, rows = call.rows_of(examples)
            alone = len(self.calls) == 1
            for name, gradients in call.gradients(rows):
                if name not in self.shapes:
                    continue
                if alone:
                    found[name] = gradients
                    continue
                if name not in found:
                    found[name] = gradients.new_zeros(size, *self.shapes[name])
                # places are distinct, so that no row is added to twice
                found[name][places] += gradients
        return found

    def floats_per_example(self) -> int:
        """About how many numbers the per-example gradients of one example take."""
        weights = sum(shape.numel() for shape in self.shapes.values())
        return weights + sum(call.floats_per_example() for call in self.calls)


def components(calls: Iterable[Call], shapes: dict[str, torch.Size]) -> list[Component]:
    """Group calls by the parameters (those of `shapes`) that they share."""
    found: list[Component] = []
    for call in calls:
        own = {name: shapes[name] for name in call.names.values() if name in shapes}
        if not own:
            continue
        touching = [c for c in found if c.shapes.keys() & own.keys()]
        found = [c for c in found if c not in touching]
        merged = Component([call], own)
        for c in touching:
            merged.calls = c.calls + merged.calls
            merged.shapes |= c.shapes
        found.append(merged)
    return found


def chunks(count: int, size: int) -> Iterator[slice]:
    """0 ... count in slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def unproven(
    parts: Sequence[Component], expected: dict[str, Tensor], weights: Tensor, chunk_floats: int
) -> set[str]:
    """The parameters whose streamed gradients are not the ordinary ones.

    Args:
        parts: all components of a recording.
        expected: {name: gradient of sum_i weights_i loss_i}, by an ordinary backward pass.
        weights: (B,), different for every example: rows that belong to other examples than
            assumed, and uses of a parameter that were missed, cannot give the same sum.
        chunk_floats: how many numbers may be materialised at a time.

    Returns:
        The names of the parameters that differ.
    """
    total: dict[str, Tensor] = {}
    scale: dict[str, float] = {}
    for part in parts:
        for name in part.shapes:
            total[name] = torch.zeros_like(expected[name], dtype=torch.float64)
            scale[name] = 0.0
        for rows in chunks(len(weights), max(1, chunk_floats // part.floats_per_example())):
            for name, stack in part.stacks(rows).items():
                by_row = weights[rows].double().view(-1, *[1] * (stack.dim() - 1))
                weighted = stack.double() * by_row
                total[name] += weighted.sum(dim=0)
                scale[name] += float(weighted.abs().sum(dim=0).amax())
    # gradients that are zero but for rounding (a bias before a softmax) are judged by the others
    noise = max(scale.values())
    wrong = set()
    for name, gradient in expected.items():
        relative, absolute = _TOLERANCE.get(gradient.dtype, (0.1, 0.01))
        gap = float((total[name] - gradient.double()).abs().amax())
        if not gap <= relative * scale[name] + absolute * noise:
            wrong.add(name)
    return wrong
