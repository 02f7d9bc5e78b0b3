"""Two weights and a few examples: loss landscapes with several points of zero loss.

Notation: w = (a, b) are the weights, L_i the loss of example i, always >= 0, and the mean of the
L_i the pooled loss. A *zero point* is a w at which every L_i is 0. It is *shared* where each
L_i alone has an isolated minimum there: each example alone would go there too. It is a *crossing*
where some L_i is 0 along a whole valley through it: that example alone has no reason to stop
there, and only the others single the point out.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LANDSCAPES", "Landscape", "Waves", "Wells", "ZeroPoint", "hessians", "kind_of"]
__all__ += ["knowledge", "patchwork"]

Kind = Literal["shared", "crossing"]

_ZERO_LOSS = 1e-12
_FLAT = 1e-6
_SAME_PLACE = 1e-6
_BRANCHES = range(-4, 5)


@dataclass(frozen=True)
class ZeroPoint:
    """A point where every example's loss is 0, and whether they share it or only cross there."""

    a: float
    b: float
    kind: Kind


class Landscape(ABC):
    """The losses of B examples as functions of two weights, in float64.

    Attributes:
        shows: what it is good for, in a sentence.
        corners: ((lowest a, lowest b), (highest a, highest b)) of the part that is drawn; zero
            points are listed as far as one side length beyond it, for paths that leave it.
    """

    shows: str
    corners: tuple[tuple[float, float], tuple[float, float]]

    @property
    @abstractmethod
    def examples(self) -> int:
        """The number of examples, B."""

    @abstractmethod
    def losses(self, weights: Tensor) -> Tensor:
        """The loss of each example: (..., 2) -> (..., B); torch can differentiate it."""

    @abstractmethod
    def gradients(self, weights: Tensor) -> Tensor:
        """The gradient of each example by its formula: (..., 2) -> (B, ..., 2), voters first."""

    @abstractmethod
    def _candidates(self) -> Iterable[Tensor]:
        """Points (2,) among which every zero point is."""

    @cached_property
    def zero_points(self) -> tuple[ZeroPoint, ...]:
        """Every zero point in and around the drawn part, from left to right."""
        low, high = (torch.tensor(corner, dtype=torch.float64) for corner in self.corners)
        low, high = 2 * low - high, 2 * high - low
        found: list[Tensor] = []
        for point in self._candidates():
            is_near = bool(((point >= low) & (point <= high)).all())
            is_new = all((point - other).norm() > _SAME_PLACE for other in found)
            if is_near and is_new and self.losses(point).max() < _ZERO_LOSS:
                found.append(point)
        found.sort(key=lambda point: point.tolist())
        return tuple(ZeroPoint(*point.tolist(), kind_of(self, point)) for point in found)

    def inside(self, point: ZeroPoint) -> bool:
        """Whether the point lies in the drawn part."""
        (low_a, low_b), (high_a, high_b) = self.corners
        return low_a <= point.a <= high_a and low_b <= point.b <= high_b


@dataclass(frozen=True, eq=False)
class Wells(Landscape):
    """Losses that are a product of wells, so that each is 0 where any of its wells is.

    L_i(w) = prod_k q_ik / (1 + q_ik),   q_ik = 1/2 (w - p_ik)^T A_ik (w - p_ik)

    With A_ik positive definite the well is round and 0 at p_ik only; with A_ik = n n^T it is a
    straight valley through p_ik, at right angles to n. Far away a well is nearly flat, at 1.

    Args:
        at: (B, K, 2), the p_ik.
        shape: (B, K, 2, 2), the A_ik, symmetric.
    """

    at: Tensor
    shape: Tensor
    shows: str
    corners: tuple[tuple[float, float], tuple[float, float]] = ((-3.0, -3.0), (3.0, 3.0))

    @property
    def examples(self) -> int:
        """The number of examples, B."""
        return len(self.at)

    def losses(self, weights: Tensor) -> Tensor:
        """The loss of each example: (..., 2) -> (..., B)."""
        return self._wells(weights)[0].prod(dim=-1)

    def gradients(self, weights: Tensor) -> Tensor:
        """The gradient of each example: (..., 2) -> (B, ..., 2)."""
        # The derivative of q / (1 + q) is (1 - q / (1 + q))^2, and that of q is A (w - p).
        wells, slopes = self._wells(weights)
        itself = torch.eye(self.at.shape[1], dtype=torch.bool)
        others = wells.unsqueeze(-2).masked_fill(itself, 1.0).prod(dim=-1)
        pulls = (others * (1 - wells).square()).unsqueeze(-1) * slopes
        return pulls.sum(dim=-2).movedim(-2, 0)

    def _wells(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """q / (1 + q), (..., B, K), and the gradient of q, (..., B, K, 2)."""
        away = weights[..., None, None, :] - self.at
        slopes = (self.shape * away.unsqueeze(-2)).sum(dim=-1)
        q = (away * slopes).sum(dim=-1) / 2
        return q / (1 + q), slopes

    def _candidates(self) -> Iterable[Tensor]:
        # One well of each example: they meet, if anywhere, where the sum of their q is least.
        for wells in itertools.product(range(self.at.shape[1]), repeat=self.examples):
            each = torch.arange(self.examples), torch.tensor(wells)
            forms, points = self.shape[each], self.at[each]
            total = forms.sum(dim=0)
            if torch.linalg.det(total) > _FLAT:
                yield torch.linalg.solve(total, (forms @ points.unsqueeze(-1)).sum(dim=0))[:, 0]


@dataclass(frozen=True, eq=False)
class Waves(Landscape):
    """Fit y = sin(a x + b) to points; an example is one point or several.

    L_i(w) = 1/2 mean_j r_ij^2,   r_ij = sin(a x_ij + b) - y_ij,   y_ij of the true a and b

    An example of one point is 0 along parallel lines. One of several points is 0 only where
    their lines meet.

    Args:
        inputs: (B, M), the x_ij.
        truth: the a and b that made the points.
    """

    inputs: Tensor
    truth: tuple[float, float]
    shows: str
    corners: tuple[tuple[float, float], tuple[float, float]] = ((-3.0, -3.0), (3.0, 3.0))

    @property
    def examples(self) -> int:
        """The number of examples, B."""
        return len(self.inputs)

    @property
    def targets(self) -> Tensor:
        """(B, M), the y_ij."""
        a, b = self.truth
        return torch.sin(a * self.inputs + b)

    def losses(self, weights: Tensor) -> Tensor:
        """The loss of each example: (..., 2) -> (..., B)."""
        return (torch.sin(self._angles(weights)) - self.targets).square().mean(dim=-1) / 2

    def gradients(self, weights: Tensor) -> Tensor:
        """The gradient of each example, mean_j r_ij cos(a x_ij + b) (x_ij, 1)."""
        angles = self._angles(weights)
        by_b = (torch.sin(angles) - self.targets) * torch.cos(angles)
        by_a = by_b * self.inputs
        return torch.stack([by_a.mean(dim=-1), by_b.mean(dim=-1)], dim=-1).movedim(-2, 0)

    def _angles(self, weights: Tensor) -> Tensor:
        return weights[..., 0, None, None] * self.inputs + weights[..., 1, None, None]

    def _candidates(self) -> Iterable[Tensor]:
        # The lines of two points, each angle + 2 pi k or pi - angle + 2 pi k, meet at every zero.
        a, b = self.truth
        x1, x2 = self.inputs.flatten().unique(sorted=True)[:2].tolist()
        lines = [
            [base + 2 * math.pi * k for base in (a * x + b, math.pi - a * x - b) for k in _BRANCHES]
            for x in (x1, x2)
        ]
        for c1, c2 in itertools.product(*lines):
            slope = (c2 - c1) / (x2 - x1)
            yield torch.tensor([slope, c1 - slope * x1], dtype=torch.float64)


def hessians(landscape: Landscape, weights: Tensor) -> Tensor:
    """The second derivatives of each example's loss at one point: (2,) -> (B, 2, 2)."""
    return torch.autograd.functional.jacobian(landscape.gradients, weights).double()


def kind_of(landscape: Landscape, weights: Tensor) -> Kind:
    """Whether a zero point (2,) is shared or a crossing.

    Shared: the Hessian of every example alone is positive definite there.
    """
    steepness = torch.linalg.eigvalsh(hessians(landscape, weights))
    return "shared" if bool((steepness > _FLAT).all()) else "crossing"


def patchwork(
    shared: tuple[float, float] = (0.0, 0.0),
    crossing: tuple[float, float] = (1.5, 1.5),
    directions: Sequence[float] = (0.0, 90.0),
    shows: str = "what all examples share, and shortcuts of their own that merely cross",
) -> Wells:
    """A round well that all examples share, and through one point a valley of each alone.

    The valley of an example stands for a shortcut: it satisfies this example and no other. Any
    two valleys that are not parallel cross somewhere, and there the pooled loss is 0 too.

    Args:
        shared: where the round wells are, of radius 0.7.
        crossing: where the valleys cross.
        directions: of the valley of each example, in degrees from the a-axis; half width 0.6.
            Along the axes each shortcut is a matter of a single weight.
        shows: what it is good for, in a sentence.
    """
    radians = torch.deg2rad(torch.tensor(directions, dtype=torch.float64))
    normals = torch.stack([-radians.sin(), radians.cos()], dim=-1)
    valleys = normals.unsqueeze(-1) * normals.unsqueeze(-2) / 0.6**2
    wells = (torch.eye(2, dtype=torch.float64) / 0.7**2).expand_as(valleys)
    at = torch.tensor([shared, crossing], dtype=torch.float64).expand(len(directions), 2, 2)
    return Wells(at, torch.stack([wells, valleys], dim=1), shows)


def knowledge() -> Wells:
    """Example 1 wants a = -1.5 or 1.5 and has no opinion on b; example 2 the other way round."""
    valleys = torch.diag_embed(torch.eye(2, dtype=torch.float64)).unsqueeze(1).expand(2, 2, 2, 2)
    at = torch.tensor([-1.5, 1.5], dtype=torch.float64)[:, None].expand(2, 2, 2)
    return Wells(at, valleys, "each example knows one weight, and nothing of the other")


# How each was designed. "patchwork": to be kind to consensus, since each shortcut is a matter of
# one weight, so that the other weight hears only of what is shared; the places were picked among
# some dozens for the share of starts from which consensus, but not the mean, finds the shared
# point. "turned": the same with the shortcuts at an angle to the axes, as nothing forbids. "one
# weight each", "waves" and "wave pairs" were written down and not tuned, but for wave points
# whose zero points do not lie on top of each other.
LANDSCAPES: Mapping[str, Landscape] = MappingProxyType(
    {
        "patchwork": patchwork(),
        "turned": patchwork(
            directions=(30.0, 120.0), shows="the patchwork with shortcuts that involve both weights"
        ),
        "one weight each": knowledge(),
        "waves": Waves(
            torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
            (1.7, 1.5),
            "a wave through two points, each an example: every zero point is a crossing",
        ),
        "wave pairs": Waves(
            torch.tensor([[-1.4, 0.0], [0.0, 1.4]], dtype=torch.float64),
            (1.7, 1.5),
            "examples of two points: every zero point is shared, and only one wave is the true one",
        ),
    }
)
