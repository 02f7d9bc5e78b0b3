"""From gradients to statistics: made a chunk at a time, folded, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consensus_lib.calls import Component, Examples, chunks, rows_of
from consensus_lib.factorised import FACTORISED, outer_product_statistics
from consensus_lib.questions import Stack, Statistic
from consensus_lib.statistics import widened

__all__ = ["Fold", "Folder", "Piece", "stacks"]

_FACTORISE = 2**16  # below so many numbers, to make them takes less time than to avoid them


@dataclass(frozen=True)
class Piece:
    """The statistics of some parameters, laid side by side.

    Attributes:
        shapes: {parameter name: shape}, in the order in which they lie.
        answers: {statistic: tensor}, of as many numbers as the parameters have together.
    """

    shapes: dict[str, torch.Size]
    answers: dict[Statistic, Tensor]

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """{parameter name: its part of such a tensor, in its shape}."""
        if len(self.shapes) == 1:
            return {name: tensor.reshape(shape) for name, shape in self.shapes.items()}
        parts = tensor.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def by_parameter(self) -> dict[str, dict[Statistic, Tensor]]:
        """{parameter name: {statistic: tensor of its shape}}."""
        found: dict[str, dict[Statistic, Tensor]] = {name: {} for name in self.shapes}
        for statistic, answer in self.answers.items():
            for name, part in self.split(answer).items():
                found[name][statistic] = part
        return found


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
        self._groups = groups
        parts = frozenset().union(*(need.parts for need in needs))
        self._temporaries = max(part.temporaries for part in parts)
        self._chunk_floats = chunk_floats
        self._give = give
        self._waiting: list[Component] = []
        self._ready: dict[str, Tensor] = {}
        self._waiting_floats = 0

    def take(self, part: Component) -> None:
        """Fold a component, now or soon, and forget its tensors."""
        floats = self._batch_size * self._floats_per_example(part)
        if floats > _FACTORISE and self._shortcut(part):
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
        rows = list(self._ready.values())
        if self._waiting:
            examples = slice(0, self._batch_size) if self._groups is None else self._members()
            rows = [*stacks(self._waiting, examples, together=True), *rows]
        shapes = {name: shape for part in self._waiting for name, shape in part.shapes.items()}
        shapes |= {name: stack.shape[1:] for name, stack in self._ready.items()}
        fold = Fold(self._needs)
        fold.add(self._by_voter(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0], self._groups))
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

    def _members(self) -> Tensor:
        return torch.cat(list(self._groups)).to(self._waiting[0].calls[0].grads.device)

    def _shortcut(self, part: Component) -> bool:
        """Fold a Linear layer without its per-example gradients; False where that is no gain."""
        call = part.calls[0]
        plain = type(call.module) is nn.Linear and len(part.calls) == 1 and call.inputs.dim() == 2
        whole = call.size == self._batch_size and self._groups is None
        if not (plain and whole and self._needs <= FACTORISED):
            return False
        inputs, grads = widened(call.inputs), widened(call.grads)
        by_local = {local: name for local, name in call.names.items() if name in part.shapes}
        if (name := by_local.get("weight")) is not None:
            chunk = self._chunk_floats // (1 + self._temporaries)
            answers = outer_product_statistics(inputs, grads, self._needs, chunk)
            if answers is None:
                return False
            self._give(Piece({name: part.shapes[name]}, answers))
        if (name := by_local.get("bias")) is not None:
            self._make_room(grads.numel() * (1 + self._temporaries))
            self._ready[name] = grads
        return True

    def _fold(self, part: Component) -> None:
        """Fold the parameters of a component, each by itself, a chunk at a time."""
        folds = [Fold(self._needs) for _ in part.shapes]
        floats = self._floats_per_example(part)
        if self._groups is None:
            for rows in chunks(self._batch_size, max(1, self._chunk_floats // floats)):
                for fold, stack in zip(folds, stacks([part], rows, together=False), strict=True):
                    fold.add(stack)
        else:
            floats *= max(map(len, self._groups))
            for few in chunks(len(self._groups), max(1, self._chunk_floats // floats)):
                groups = self._groups[few]
                examples = torch.cat(list(groups)).to(part.calls[0].grads.device)
                for fold, stack in zip(
                    folds, stacks([part], examples, together=False), strict=True
                ):
                    fold.add(self._by_voter(stack, groups))
        for fold, (name, shape) in zip(folds, part.shapes.items(), strict=True):
            self._give(Piece({name: shape}, fold.answers()))

    @staticmethod
    def _by_voter(stack: Tensor, groups: Sequence[Tensor] | None) -> Tensor:
        """The mean of each voter's rows, if voters are groups."""
        if groups is None:
            return stack
        of_each = stack.split([len(group) for group in groups])
        return torch.stack([rows.mean(dim=0) for rows in of_each])


def stacks(parts: Sequence[Component], examples: Examples, together: bool) -> list[Tensor]:
    """The per-example gradients of all parameters of some components.

    Args:
        parts: the components, with the gradients of their outputs.
        examples: n examples.
        together: whether the parameters shall lie side by side.

    Returns:
        (n, size) for each parameter in the order in which the components name them; or,
        together, the one tensor (n, sum of sizes).
    """
    size = examples.stop - examples.start if isinstance(examples, slice) else len(examples)
    blocks: list[tuple[Examples, list[Tensor]]] = []
    for run in sorted({run for part in parts for run in part.runs}):
        places, rows = rows_of(examples, *run)
        cells = [cell for part in parts for cell in _cells(part, run, rows)]
        blocks.append((places, [torch.cat(cells, dim=1)] if together and len(cells) > 1 else cells))
    columns = zip(*(block for _, block in blocks), strict=True)
    return [_joined(size, [places for places, _ in blocks], column) for column in columns]


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
    if sum(map(len, blocks)) == size and isinstance(places[0], slice):
        return torch.cat(blocks) if len(blocks) > 1 else blocks[0]
    stack = blocks[0].new_zeros(size, *blocks[0].shape[1:])
    for place, block in zip(places, blocks, strict=True):
        stack[place] = block
    return stack


class Fold:
    """Statistics of a stream of stacks: their parts are folded, they are derived at the end."""

    def __init__(self, needs: frozenset[Statistic]) -> None:
        self._needs = needs
        self._parts = frozenset().union(*(need.parts for need in needs))
        self._folded: dict[Statistic, Tensor] = {}

    def add(self, stack: Tensor) -> None:
        """Fold in some voters, (n, ...)."""
        found = Stack(stack)
        for part in self._parts:
            so_far = self._folded.get(part)
            self._folded[part] = found[part] if so_far is None else part.merge(so_far, found[part])

    def answers(self) -> dict[Statistic, Tensor]:
        """{statistic: (...)} of all voters so far."""
        found = Stack(folded=self._folded)
        return {need: found[need] for need in self._needs}
