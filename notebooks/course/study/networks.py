"""Several networks of one shape at once: logits and the gradient of every example, by hand.

Convolutions are matrix products here: all cells of all examples stand below each other, M rows,
and a 3x3 convolution multiplies, for each cell, the channels of its nine neighbours. So grids of
different sizes share one product, and S networks share one call. The numbers are those of
`course.arc.TinyConv` and autograd to rounding, many times sooner where grids are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from course.arc import Pair, TinyConv
from course.arc.encoding import N_CHANNELS
from course.arc.tasks import N_COLOURS

__all__ = ["Architecture", "Cells", "Networks"]

TAPS = 9


class Cells:
    """The cells of N pairs with known outputs, M in all, pair after pair and row after row.

    Either all networks see the same pairs (R = 1), or each of R networks its own; those have
    the same shapes then, so that the cells lie alike.

    Attributes:
        count: M.
        pairs: N slices of the M cells.
        targets: int64 (R, M), the colours wanted.
        inputs: int64 (R, M), the colours given.
        shares: (N, M), 1 / (number of cells of the pair) at its own cells, else 0.
        neighbours: int64 (M, 9), the numbers of the cells around, M where the grid ends.
        columns: (R, M, 99), what the first convolution sees.

    Raises:
        ValueError: if the pairs of two networks differ in number or shape.
    """

    def __init__(self, *pairs_of: Sequence[Pair]) -> None:
        shapes = {tuple(pair.input.shape for pair in pairs) for pairs in pairs_of}
        if len(shapes) != 1:
            raise ValueError(f"networks side by side see grids of the same shapes, not {shapes}")
        own_shapes = shapes.pop()
        sizes = [height * width for height, width in own_shapes]
        ends = torch.tensor(sizes).cumsum(0).tolist()
        self.count = ends[-1]
        self.pairs = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self.targets = _flat([[pair.output for pair in pairs] for pairs in pairs_of])
        self.inputs = _flat([[pair.input for pair in pairs] for pairs in pairs_of])
        self.shares = torch.zeros(len(sizes), self.count)
        for row, own, size in zip(self.shares, self.pairs, sizes, strict=True):
            row[own] = 1 / size
        self.neighbours = torch.cat(
            [
                _neighbours(shape, own.start, outside=self.count)
                for shape, own in zip(own_shapes, self.pairs, strict=True)
            ]
        )
        channels = functional.one_hot(self.inputs, N_COLOURS)
        channels = functional.pad(channels, (0, 1), value=1)  # a channel of ones, as encode_grid
        padded = functional.pad(channels.to(self.shares.dtype), (0, 0, 0, 1))
        self.columns = padded[:, self.neighbours].flatten(start_dim=2)

    @property
    def changed(self) -> Tensor:
        """bool (R, M), whether the colour wanted differs from the one given."""
        return self.inputs != self.targets

    def keep(self, rows: Sequence[int]) -> Cells:
        """The cells of these networks only."""
        if len(self.targets) == 1:
            return self
        kept = copy(self)
        kept.targets, kept.inputs = self.targets[rows], self.inputs[rows]
        kept.columns = self.columns[rows]
        return kept


def _flat(grids: Sequence[Sequence[np.ndarray]]) -> Tensor:
    return torch.tensor(np.stack([np.concatenate([g.ravel() for g in own]) for own in grids]))


def _neighbours(shape: tuple[int, ...], first: int, outside: int) -> Tensor:
    height, width = shape
    numbers = torch.full((height + 2, width + 2), outside)
    numbers[1:-1, 1:-1] = torch.arange(first, first + height * width).view(height, width)
    return numbers.unfold(0, 3, 1).unfold(1, 3, 1).reshape(height * width, TAPS)


@dataclass(frozen=True)
class _Layer:
    """Where a layer's weights (taps, inputs, outputs) and biases (outputs) lie among all P."""

    taps: int
    inputs: int
    outputs: int
    start: int

    @property
    def middle(self) -> int:
        return self.start + self.taps * self.inputs * self.outputs

    @property
    def end(self) -> int:
        return self.middle + self.outputs

    def weight(self, flat: Tensor) -> Tensor:
        """(S, P) to a view (S, taps * inputs, outputs)."""
        return flat[:, self.start : self.middle].view(len(flat), -1, self.outputs)

    def bias(self, flat: Tensor) -> Tensor:
        """(..., P) to a view (..., outputs)."""
        return flat[..., self.middle : self.end]


@dataclass(frozen=True)
class Architecture:
    """A TinyConv of this width and depth, whose P weights stand in one row."""

    width: int = 32
    depth: int = 3

    @cached_property
    def layers(self) -> tuple[_Layer, ...]:
        """Its convolutions, first to last, in the order in which they lie among the P weights."""
        shapes = [(TAPS, N_CHANNELS, self.width)]
        shapes += [(TAPS, self.width, self.width)] * (self.depth - 1)
        shapes += [(1, self.width, N_COLOURS)]
        layers: list[_Layer] = []
        for shape in shapes:
            layers.append(_Layer(*shape, start=layers[-1].end if layers else 0))
        return tuple(layers)

    @property
    def size(self) -> int:
        """The number of weights, P."""
        return self.layers[-1].end

    def first_weights(self, seeds: Sequence[int]) -> Tensor:
        """The weights (S, P) with which `course.arc.fit` starts for these seeds."""
        rows = []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = TinyConv(self.width, self.depth)
            rows.append(self.from_tensors([p.detach() for p in model.parameters()]))
        return torch.stack(rows)

    def tensors(self, flat: Tensor) -> list[Tensor]:
        """(..., P) as the parameters of a TinyConv, each (..., *shape), in the model's order."""
        parts = []
        for layer in self.layers:
            side = 3 if layer.taps == TAPS else 1
            shape = (*flat.shape[:-1], side, side, layer.inputs, layer.outputs)
            by_tap = flat[..., layer.start : layer.middle].reshape(shape)
            parts += [by_tap.movedim((-1, -2), (-4, -3)), layer.bias(flat)]
        return parts

    def from_tensors(self, tensors: Sequence[Tensor]) -> Tensor:
        """The inverse of `tensors`: parameters, each (..., *shape), to (..., P)."""
        parts = []
        for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
            parts += [weight.movedim((-4, -3), (-1, -2)).flatten(start_dim=-4), bias]
        return torch.cat(parts, dim=-1)


class Networks:
    """S networks on the same cells.

    All memory is taken at the start, since fresh memory costs more than the arithmetic here.
    What a method returns is overwritten by the next call.

    Args:
        architecture: their shape.
        weights: float32 (S, P). Not copied: the networks have whatever stands there.
        cells: the pairs they look at.
    """

    def __init__(self, architecture: Architecture, weights: Tensor, cells: Cells) -> None:
        s, m = len(weights), cells.count
        self.cells = cells
        self._layers = architecture.layers
        self._weights = [layer.weight(weights) for layer in self._layers]
        self._biases = [layer.bias(weights)[:, None] for layer in self._layers]
        hidden = [torch.empty(s, m, layer.outputs) for layer in self._layers[:-1]]
        self._hidden = hidden
        around = [torch.empty(s * m * TAPS, h.shape[2]) for h in hidden[:-1]]
        self._seen = [cells.columns.expand(s, -1, -1)]
        self._seen += [a.view(s, m, -1) for a in around] + [hidden[-1]]
        self._logits = torch.empty(s, N_COLOURS, m)
        self._around = around
        self._padded = torch.zeros(s * (m + 1), architecture.width)
        self._inside = self._padded.view(s, m + 1, -1)[:, :m]
        offsets = torch.arange(s)[:, None] * (m + 1)
        self._lookup = (cells.neighbours.flatten() + offsets).flatten()

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Return the logits, (S, 10, M)."""
        *inner, last = range(len(self._layers))
        for number in inner:
            out = self._hidden[number]
            columns, weight = self._seen[number], self._weights[number]
            torch.baddbmm(self._biases[number], columns, weight, out=out).relu_()
            if number + 1 < last:
                self._inside.copy_(out)
                torch.index_select(self._padded, 0, self._lookup, out=self._around[number])
        return torch.baddbmm(
            self._biases[last].mT, self._weights[last].mT, self._seen[last].mT, out=self._logits
        )

    def log_probabilities(self) -> Tensor:
        """Return the log-probabilities of all colours, (S, 10, M)."""
        return self.logits().log_softmax(dim=1)

    def losses(self, logs: Tensor) -> Tensor:
        """The loss of each pair, (S, N), nats a cell, from log-probabilities (S, 10, M)."""
        wanted = self.cells.targets[:, None].expand(len(logs), 1, -1)
        return -logs.gather(1, wanted)[:, 0] @ self.cells.shares.T


class Differentiable(Networks):
    """S networks that also give the gradient of every pair's loss; arguments as `Networks`."""

    def __init__(self, architecture: Architecture, weights: Tensor, cells: Cells) -> None:
        super().__init__(architecture, weights, cells)
        s, m, n = len(weights), cells.count, len(cells.pairs)
        self._stack = torch.empty(n, s, architecture.size)
        width = architecture.width
        arriving = torch.empty(s, m, width)
        self._arriving = arriving
        self._leaving = torch.empty(s, m, width)
        self._back_around = torch.empty(s * m * TAPS, width)
        backs = [arriving] * (len(self._layers) - 1) + [self._logits.mT]
        # the products to take, one for each pair: (what the layer sees, what comes back, where to)
        self._products = [
            [
                (seen[:, own].mT, back[:, own], layer.weight(gradient))
                for own, gradient in zip(cells.pairs, self._stack, strict=True)
            ]
            for layer, seen, back in zip(self._layers, self._seen, backs, strict=True)
        ]
        self._bias_stacks = [layer.bias(self._stack).transpose(0, 1) for layer in self._layers]
        self._members = (cells.shares > 0).to(cells.shares.dtype).expand(s, -1, -1)
        self._backs = backs
        self._wanted = functional.one_hot(cells.targets, N_COLOURS).mT.to(cells.shares.dtype)
        self._scale = cells.shares.sum(dim=0)
        # back through a convolution, the neighbour to the left becomes the one to the right
        self._lookup_back = self._lookup.view(-1, TAPS).flip(1).flatten()
        self._transposed = [
            torch.empty(s, layer.taps, layer.outputs, layer.inputs) for layer in self._layers[1:]
        ]

    @torch.no_grad()
    def gradients(self) -> tuple[Tensor, Tensor]:
        """The loss of each pair, (S, N), and its gradient, a stack (N, S, P)."""
        logs = self.log_probabilities()
        losses = self.losses(logs)
        torch.exp(logs, out=self._logits).sub_(self._wanted).mul_(self._scale)
        for number in reversed(range(len(self._layers))):
            back = self._backs[number]
            for seen, arriving, gradient in self._products[number]:
                torch.bmm(seen, arriving, out=gradient)
            self._bias_stacks[number].copy_(self._members @ back)
            if number:
                self._carry_back(number, back)
        return losses, self._stack

    def _carry_back(self, number: int, back: Tensor) -> None:
        """From the outputs of a layer to the outputs, before their ReLU, of the one before."""
        layer, transposed = self._layers[number], self._transposed[number - 1]
        weight = self._weights[number].view(-1, layer.taps, layer.inputs, layer.outputs)
        transposed.copy_(weight.mT)
        if layer.taps == TAPS:
            self._inside.copy_(back)
            torch.index_select(self._padded, 0, self._lookup_back, out=self._back_around)
            back = self._back_around.view(*back.shape[:2], -1)
        torch.bmm(back, transposed.flatten(1, 2), out=self._leaving)
        torch.ops.aten.threshold_backward.grad_input(
            self._leaving, self._hidden[number - 1], 0, grad_input=self._arriving
        )
