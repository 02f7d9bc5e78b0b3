"""Statistics across processes: each process merges a share of the weights, and sends it to all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["merge_across", "total_count"]


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


def merge_across(
    merge: Callable[[Tensor, Tensor], Tensor],
    mine: Mapping[str, Tensor],
    group: ProcessGroup | None,
) -> dict[str, Tensor]:
    """Merge a statistic of many parameters over the processes, in two collectives a dtype.

    Every number is merged by one process, in the order of the ranks, so that all processes end
    with the same bits. A process sends and receives as much as in a ring all_reduce of as many
    numbers, and holds three times its numbers meanwhile.

    Args:
        merge: of the statistics of two sets of voters, weight by weight.
        mine: {parameter name: the statistic of this process's voters}; the names, shapes and
            dtypes are the same on every process, and in the same order.
        group: the processes that take part; None is all of them.

    Returns:
        {parameter name: the statistic of the voters of all processes}.
    """
    size = dist.get_world_size(group)
    found: dict[str, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in mine.values()):
        alike = {name: tensor for name, tensor in mine.items() if tensor.dtype == dtype}
        flat = torch.cat([tensor.flatten() for tensor in alike.values()])
        sent = functional.pad(flat, (0, -len(flat) % size))
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=group)
        share = reduce(merge, received.view(size, -1).unbind())
        dist.all_gather(list(received.view(size, -1).unbind()), share, group=group)
        parts = received[: len(flat)].split([tensor.numel() for tensor in alike.values()])
        found |= {n: p.view(t.shape) for (n, t), p in zip(alike.items(), parts, strict=True)}
    return found
