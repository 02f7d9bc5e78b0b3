"""Statistics across processes: many small exchanges side by side, in few collectives.

How one statistic crosses is said in its `Statistic.across`, as an *exchange*: a generator that
yields a reduction ("min" or "sum") and a tensor, gets back that tensor reduced over the
processes, and at last returns its answer. Here the exchanges of all statistics and parameters
are packed, so that their number costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Exchange", "Reduction", "run_together", "total_count"]

Reduction = Literal["min", "sum"]  # a maximum is the minimum of the negative
Exchange = Generator[tuple[Reduction, Tensor], Tensor, Tensor]


def total_count(
    count: int, described: Mapping[str, str], device: torch.device, group: ProcessGroup | None
) -> int:
    """The sum of the counts of all processes, which must describe the same parameters.

    One collective: two integers a process. Only where they disagree are the words exchanged.

    Args:
        count: how many voters this process has.
        described: {parameter name: what is known of it}.
        device: where this process's tensors are; the group's backend must reach it.
        group: the processes that take part; None is all of them.

    Raises:
        RuntimeError: if torch.distributed is not initialized.
        ValueError: if this process is not in the group. If the descriptions differ: on every
            process of the group, with the same message, which names a parameter and two ranks.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "there are no processes to reduce over: call torch.distributed.init_process_group() "
            "first, in a script started by torchrun"
        )
    if dist.get_rank(group) < 0:
        raise ValueError(f"rank {dist.get_rank()} is not in the group: let its members call")
    words = "\n".join(f"{name}: {described[name]}" for name in sorted(described))
    fingerprint = hashlib.sha256(words.encode()).digest()[:8]
    mine = torch.tensor([count, int.from_bytes(fingerprint, signed=True)], device=device)
    table = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(table, mine, group=group)
    counts, fingerprints = zip(*torch.stack(table).tolist(), strict=True)
    if len(set(fingerprints)) > 1:
        everyone: list[dict[str, str]] = [{} for _ in table]
        dist.all_gather_object(everyone, dict(described), group=group)
        raise ValueError(_difference(everyone))
    return sum(counts)


def _difference(everyone: list[dict[str, str]]) -> str:
    name, rank = next(
        (name, rank)
        for name in sorted(set().union(*everyone))
        for rank, described in enumerate(everyone)
        if described.get(name) != everyone[0].get(name)
    )
    first, other = (everyone[r].get(name, "nothing") for r in (0, rank))
    return (
        f"the processes do not have the same statistics: of parameter '{name}' rank 0 has {first}; "
        f"rank {rank} has {other}: give every process the same model and the same needs"
    )


def run_together(exchanges: Sequence[Exchange], group: ProcessGroup | None) -> list[Tensor]:
    """The answer of each exchange; one all_reduce for all that ask alike and in one dtype.

    Args:
        exchanges: the same on every process, in the same order, not yet begun.
        group: the processes that take part; None is all of them.
    """
    asked: dict[int, tuple[Reduction, Tensor]] = {}
    answers: dict[int, Tensor] = {}

    def resume(i: int, reduced: Tensor | None) -> None:
        try:
            asked[i] = exchanges[i].send(reduced)
        except StopIteration as finished:
            answers[i] = finished.value

    for i in range(len(exchanges)):
        resume(i, None)
    while asked:
        # Minima first, for they may lead to sums (LogPowerSum), which then join the other sums.
        reduction = "min" if any(kind == "min" for kind, _ in asked.values()) else "sum"
        turn = [i for i, (kind, _) in asked.items() if kind == reduction]
        tensors = {i: asked.pop(i)[1] for i in turn}
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
            alike = {i: tensor for i, tensor in tensors.items() if tensor.dtype == dtype}
            flat = torch.cat([tensor.flatten() for tensor in alike.values()])
            dist.all_reduce(
                flat, dist.ReduceOp.MIN if reduction == "min" else dist.ReduceOp.SUM, group=group
            )
            pieces = flat.split([tensor.numel() for tensor in alike.values()])
            for (i, tensor), piece in zip(alike.items(), pieces, strict=True):
                resume(i, piece.view(tensor.shape))
    return [answers[i] for i in range(len(exchanges))]
