"""From recorded operations to statistics: gradients made a chunk at a time, folded, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consensus_lib.grad_samplers import inner_products, outer_products
from consensus_lib.linear import outer_product_statistics
from consensus_lib.recorder import Call
from consensus_lib.statistics import Piece, RunningStatistics, Stack, Statistic, widened

__all__ = ["Folder", "Part", "parts_of"]

_SMALL = 2**16  # numbers: so few take less time together than as operations of their own


@dataclass(eq=False)
class Part:
    """Parameters, and all the calls that make their gradients.

    Attributes:
        calls: with uses of operands that are made of the parameters.
        parameters: {name: parameter}.
        homes: {id(operand): (operand, names of the parameters it is made of)}.
    """

    calls: list[Call]
    parameters: dict[str, Tensor]
    homes: dict[int, tuple[Tensor, list[str]]]

    def gradients(self, rows: slice | Tensor | None, magnitudes: bool = False) -> dict[str, Tensor]:
        """{name: per-example gradients (n, *shape)} of some examples; None is all."""
        of_operands: dict[int, Tensor] = {}
        for call in self.calls:
            for one, g in call.gradients(self.homes, rows, magnitudes):
                key = id(one.operand)
                of_operands[key] = of_operands[key] + g if key in of_operands else g
        found: dict[str, Tensor] = {}
        for key, g in of_operands.items():
            operand, names = self.homes[key]
            made_of = [self.parameters[name] for name in names]
            own = [g] if operand.is_leaf else _brought_home(operand, made_of, g)
            for name, g in zip(names, own, strict=True):
                found[name] = found[name] + g if name in found else g
        return found

    def work(self, size: int, copies: int) -> int:
        """About how many numbers one example's gradients take, held in so many copies."""
        made = copies * sum([p.numel() for p in self.parameters.values()])
        made += sum([t.numel() for t, _ in self.homes.values() if not t.is_leaf])
        held = 0
        for call in self.calls:
            held += call.backprops.numel()
            for one in call.uses:
                if one.activations is not None:
                    windows = one.operand.shape[2:].numel() if one.operand.dim() > 2 else 1
                    held += one.activations.numel() * windows
        return max(1, made + held // size)


def _brought_home(operand: Tensor, made_of: list[Tensor], g: Tensor) -> list[Tensor]:
    """From gradients (n, *operand.shape) of a tensor made of parameters to those of these."""
    g = g.to(operand.dtype)
    kept = {"retain_graph": True, "allow_unused": True}
    try:
        found = torch.autograd.grad(operand, made_of, g, is_grads_batched=True, **kept)
    except RuntimeError:  # an operation that vmap cannot run
        rows = [torch.autograd.grad(operand, made_of, row, **kept) for row in g]
        found = [None if c[0] is None else torch.stack(c) for c in zip(*rows, strict=True)]
    return [
        g.new_zeros(len(g), *p.shape) if rows is None else widened(rows)
        for p, rows in zip(made_of, found, strict=True)
    ]


def parts_of(
    calls: Sequence[Call], made_of: dict[int, list[str]], parameters: dict[str, Tensor]
) -> list[Part]:
    """As many parts of these parameters as there can be: those of a call go together.

    `made_of` is {id(operand): names of the parameters it is made of}; others are left out.
    """
    parts: dict[str, Part] = {}
    for call in calls:
        joined = Part([], {}, {})
        for one in call.uses:
            names = [name for name in made_of.get(id(one.operand), ()) if name in parameters]
            if names:
                joined.homes[id(one.operand)] = one.operand, names
                joined.parameters |= {name: parameters[name] for name in names}
        if not joined.homes:
            continue
        for part in {id(parts[n]): parts[n] for n in joined.parameters if n in parts}.values():
            joined.calls += part.calls
            joined.parameters |= part.parameters
            joined.homes |= part.homes
        joined.calls.append(call)
        parts.update(dict.fromkeys(joined.parameters, joined))
    return list({id(part): part for part in parts.values()}.values())


class Folder:
    """Folds the gradients of one batch, or of several of different shapes, into statistics.

    Small parameters wait, and are folded side by side: a hundred small operations cost more than
    one large one.

    Attributes:
        chunk: about how many numbers may be materialised at a time.
        slow: names of the parameters that took one backward pass a voter.
    """

    def __init__(
        self, needs: frozenset[Statistic], chunk: int, give: Callable[[Piece], None], batches: int
    ) -> None:
        """Gather `needs`, of batches that each tell all parameters; `give` gets what is ready."""
        self.chunk = chunk
        self.slow: set[str] = set()
        self._needs, self._give, self._batches = needs, give, batches
        self._waiting: dict[str, list[Tensor]] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._folds: dict[str, RunningStatistics] = {}
        self._folded: dict[str, dict[Statistic, Tensor]] = {}
        self._told: dict[str, int] = {}
        self._held = 0
        parts = frozenset().union(*(need.made_of for need in needs))
        self._copies = 1 + max((part.temporaries for part in parts), default=0)

    def take(self, part: Part, members: list[Tensor] | None, size: int) -> None:
        """Fold the gradients of a part, whose calls know their backprops.

        `members` are for each voter its examples, of `size`; None: each example is a voter.
        """
        if members is None:
            self._factorise(part, size)
        voters = size if members is None else len(members)
        most = 1 if members is None else max(map(len, members))
        most_voters = max(1, self.chunk // (part.work(size, self._copies) * most))
        step = -(-voters // -(-voters // most_voters))  # chunks as even as can be
        for first in range(0, voters if part.homes else 0, step):
            own = slice(first, min(first + step, voters))
            if members is None:
                found = part.gradients(None if step >= voters else own)
            else:  # a voter's gradient is the mean over its examples
                found = part.gradients(torch.cat(members[own]))
                sizes = list(map(len, members[own]))
                found = {
                    name: torch.stack([rows.mean(dim=0) for rows in g.split(sizes)])
                    for name, g in found.items()
                }
            self.add_gradients(found, last=own.stop == voters)

    def _factorise(self, part: Part, size: int) -> None:
        """Fold what is one large product of matrices, whose statistics factorise, and drop it."""
        for one in part.calls[0].uses if len(part.calls) == 1 else ():
            g, x = part.calls[0].backprops, one.activations
            product = one.sampler in (inner_products, outer_products) and one.operand.is_leaf
            if not product or g.dim() > 2 or size * one.operand.numel() <= _SMALL:
                continue
            _, (name,) = part.homes.get(id(one.operand), (None, ("",)))
            if sum(name in names for _, names in part.homes.values()) == 1:
                left, right = (x, g) if one.sampler is outer_products else (g, x)
                answers = outer_product_statistics(
                    widened(left), widened(right), self._needs, self.chunk // self._copies
                )
                del part.homes[id(one.operand)]
                self.add(name, part.parameters.pop(name).shape, answers)

    def add_gradients(self, rows: dict[str, Tensor], last: bool) -> None:
        """Fold some voters' gradients, {name: (n, *shape)}; after the last ones they are told."""
        for name, stack in rows.items():
            if last and name not in self._folds and stack.numel() < _SMALL:
                self._waiting.setdefault(name, []).append(stack.reshape(len(stack), -1))
                self._shapes[name] = stack.shape[1:]
                self._held += stack.numel()
                continue
            fold = self._folds.setdefault(name, RunningStatistics(self._needs))
            fold.add(stack)
            if last:
                self.add(name, stack.shape[1:], self._folds.pop(name).answers())
        if self._batches == 1 and self._held > self.chunk // 2:
            self.finish()

    def add_zeros(self, name: str, parameter: Tensor) -> None:
        """Tell that every voter's gradient of a parameter is 0."""
        nothing = Stack(widened(torch.zeros_like(parameter)[None].detach()))
        self.add(name, parameter.shape, {need: nothing[need] for need in self._needs})

    def add(self, name: str, shape: torch.Size, answers: dict[Statistic, Tensor]) -> None:
        """Merge a parameter's statistics in one batch; give them if no other batch follows."""
        if before := self._folded.pop(name, None):
            answers = {need: need.merge(before[need], answers[need]) for need in answers}
        self._told[name] = self._told.get(name, 0) + 1
        if self._told[name] == self._batches:
            self._give(Piece({name: shape}, answers))
        else:
            self._folded[name] = answers

    def finish(self) -> None:
        """Fold what waits."""
        waiting, self._waiting, self._held = self._waiting, {}, 0
        for name in [name for name, stacks in waiting.items() if len(stacks) < self._batches]:
            for stack in waiting.pop(name):  # some batch was too large to wait
                self.add(name, self._shapes[name], self._fold(stack, self._shapes[name]))
        if waiting:
            rows = [torch.cat(own, dim=1) for own in zip(*waiting.values(), strict=True)]
            stack = rows[0] if len(rows) == 1 else torch.cat(rows)
            shapes = {name: self._shapes[name] for name in waiting}
            shape = next(iter(shapes.values())) if len(shapes) == 1 else stack.shape[1:]
            self._give(Piece(shapes, self._fold(stack, shape)))

    def _fold(self, stack: Tensor, shape: torch.Size) -> dict[Statistic, Tensor]:
        fold = RunningStatistics(self._needs)
        fold.add(stack.reshape(len(stack), *shape))
        return fold.answers()
