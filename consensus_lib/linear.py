"""Why the votes of a Linear layer factorise: its statistics without its per-example gradients.

On inputs (B, in) the gradient of example b is an outer product, g_b = grad_output_b input_b^T.
Signs of products are products of signs, so that sums of votes are matrix products:

    sum_b sign(g_b) = sign(grad_outputs)^T sign(inputs)

Magnitudes are needed only where all examples agree, and these weights are few: an input that is
0 for any example rules out its column, a grad_output its row, and a few dozen examples rule out
nearly all that is left. To find them takes looks at numbers, which cost nothing on the CPU only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from consensus_lib.calls import chunks
from consensus_lib.statistics import (
    Agreed,
    RunningStatistics,
    Statistic,
    Sum,
    Touched,
    Unopposed,
    Votes,
    looks_are_free,
    minmod,
)

__all__ = ["FACTORISED", "outer_product_statistics"]

FACTORISED = frozenset({Sum(), Votes(), Touched(), Agreed(), Unopposed()})

_MANY = 0.15  # above this share of weights, to fold the outer products is faster
_SOME = 32  # so many examples are hardly ever unanimous, which spares the votes of the others
_FEW = 64  # so many examples mostly touch every weight, which spares a look at the others


def outer_product_statistics(
    inputs: Tensor, grad_outputs: Tensor, needs: frozenset[Statistic], chunk: int
) -> dict[Statistic, Tensor]:
    """Statistics of the B outer products grad_output_b input_b^T.

    Args:
        inputs: (B, in).
        grad_outputs: (B, out), in the same floating dtype.
        needs: a subset of `FACTORISED`.
        chunk: how many numbers may be materialised at once.

    Returns:
        {statistic: (out, in)}.
    """
    looked = looks_are_free(inputs)
    votes = None
    if needs & ({Votes(), Unopposed()} if looked else {Votes()}):
        votes = grad_outputs.sign().T @ inputs.sign()
    rest = needs - {Votes(), Sum()}
    answers = _by_a_look(inputs, grad_outputs, votes, rest, chunk) if looked else None
    if answers is None:
        answers = _folded(inputs, grad_outputs, rest, chunk)
    if Votes() in needs:
        answers[Votes()] = votes
    if Sum() in needs:
        answers[Sum()] = grad_outputs.T @ inputs
    return answers


def _folded(
    inputs: Tensor, grad_outputs: Tensor, needs: frozenset[Statistic], chunk: int
) -> dict[Statistic, Tensor]:
    """The statistics by the outer products themselves, without a look at any number.

    A minimum of products is no matrix product, and which weights agree cannot be known without
    a look. A chunk is written once and read once for each extreme; one of the default size stays
    in the cache of a current card, so that little of this reaches its memory.
    """
    fold = RunningStatistics(needs)
    if needs:
        for rows in chunks(len(inputs), max(1, chunk // (grad_outputs.shape[1] * inputs.shape[1]))):
            fold.add(grad_outputs[rows].unsqueeze(2) * inputs[rows].unsqueeze(1))
    return fold.answers()


def _by_a_look(
    inputs: Tensor,
    grad_outputs: Tensor,
    votes: Tensor | None,
    needs: frozenset[Statistic],
    chunk: int,
) -> dict[Statistic, Tensor] | None:
    """The statistics by the few weights that agree; None if so many do that folding is faster.

    `Unopposed` asks for the votes.
    """
    answers: dict[Statistic, Tensor] = {}
    voters = None
    if Unopposed() in needs:
        voters = _voters(inputs, grad_outputs)
        answer = _unopposed(inputs, grad_outputs, votes, voters, chunk)
        if answer is None:
            return None
        answers[Unopposed()] = answer
    if Agreed() in needs:
        answer = _agreed(inputs, grad_outputs, votes, chunk)
        if answer is None:
            return None
        answers[Agreed()] = answer
    if Touched() in needs:
        found = _voters(inputs, grad_outputs, enough=_FEW) if voters is None else voters
        touched = found.new_ones(1, 1) if found.amin() > 0 else found.sign()
        answers[Touched()] = touched.expand(grad_outputs.shape[1], inputs.shape[1])
    return answers


def _agreed(
    inputs: Tensor, grad_outputs: Tensor, votes: Tensor | None, chunk: int
) -> Tensor | None:
    """`Agreed`, by the votes where they are known; None if too many weights agree."""
    shape = grad_outputs.shape[1], inputs.shape[1]
    nobody = inputs.new_zeros(1, 1).expand(shape)
    rows, columns = _never_zero(grad_outputs), _never_zero(inputs)
    if not (len(rows) and len(columns)):
        return nobody
    if votes is not None and not _reach(votes, len(inputs)):
        return nobody
    outs, ins = (
        tensor if len(kept) == tensor.shape[1] else tensor.index_select(1, kept)
        for tensor, kept in ((grad_outputs, rows), (inputs, columns))
    )
    # who is not unanimous among some is not unanimous among all
    some = outs[:_SOME].sign().T @ ins[:_SOME].sign()
    unanimous = min(_SOME, len(inputs))
    if not _reach(some, unanimous):
        return nobody
    where = _positive(some.abs_().sub_(unanimous - 0.5))
    if len(where[0]) > _MANY * math.prod(shape):
        return None
    products = _products(ins, outs, where, chunk)
    answer = inputs.new_zeros(shape)
    answer[rows[where[0]], columns[where[1]]] = torch.cat(
        [minmod(p.amin(dim=1), p.amax(dim=1)) for p in products]
    )
    return answer


def _reach(votes: Tensor, count: int) -> bool:
    """Whether so many votes are on one side anywhere; in a large batch hardly ever."""
    # two extremes cost a fifth of a search for the places
    return bool(max(votes.amax(), -votes.amin()) >= count)


def _never_zero(tensor: Tensor) -> Tensor:
    """The numbers of the columns of (B, n) without any 0."""
    return tensor.abs().amin(dim=0).nonzero().flatten()


def _positive(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the positive numbers of (n, m), which is overwritten."""
    # a flat search of bytes takes two thirds of the time
    places = tensor.clamp_(min=0).bool().flatten().nonzero().flatten()
    return places // tensor.shape[1], places % tensor.shape[1]


def _unopposed(
    inputs: Tensor, grad_outputs: Tensor, votes: Tensor, voters: Tensor, chunk: int
) -> Tensor | None:
    """`Unopposed`, by votes and voters; None if too many weights are unopposed."""
    # 0 where all voters are on one side, below 0 elsewhere, and where there is none
    margin = votes.abs().sub_(voters.clamp(min=1))
    if voters.amin() > 0:
        answer = votes.new_full((1, 1), torch.inf)
    else:
        answer = (voters * torch.inf).nan_to_num_(0.0, torch.inf)
    answer = answer.expand_as(votes)
    if margin.amax() < 0:
        return answer
    where = _positive(margin.add_(0.5))
    if len(where[0]) > _MANY * votes.numel():
        return None
    products = _products(inputs.abs(), grad_outputs.abs(), where, chunk)
    least = torch.cat([torch.threshold_(p, 0.0, torch.inf).amin(dim=1) for p in products])
    answer = answer.contiguous()
    answer[where] = votes[where].sign() * least
    return answer


def _voters(inputs: Tensor, grad_outputs: Tensor, enough: int | None = None) -> Tensor:
    """How many of the B gradients are not 0 at each weight: (out, in), or (out, 1) or (1, in).

    With `enough`, no more examples are counted once these have touched every weight.
    """
    grads, acts = grad_outputs.sign().abs_(), inputs.sign().abs_()
    if acts.amin() > 0:  # as in a first layer: no need for a matrix product
        return grads.sum(dim=0)[:, None]
    if grads.amin() > 0:  # as in a last one
        return acts.sum(dim=0)[None]
    if enough is not None and len(grads) > enough:
        counted = grads[:enough].T @ acts[:enough]
        if counted.amin() > 0:
            return counted
    return grads.T @ acts


def _products(
    inputs: Tensor, grad_outputs: Tensor, where: tuple[Tensor, Tensor], chunk: int
) -> Iterator[Tensor]:
    """The gradients of all examples at the chosen (out, in) pairs, in pieces (K, B)."""
    outs, ins = grad_outputs.T.contiguous(), inputs.T.contiguous()
    step = max(1, chunk // len(inputs))
    for rows, columns in zip(where[0].split(step), where[1].split(step), strict=True):
        # three times as fast as outs[rows]
        yield outs.index_select(0, rows).mul_(ins.index_select(0, columns))
