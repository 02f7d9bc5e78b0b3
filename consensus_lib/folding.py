"""From gradients to statistics: made a chunk at a time, folded, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from consensus_lib.calls import Component, Examples, Order, chunks
from consensus_lib.linear import outer_product_statistics
from consensus_lib.statistics import Piece, RunningStatistics, Statistic, widened

__all__ = ["Folder", "stacks"]

_FACTORISE = 2**16  # below so many numbers, to make them takes less time than to avoid them


class Folder:
    """Folds components as their gradients arrive.

    A large component is folded at once, a chunk of examples at a time. Small ones wait until
    together they fill a chunk, for a hundred small operations cost more than ten large ones.
    """

    def __init__(
        self,
        needs: frozenset[Statistic],
        batch_size: int,
        groups: Sequence[Tensor] | None,
        chunk_floats: int,
        give: Callable[[Piece], None],
    ) -> None:
        """Make a folder.

        Args:
            needs: which statistics.
            batch_size: B.
            groups: for each voter its examples; None: each example is a voter.
            chunk_floats: about how many numbers may be materialised at a time.
            give: called with each piece that is ready.
        """
        self._needs = needs
        self._batch_size = batch_size
        self._order = Order(batch_size, groups)
        parts = frozenset().union(*(need.made_of for need in needs))
        self._temporaries = max(part.temporaries for part in parts)
        self._chunk_floats = chunk_floats
        self._give = give
        self._waiting: list[Component] = []
        self._ready: dict[str, Tensor] = {}
        self._waiting_floats = 0

    def take(self, part: Component) -> None:
        """Fold a component, now or soon, and forget its tensors."""
        floats = self._batch_size * self._floats_per_example(part)
        if floats > _FACTORISE and self._factorises(part):
            self._fold_linear(part)
            part.forget()
        elif floats > self._chunk_floats:
            self._fold(part)
            part.forget()
        else:
            self._make_room(floats)
            self._waiting.append(part)

    def finish(self) -> None:
        """Fold what still waits."""
        if not (self._waiting or self._ready):
            return
        everybody = slice(0, self._order.voters)
        rows = [self._order.by_voter(stack, everybody) for stack in self._ready.values()]
        if self._waiting:
            rows = [*self._stacks(self._waiting, everybody, together=True), *rows]
        shapes = {name: shape for part in self._waiting for name, shape in part.shapes.items()}
        shapes |= {name: stack.shape[1:] for name, stack in self._ready.items()}
        fold = RunningStatistics(self._needs)
        fold.add(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0])
        self._give(Piece(shapes, fold.answers()))
        for part in self._waiting:
            part.forget()
        self._waiting, self._ready, self._waiting_floats = [], {}, 0

    def _make_room(self, floats: int) -> None:
        if self._waiting_floats + floats > self._chunk_floats:
            self.finish()
        self._waiting_floats += floats

    def _floats_per_example(self, part: Component) -> int:
        weights = sum(shape.numel() for shape in part.shapes.values())
        return part.floats_per_example + self._temporaries * weights

    def _factorises(self, part: Component) -> bool:
        """Whether a component is a Linear layer of which all that is needed factorises."""
        call = part.calls[0]
        plain = type(call.module) is nn.Linear and len(part.calls) == 1 and call.inputs.dim() == 2
        every_example_votes = call.size == self._batch_size == self._order.voters
        return plain and every_example_votes

    def _fold_linear(self, part: Component) -> None:
        """Fold a Linear layer without its per-example gradients, so far as that is a gain."""
        call = part.calls[0]
        inputs, grads = widened(call.inputs), widened(call.grads)
        by_local = {local: name for local, name in call.names.items() if name in part.shapes}
        if (name := by_local.get("weight")) is not None:
            chunk = self._chunk_floats // (1 + self._temporaries)
            answers = outer_product_statistics(inputs, grads, self._needs, chunk)
            self._give(Piece({name: part.shapes[name]}, answers))
        if (name := by_local.get("bias")) is not None:
            if grads.numel() > _FACTORISE:
                fold = RunningStatistics(self._needs)
                fold.add(grads)
                self._give(Piece({name: part.shapes[name]}, fold.answers()))
            else:
                self._make_room(grads.numel() * (1 + self._temporaries))
                self._ready[name] = grads

    def _fold(self, part: Component) -> None:
        """Fold the parameters of a component, each by itself, a chunk of voters at a time."""
        folds = [RunningStatistics(self._needs) for _ in part.shapes]
        floats = self._floats_per_example(part) * self._order.most
        for voters in chunks(self._order.voters, max(1, self._chunk_floats // floats)):
            found = self._stacks([part], voters, together=False)
            for fold, stack in zip(folds, found, strict=True):
                fold.add(stack)
        for fold, (name, shape) in zip(folds, part.shapes.items(), strict=True):
            self._give(Piece({name: shape}, fold.answers()))

    def _stacks(self, parts: Sequence[Component], voters: slice, together: bool) -> list[Tensor]:
        """The gradients of some voters; see `stacks`."""
        found = stacks(parts, self._order, self._order.places(voters), together)
        return [self._order.by_voter(stack, voters) for stack in found]


def stacks(parts: Sequence[Component], order: Order, places: slice, together: bool) -> list[Tensor]:
    """The per-example gradients of all parameters of some components.

    Args:
        parts: the components, with the gradients of their outputs.
        order: the order of the examples.
        places: the places of n examples in it.
        together: whether the parameters shall lie side by side.

    Returns:
        (n, size) for each parameter in the order in which the components name them; or,
        together, the one tensor (n, sum of sizes).
    """
    blocks: list[tuple[Examples, list[Tensor]]] = []
    for run in sorted({run for part in parts for run in part.runs}):
        there, rows = order.rows(places, *run, device=parts[0].calls[0].grads.device)
        cells = [cell for part in parts for cell in _cells(part, run, rows)]
        blocks.append((there, [torch.cat(cells, dim=1)] if together and len(cells) > 1 else cells))
    columns = zip(*(block for _, block in blocks), strict=True)
    size = places.stop - places.start
    return [_joined(size, [there for there, _ in blocks], column) for column in columns]


def _cells(part: Component, run: tuple[int, int], rows: Examples) -> list[Tensor]:
    """(n, size) for each parameter of a component, for some rows of a run."""
    size = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    found = part.gradients(run, rows) if size else {}  # a chunk may miss a group altogether
    if len(found) < len(part.shapes):  # a layer that these examples did not visit
        none = widened(part.calls[0].grads).new_zeros
        found = {name: none(size, *shape) for name, shape in part.shapes.items()} | found
    return [found[name].reshape(size, shape.numel()) for name, shape in part.shapes.items()]


def _joined(size: int, places: Sequence[Examples], blocks: Sequence[Tensor]) -> Tensor:
    """The blocks of all runs at their places, and zeros where there is none."""
    if sum(map(len, blocks)) == size and all(isinstance(place, slice) for place in places):
        return torch.cat(blocks) if len(blocks) > 1 else blocks[0]
    stack = blocks[0].new_zeros(size, *blocks[0].shape[1:])
    for place, block in zip(places, blocks, strict=True):
        stack[place] = block
    return stack
