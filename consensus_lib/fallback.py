"""The exact way for any module: one vector-Jacobian product a voter, through the whole graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from consensus_lib.folding import Folder
from consensus_lib.statistics import not_finite, widened

if TYPE_CHECKING:
    from consensus_lib.batch import Batch, Voter

__all__ = ["fold_one_by_one"]


def fold_one_by_one(
    voters: Sequence[Voter],
    parameters: dict[str, Tensor],
    folder: Folder,
    keep: Sequence[Batch] = (),
) -> None:
    """Tell the folder the gradients of each voter's mean loss by some parameters.

    The graphs of their batches are freed after the last of them, except those to keep. Raises
    FloatingPointError, with voter and parameter, for a gradient that is not finite.
    """
    names = list(parameters)
    sums: list[Tensor] = []
    gathered: list[Tensor] = []
    last_use = {batch: place for place, voter in enumerate(voters) for batch, _ in voter}
    step = max(1, folder.chunk // max(1, sum(p.numel() for p in parameters.values())))
    for place, voter in enumerate(voters):
        losses = [batch.losses for batch, _ in voter]
        share = 1 / sum(len(examples) for _, examples in voter)
        weights = [torch.zeros_like(b.losses).index_fill_(0, own, share) for b, own in voter]
        kept = any(last_use[batch] > place or batch in keep for batch, _ in voter)
        wanted = list(parameters.values())
        found = torch.autograd.grad(losses, wanted, weights, retain_graph=kept, allow_unused=True)
        rows = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, found, strict=True)]
        rows = [g.to_dense() if g.is_sparse else g for g in rows]
        gathered.append(torch.cat([row.reshape(-1) for row in rows]))
        sums.append(torch.stack([row.sum() for row in rows]))
        last = place == len(voters) - 1
        # the first is looked at while the graph can be asked whom to blame, all others together
        if last or place == 0:
            _require_finite(torch.stack(sums).isfinite(), names, voters, blame=not last)
        if last or len(gathered) == step:
            stack = gathered[0][None] if len(gathered) == 1 else torch.stack(gathered)
            columns = widened(stack).split([p.numel() for p in wanted], dim=1)
            gathered = []
            named = zip(parameters.items(), columns, strict=True)
            folder.add_gradients({n: c.view(len(c), *p.shape) for (n, p), c in named}, last)


def _require_finite(flags: Tensor, names: list[str], voters: Sequence[Voter], blame: bool) -> None:
    """One look at flags (voters, parameters); 0 x inf = nan, so a bad example spoils others."""
    if flags.all():
        return
    place, number = (~flags).nonzero()[0].tolist()
    batch, examples = voters[place][0]
    suspects = dict.fromkeys(b for voter in voters for b, _ in voter) if blame else ()
    found = ((b, b.graph.first_bad_example(b.losses)) for b in suspects)
    batch, example = next((pair for pair in found if pair[1] is not None), (batch, examples[0]))
    raise not_finite(names[number], batch.numbers[int(example)])
