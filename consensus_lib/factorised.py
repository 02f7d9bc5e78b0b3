"""Why the votes of a Linear layer factorise: its statistics without its per-example gradients.

On inputs (B, in) the gradient of example b is an outer product, g_b = grad_output_b input_b^T.
Signs of products are products of signs, so that sums of votes are matrix products:

    sum_b sign(g_b) = sign(grad_outputs)^T sign(inputs)

Magnitudes are needed only where all examples agree, and these weights are few.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from consensus_lib.questions import Agreed, Statistic, Sum, Touched, Unopposed, Votes

__all__ = ["FACTORISED", "outer_product_statistics"]

FACTORISED = frozenset({Sum(), Votes(), Touched(), Agreed(), Unopposed()})

_MANY = 0.15  # above this share of weights, folding the outer products themselves is faster
_FEW = 64  # so many examples mostly touch every weight, which spares a look at the others


def outer_product_statistics(
    inputs: Tensor, grad_outputs: Tensor, needs: frozenset[Statistic], chunk: int
) -> dict[Statistic, Tensor] | None:
    """Statistics of the B outer products grad_output_b input_b^T.

    Args:
        inputs: (B, in).
        grad_outputs: (B, out), in the same floating dtype.
        needs: a subset of `FACTORISED`.
        chunk: how many magnitudes may exist at once.

    Returns:
        {statistic: (out, in)}; None if so many weights agree that this way is the slower one.
    """
    answers: dict[Statistic, Tensor] = {}
    signs = grad_outputs.sign(), inputs.sign()
    votes = signs[0].T @ signs[1]
    touched = None
    if Unopposed() in needs:
        voters = _voters(*signs)
        touched = voters
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
        touched = _voters(*signs, enough=_FEW) if touched is None else touched
        answers[Touched()] = touched.sign().expand_as(votes)
    if Votes() in needs:
        answers[Votes()] = votes
    if Sum() in needs:
        answers[Sum()] = grad_outputs.T @ inputs
    return answers


def _agreed(inputs: Tensor, grad_outputs: Tensor, votes: Tensor, chunk: int) -> Tensor | None:
    """`Agreed` from the votes; None if too many weights agree."""
    size = len(inputs)
    answer = torch.zeros_like(votes)
    # two extremes cost a fifth of a search, and in a large batch nobody is unanimous
    if max(votes.amax(), -votes.amin()) < size:
        return answer
    where = votes.abs().sub_(size - 0.5).clamp_(min=0).nonzero(as_tuple=True)
    return _filled(answer, where, inputs, grad_outputs, votes, chunk)


def _unopposed(
    inputs: Tensor, grad_outputs: Tensor, votes: Tensor, voters: Tensor, chunk: int
) -> Tensor | None:
    """`Unopposed` from votes and voters; None if too many weights are unopposed."""
    # 0 where all voters are on one side, below 0 elsewhere, and where there is none
    margin = votes.abs().sub_(voters.clamp(min=1))
    if voters.amin() > 0:
        answer = torch.full_like(votes, torch.inf)
    else:
        answer = (voters * torch.inf).nan_to_num_(0.0, torch.inf).expand_as(votes).contiguous()
    if margin.amax() < 0:
        return answer
    where = margin.add_(0.5).clamp_(min=0).nonzero(as_tuple=True)
    return _filled(answer, where, inputs, grad_outputs, votes, chunk, zeros_abstain=True)


def _filled(
    answer: Tensor,
    where: tuple[Tensor, Tensor],
    inputs: Tensor,
    grad_outputs: Tensor,
    votes: Tensor,
    chunk: int,
    zeros_abstain: bool = False,
) -> Tensor | None:
    """The answer with the signed least magnitudes at the chosen weights; None for too many."""
    if len(where[0]) > _MANY * votes.numel():
        return None
    products = _magnitudes(inputs.abs(), grad_outputs.abs(), where, chunk)
    least = torch.cat([_least(p, zeros_abstain) for p in products])
    answer[where] = votes[where].sign() * least
    return answer


def _voters(signs_of_grads: Tensor, signs_of_inputs: Tensor, enough: int | None = None) -> Tensor:
    """How many of the B gradients are not 0 at each weight: (out, in), or (out, 1) or (1, in).

    With `enough`, no more examples are counted once these have touched every weight.
    """
    grads, inputs = signs_of_grads.abs(), signs_of_inputs.abs()
    if inputs.amin() > 0:  # as in a first layer: no need for a matrix product
        return grads.sum(dim=0)[:, None]
    if grads.amin() > 0:  # as in a last one
        return inputs.sum(dim=0)[None]
    if enough is not None and len(grads) > 2 * enough:
        counted = grads[:enough].T @ inputs[:enough]
        if counted.amin() > 0:
            return counted
    return grads.T @ inputs


def _magnitudes(
    inputs: Tensor, grad_outputs: Tensor, where: tuple[Tensor, Tensor], chunk: int
) -> Iterator[Tensor]:
    """The products of magnitudes at the chosen (out, in) pairs, in pieces (K, B)."""
    outs, ins = grad_outputs.T.contiguous(), inputs.T.contiguous()
    step = max(1, chunk // len(inputs))
    for rows, columns in zip(where[0].split(step), where[1].split(step), strict=True):
        yield outs[rows] * ins[columns]


def _least(magnitudes: Tensor, zeros_abstain: bool) -> Tensor:
    if zeros_abstain:
        magnitudes = torch.threshold(magnitudes, 0.0, torch.inf)
    return magnitudes.amin(dim=1)
