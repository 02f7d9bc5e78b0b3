"""From gradients to statistics: made a chunk at a time, folded, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from consensus_lib.calls import Component, chunks
from consensus_lib.factorised import FACTORISED, outer_product_statistics
from consensus_lib.statistics import Stack, Statistic, require_finite, widened

__all__ = ["fold_component", "fold_one_by_one"]

Answers = dict[str, dict[Statistic, Tensor]]


def fold_component(
    part: Component,
    needs: frozenset[Statistic],
    examples_of: Sequence[Tensor] | None,
    batch_size: int,
    chunk_floats: int,
) -> Answers:
    """The statistics of a component's parameters, from the layer rules.

    Args:
        part: its calls, with the gradients of their outputs.
        needs: which statistics.
        examples_of: for each voter its examples; None: each example is a voter.
        batch_size: B.
        chunk_floats: about how many numbers may be materialised at a time.

    Returns:
        {parameter name: {statistic: tensor of its shape}}.
    """
    floats = part.floats_per_example()
    if examples_of is None and len(part.calls) == 1 and batch_size * floats > chunk_floats:
        shortcut = _shortcut(part, needs, batch_size, chunk_floats)
        if shortcut is not None:
            return shortcut
    folds = {name: _Fold(needs) for name in part.shapes}
    if examples_of is None:
        for rows in chunks(batch_size, max(1, chunk_floats // floats)):
            for name, stack in part.stacks(rows).items():
                folds[name].add(stack)
        return {name: fold.answers() for name, fold in folds.items()}
    folds = {name: _Fold(needs) for name in part.shapes}
    per_chunk = max(1, chunk_floats // (floats * max(map(len, examples_of))))
    for few in chunks(len(examples_of), per_chunk):
        counts = torch.tensor([len(examples) for examples in examples_of[few]])
        examples = torch.cat(list(examples_of[few])).to(part.calls[0].inputs.device)
        for name, stack in part.stacks(examples).items():
            means = [rows.mean(dim=0) for rows in stack.split(counts.tolist())]
            folds[name].add(torch.stack(means))
    return {name: fold.answers() for name, fold in folds.items()}


def _shortcut(
    part: Component, needs: frozenset[Statistic], batch_size: int, chunk_floats: int
) -> Answers | None:
    """The answers for a Linear layer without its per-example gradients, None if not faster."""
    (call,) = part.calls
    whole = call.size == batch_size and call.inputs.dim() == 2
    if type(call.module) is not nn.Linear or not whole or not needs <= FACTORISED:
        return None
    inputs, grads = widened(call.inputs), widened(call.grads)
    answers: Answers = {}
    for local, name in call.names.items():
        if name not in part.shapes:
            continue
        if local == "weight":
            found = outer_product_statistics(inputs, grads, needs, chunk_floats)
            if found is None:
                return None
            answers[name] = found
        else:
            fold = _Fold(needs)
            fold.add(grads)
            answers[name] = fold.answers()
    return answers


class _Fold:
    """Statistics of a stream of stacks: their parts are folded, they are derived at the end."""

    def __init__(self, needs: frozenset[Statistic]) -> None:
        self._needs = needs
        self._parts = frozenset().union(*(need.parts for need in needs))
        self._folded: dict[Statistic, Tensor] = {}

    def add(self, stack: Tensor) -> None:
        """Fold in some voters, (n, ...)."""
        found = Stack(widened(stack))
        for part in self._parts:
            so_far = self._folded.get(part)
            self._folded[part] = found[part] if so_far is None else part.merge(so_far, found[part])

    def answers(self) -> dict[Statistic, Tensor]:
        """{statistic: (...)} of all voters so far."""
        found = Stack(folded=self._folded)
        return {need: found[need] for need in self._needs}


def fold_one_by_one(
    losses: Tensor,
    parameters: dict[str, nn.Parameter],
    examples_of: Sequence[Tensor],
    needs: frozenset[Statistic],
    chunk_floats: int,
    blame: Callable[[], int],
) -> Answers:
    """The statistics of any parameters: one vector-Jacobian product on the graph a voter.

    Args:
        losses: (B,), with their graph, which is freed.
        parameters: {name: parameter}.
        examples_of: for each voter its examples.
        needs: which statistics.
        chunk_floats: about how many numbers may be gathered before they are folded.
        blame: tells the voter whose example made gradients that are not finite. On the graph
            of a batch 0 x inf = nan, so that one bad example spoils every voter's gradient.

    Raises:
        FloatingPointError: naming parameter and voter.
    """
    folds = {name: _Fold(needs) for name in parameters}
    floats = sum(p.numel() for p in parameters.values())
    chunk = max(1, chunk_floats // floats)
    gathered: list[list[Tensor]] = []
    for voter, examples in enumerate(examples_of):
        last = voter == len(examples_of) - 1
        gathered.append(_voter_gradients(examples, losses, parameters, keep_graph=not last))
        if voter == 0 and not last:
            for name, gradient in zip(parameters, gathered[0], strict=True):
                if not torch.isfinite(gradient).all():
                    require_finite(gradient[None], name, first_voter=blame())
        if last or len(gathered) == chunk:
            first = voter + 1 - len(gathered)
            for name, stack in zip(parameters, zip(*gathered, strict=True), strict=True):
                require_finite(torch.stack(stack), name, first)
                folds[name].add(torch.stack(stack))
            gathered.clear()
    return {name: fold.answers() for name, fold in folds.items()}


def _voter_gradients(
    examples: Tensor,
    losses: Tensor,
    parameters: dict[str, nn.Parameter],
    keep_graph: bool,
) -> list[Tensor]:
    """The gradients of the mean loss of some examples, in the order of `parameters`."""
    weights = torch.zeros_like(losses)
    weights[examples.to(losses.device)] = 1 / len(examples)
    gradients = torch.autograd.grad(
        losses, list(parameters.values()), weights, retain_graph=keep_graph, allow_unused=True
    )
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        for parameter, gradient in zip(parameters.values(), gradients, strict=True)
    ]
