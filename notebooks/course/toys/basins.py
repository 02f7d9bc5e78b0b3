"""Which zero point does each start end in, how often, and how sure is that count?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from course.toys.landscapes import Landscape

__all__ = [
    "LOSS_AT_ZERO",
    "NOWHERE",
    "count_ends",
    "grid_of_starts",
    "kinds_of_ends",
    "share_interval",
    "starts_by_lot",
    "which_zero",
]

NOWHERE = -1
# So small that a path which stops in a valley near a crossing is not taken for one that arrived.
LOSS_AT_ZERO = 1e-6


def grid_of_starts(landscape: Landscape, size: int) -> Tensor:
    """Starts in the middles of size x size equal fields of the drawn part: (size, size, 2).

    Row r has the r-th lowest b, column c the c-th lowest a, as in a picture with its origin
    below.
    """
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in landscape.corners)
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    a, b = (low + (high - low) * middles[:, None]).unbind(dim=-1)
    return torch.stack(torch.meshgrid(a, b, indexing="xy"), dim=-1)


def starts_by_lot(landscape: Landscape, number: int, seed: int = 0) -> Tensor:
    """Starts drawn evenly from the drawn part, the same for the same seed: (number, 2)."""
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in landscape.corners)
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(number, 2, generator=generator, dtype=torch.float64)


def which_zero(landscape: Landscape, ends: Tensor) -> Tensor:
    """The number of the zero point at which each path ended: (..., 2) -> (...), integers.

    A path is at a zero point once its pooled loss is below LOSS_AT_ZERO; then it is the nearest
    one of `landscape.zero_points`. NOWHERE: it stands still, or is still on its way, elsewhere.
    """
    points = torch.tensor([(p.a, p.b) for p in landscape.zero_points], dtype=ends.dtype)
    nearest = (ends.unsqueeze(-2) - points).norm(dim=-1).argmin(dim=-1)
    arrived = landscape.losses(ends).mean(dim=-1) < LOSS_AT_ZERO
    return torch.where(arrived, nearest, NOWHERE)


def kinds_of_ends(landscape: Landscape, ends: Tensor) -> list[str]:
    """Of each path (..., 2), in one row: did it end "shared", at a "crossing", or "nowhere"?"""
    kinds = [*(point.kind for point in landscape.zero_points), "nowhere"]  # NOWHERE is the last
    return [kinds[zero] for zero in which_zero(landscape, ends).flatten().tolist()]


def count_ends(landscape: Landscape, ends: Tensor) -> dict[str, int]:
    """How many paths (..., 2) ended at a shared point, at a crossing, and nowhere."""
    kinds = kinds_of_ends(landscape, ends)
    return {kind: kinds.count(kind) for kind in ("shared", "crossing", "nowhere")}


def share_interval(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Between which shares the true one lies, when `count` of `total` independent draws had it.

    Wilson's interval (1927), of 95 % confidence with z = 1.96; unlike share +- z sigma it stays
    within [0, 1] and is not empty for a count of 0.

    Raises:
        ValueError: unless 0 <= count <= total and total >= 1.
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"a count of {count} among {total} draws is not possible")
    share, spare = count / total, z**2 / total
    middle = (share + spare / 2) / (1 + spare)
    half = math.sqrt(share * (1 - share) * spare + spare**2 / 4) / (1 + spare)
    return max(0.0, middle - half), min(1.0, middle + half)
