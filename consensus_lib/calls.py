"""Recorded layer calls: per-example gradients from what went in and what came back."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from consensus_lib.layers import Use
from consensus_lib.statistics import widened

__all__ = ["Call", "Component", "Examples", "Order", "chunks", "components"]

Examples = slice | Tensor  # a run of example numbers, or any selection of them (n,)


class Call:
    """One call of a layer.

    Attributes:
        module: the layer.
        rule: its layer rule.
        names: {local name: name in the model} of its trainable parameters.
        inputs: what it was called with, row b for example first + b; None once folded.
        version: how often `inputs` had been changed in place by then.
        edge: where the gradient of its output can be asked for.
        first: the number of the first example.
        size: how many examples.
        view: the operation that made the view of a bare parameter which was used; None for the
            parameter itself, and for layers.
        grads: the gradient of the summed losses by its output, (size, ...), while it is known.
    """

    def __init__(
        self,
        module: nn.Module,
        use: Use,
        names: dict[str, str],
        first: int,
        size: int,
        view: Node | None = None,
    ) -> None:
        self.module, self.rule, self.names = module, use.rule, names
        self.inputs: Tensor | None = use.inputs.detach()
        self.version = use.inputs._version
        self.edge, self._rows = use.edge, use.rows
        self.first, self.size, self.view = first, size, view
        self.grads: Tensor | None = None

    def arrive(self, gradient: Tensor) -> None:
        """Take the gradient that was asked for at the edge."""
        self.grads = gradient if self._rows is None else self._rows(gradient)

    def gradients(self, rows: Examples) -> dict[str, Tensor]:
        """{parameter name: per-example gradients (n, *shape)} for some rows."""
        inputs, grads = self.inputs, self.grads
        if not (isinstance(rows, slice) and rows == slice(0, self.size)):
            inputs, grads = inputs[rows], grads[rows]
        inputs = widened(inputs) if inputs.is_floating_point() else inputs
        found = self.rule(self.module, inputs, widened(grads))
        return {name: found[local] for local, name in self.names.items()}

    def floats_per_example(self) -> int:
        """About how many numbers a row of work takes, the windows of a convolution included."""
        kernel = getattr(self.module, "kernel_size", ())
        windows = math.prod(kernel) if isinstance(kernel, tuple) else 1
        return (self.inputs.numel() * windows + self.grads.numel()) // max(1, self.size)


class Component:
    """Calls that must be looked at together, since they share parameters.

    Attributes:
        calls: the calls.
        shapes: {parameter name: shape} of the parameters that they account for.
        runs: {(first example, how many): the calls that saw them}; runs do not overlap.
    """

    def __init__(self, calls: list[Call], shapes: dict[str, torch.Size]) -> None:
        self.calls = calls
        self.shapes = shapes
        self.runs: dict[tuple[int, int], list[Call]] = {}
        for call in calls:
            self.runs.setdefault((call.first, call.size), []).append(call)

    def gradients(self, run: tuple[int, int], rows: Examples) -> dict[str, Tensor]:
        """{parameter name: (n, *shape)} for some rows of a run, summed over its calls."""
        found: dict[str, Tensor] = {}
        for call in self.runs.get(run, ()):
            for name, gradients in call.gradients(rows).items():
                found[name] = found[name] + gradients if name in found else gradients
        return found

    @cached_property
    def floats_per_example(self) -> int:
        """About how many numbers the per-example gradients of one example take."""
        weights = sum(shape.numel() for shape in self.shapes.values())
        return weights + sum(call.floats_per_example() for call in self.calls)

    def forget(self) -> None:
        """Drop the tensors of the calls, which are not needed any more."""
        for call in self.calls:
            call.inputs = call.grads = None


def components(calls: Iterable[Call], shapes: dict[str, torch.Size]) -> list[Component]:
    """Group calls by the parameters (those of `shapes`) that they share."""
    found: list[Component] = []
    for call in calls:
        own = {name: shapes[name] for name in call.names.values() if name in shapes}
        if not own:
            continue
        touching = [c for c in found if c.shapes.keys() & own.keys()]
        found = [c for c in found if c not in touching]
        earlier = [other for c in touching for other in c.calls]
        for c in touching:
            own = c.shapes | own
        found.append(Component([*earlier, call], own))
    return found


def chunks(count: int, most: int) -> Iterator[slice]:
    """0 ... count in as few slices of at most `most` as will do, as even as can be."""
    size = -(-count // -(-count // most))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class Order:
    """The examples in the order of their voters, so that some voters are a slice of it.

    Attributes:
        voters: how many voters, N.
        most: the examples of the voter who has most.
    """

    def __init__(self, batch_size: int, groups: Sequence[Tensor] | None = None) -> None:
        """Make the order of a batch.

        Args:
            batch_size: B.
            groups: for each voter its examples, on the CPU; None: each example is a voter.
        """
        self._sizes = [1] * batch_size if groups is None else list(map(len, groups))
        self._starts = [0, *accumulate(self._sizes)]
        self._examples = None if groups is None else torch.cat(list(groups))
        self._inside: dict[tuple[int, int, torch.device], tuple[list[int], Tensor, Tensor]] = {}
        self.voters = len(self._sizes)
        self.most = max(self._sizes)

    def places(self, voters: slice) -> slice:
        """The places of the examples of some voters."""
        return slice(self._starts[voters.start], self._starts[voters.stop])

    def rows(
        self, places: slice, first: int, size: int, device: torch.device
    ) -> tuple[Examples, Examples]:
        """Which of the examples at some places lie in first ... first + size.

        Returns:
            Where they stand among these places, and their rows in that run.
        """
        if self._examples is None:
            start = max(places.start, first)
            stop = max(start, min(places.stop, first + size))
            return (
                slice(start - places.start, stop - places.start),
                slice(start - first, stop - first),
            )
        # searched on the CPU and sent once, for a search on a device makes the host wait
        run = (first, size, device)
        if run not in self._inside:
            found = ((self._examples >= first) & (self._examples < first + size)).nonzero()[:, 0]
            rows = self._examples[found] - first
            self._inside[run] = found.tolist(), found.to(device), rows.to(device)
        found, there, rows = self._inside[run]
        start, stop = bisect_left(found, places.start), bisect_left(found, places.stop)
        if stop - start == places.stop - places.start:
            return slice(0, stop - start), rows[start:stop]
        return there[start:stop] - places.start, rows[start:stop]

    def by_voter(self, stack: Tensor, voters: slice) -> Tensor:
        """The mean of each voter's rows, (n, ...), from the rows of all their examples."""
        if self._examples is None:
            return stack
        return torch.stack([rows.mean(dim=0) for rows in stack.split(self._sizes[voters])])
