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

from consensus_lib.statistics import Agreed, Statistic, Sum, Touched, Unopposed, Votes

__all__ = ["FACTORISED", "outer_product_statistics"]

FACTORISED = frozenset({Sum(), Votes(), Touched(), Agreed(), Unopposed()})

_MANY = 0.15  # above this share of weights, folding the outer products themselves is faster


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
    size = len(inputs)
    votes = grad_outputs.sign().T @ inputs.sign()
    voters = _voters(inputs, grad_outputs)
    for statistic in needs & {Agreed(), Unopposed()}:
        zeros_abstain = statistic == Unopposed()
        # half a vote where all votes that count are on one side, 0 or less elsewhere
        if zeros_abstain:
            margin = votes.abs().sub_(voters).add_(voters.clamp(max=0.5))
        else:
            margin = votes.abs().sub_(size - 0.5)
        # of the others, those with a vote were opposed, which is 0 to a veto and inf to abstain
        answer = torch.zeros_like(votes)
        if zeros_abstain:
            answer = (voters * torch.inf).nan_to_num_(0.0, torch.inf)
        # a maximum costs a fifth of a search, and in a large batch nobody is unanimous
        if margin.amax() > 0:
            where = margin.clamp_(min=0).nonzero(as_tuple=True)
            if len(where[0]) > _MANY * votes.numel():
                return None
            products = _magnitudes(inputs.abs(), grad_outputs.abs(), where, chunk)
            least = torch.cat([_least(p, zeros_abstain) for p in products])
            answer[where] = votes[where].sign() * least
        answers[statistic] = answer
    if Sum() in needs:
        answers[Sum()] = grad_outputs.T @ inputs
    if Votes() in needs:
        answers[Votes()] = votes
    if Touched() in needs:
        answers[Touched()] = voters > 0
    return answers


def _voters(inputs: Tensor, grad_outputs: Tensor) -> Tensor:
    """How many of the B gradients are not 0 at each weight: (out, in)."""
    by_output = grad_outputs.sign().abs_()
    if inputs.abs().amin() > 0:  # as in a first layer: no need for a matrix product
        return by_output.sum(dim=0)[:, None].expand(-1, inputs.shape[1])
    return by_output.T @ inputs.sign().abs_()


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
