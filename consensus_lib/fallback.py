"""The exact way for any module: one vector-Jacobian product a voter, through the whole graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from consensus_lib.preconditions import voter_of
from consensus_lib.statistics import (
    Piece,
    RunningStatistics,
    Statistic,
    not_finite,
    widened,
)

__all__ = ["first_bad_voter", "fold_one_by_one"]


def fold_one_by_one(
    losses: Tensor,
    parameters: dict[str, nn.Parameter],
    groups: Sequence[Tensor],
    needs: frozenset[Statistic],
    chunk_floats: int,
    blame: Callable[[], int],
) -> list[Piece]:
    """The statistics of any parameters: one vector-Jacobian product on the graph a voter.

    Args:
        losses: (B,), with their graph, which is freed.
        parameters: {name: parameter}.
        groups: for each voter its examples.
        needs: which statistics.
        chunk_floats: about how many numbers may be gathered before they are folded.
        blame: tells the voter whose example made gradients that are not finite. On the graph
            of a batch 0 x inf = nan, so that one bad example spoils every voter's gradient.

    Raises:
        FloatingPointError: naming parameter and voter.
    """
    folds = {name: RunningStatistics(needs) for name in parameters}
    floats = sum(p.numel() for p in parameters.values())
    chunk = max(1, chunk_floats // floats)
    finite: dict[str, list[Tensor]] = {name: [] for name in parameters}
    gathered: list[list[Tensor]] = []
    members = torch.cat(list(groups)).to(losses.device).split(list(map(len, groups)))
    for voter, examples in enumerate(members):
        last = voter == len(groups) - 1
        gathered.append(_voter_gradients(examples, losses, parameters, keep_graph=not last))
        if voter == 0 and not last:  # while the graph can still be asked whom to blame
            first = torch.stack([torch.isfinite(gradient).all() for gradient in gathered[0]])
            _require_finite(first[:, None], parameters, blame)
        if last or len(gathered) == chunk:
            for name, rows in zip(parameters, zip(*gathered, strict=True), strict=True):
                stack = torch.stack(rows)
                finite[name].append(torch.isfinite(stack).flatten(start_dim=1).all(dim=1))
                folds[name].add(widened(stack))
            gathered.clear()
    _require_finite(torch.stack([torch.cat(flags) for flags in finite.values()]), parameters)
    return [Piece({name: p.shape}, folds[name].answers()) for name, p in parameters.items()]


def _require_finite(
    finite: Tensor, parameters: Iterable[str], blame: Callable[[], int] | None = None
) -> None:
    """One look at flags (parameters, voters); raises for the first voter, or whom `blame` tells."""
    if finite.all():
        return
    voter, number = (~finite.T).nonzero()[0].tolist()
    raise not_finite(list(parameters)[number], voter if blame is None else blame())


def _voter_gradients(
    examples: Tensor,
    losses: Tensor,
    parameters: dict[str, nn.Parameter],
    keep_graph: bool,
) -> list[Tensor]:
    """The gradients of the mean loss of some examples, in the order of `parameters`."""
    weights = torch.zeros_like(losses).index_fill_(0, examples, 1 / len(examples))
    gradients = torch.autograd.grad(
        losses, list(parameters.values()), weights, retain_graph=keep_graph, allow_unused=True
    )
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        for parameter, gradient in zip(parameters.values(), gradients, strict=True)
    ]


def first_bad_voter(
    losses: Tensor, edges: Sequence[GradientEdge], groups: Sequence[Tensor] | None
) -> int:
    """The first voter with an example whose row is not finite at the output of a module.

    Args:
        losses: (B,), with their graph, which is kept.
        edges: of the modules' outputs.
        groups: for each voter its examples; None: each example is a voter.
    """
    for rows in torch.autograd.grad(losses.sum(), edges, retain_graph=True, allow_unused=True):
        if rows is not None and rows.dim() and len(rows) == len(losses):
            bad = ~torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)
            if bad.any():
                return voter_of(bad.nonzero().flatten(), groups)
    return 0
