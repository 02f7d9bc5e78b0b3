"""From statistics to an update: each class is one way to reduce the gradients of N voters.

Notation, at one weight: g_i the gradient of voter i, m = mean_i g_i, s = mean_i sign(g_i).
A rule's update takes the place of the mean gradient, so that an optimizer *subtracts* it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from consensus_lib.statistics import (
    Agreed,
    GradientStatistics,
    Least,
    LogPowerSum,
    Statistic,
    Sum,
    Touched,
    Unopposed,
    Votes,
    looks_are_free,
    statistics_of,
)

Answers = Mapping[Statistic, Tensor]


class Rule(ABC):
    """An immutable way to reduce voters; works on any device and floating dtype."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Statistic]:
        """The statistics that the rule asks for."""

    # Whether the update of a weight depends on its own statistics alone. Then parameters may be
    # reduced in any order, and several as if they were one.
    weight_by_weight = True

    @abstractmethod
    def update(self, answers: Answers, count: int) -> Tensor:
        """The update of one parameter, a tensor of its shape (of any dtype).

        Args:
            answers: each needed statistic, a tensor of the parameter's shape.
            count: the number of voters, N >= 1.
        """

    def reduce(self, gradients: Tensor) -> Tensor:
        """Reduce a stack of gradients (N, ...) over its voters to (...), in the same dtype.

        Raises:
            ValueError: for a scalar or an empty batch.
            TypeError: for a tensor that is not floating.
            FloatingPointError: for a nan or inf, naming the voter.
        """
        return self(statistics_of({"gradients": gradients}))["gradients"]

    def __call__(self, statistics: GradientStatistics) -> dict[str, Tensor]:
        """The update of every parameter, {name: tensor of its shape, in the gradients' dtype}.

        Raises:
            ValueError: if a statistic that the rule needs was not gathered.
        """
        statistics.require(self.needs, repr(self))
        return {
            name: self.update(answers, statistics.count).to(statistics.dtypes[name])
            for name, answers in statistics.by_parameter.items()
        }


def _votes_needed(threshold: float, count: int) -> int:
    """The least number of votes whose share of `count` is the threshold: of 3 voters 2/3 is 2."""
    return math.ceil(threshold * count - 1e-9)


def _require_share(what: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{what} in [0, 1], not {share}")


@dataclass(frozen=True)
class Mean(Rule):
    """The mean gradient m: ordinary training."""

    needs = frozenset({Sum()})

    def update(self, answers: Answers, count: int) -> Tensor:
        return answers[Sum()] / count


@dataclass(frozen=True)
class Consensus(Rule):
    """The least magnitude with the common sign where all voters agree, else 0.

    zeros="veto" is the literal definition: a zero gradient blocks the weight, since the least
    magnitude is then 0. With zeros="abstain" only non-zero gradients vote, and the least of
    them is taken. At each weight the veto update is the least-norm point of the interval
    [min g_i, max g_i]: MGDA (Désidéri 2012; Sener and Koltun 2018, arXiv 1810.04650) done
    coordinate by coordinate. Adasum, AdaCons and Agr-Sum are other methods that share the word.
    """

    zeros: Literal["veto", "abstain"] = "veto"

    def __post_init__(self) -> None:
        if self.zeros not in ("veto", "abstain"):
            raise ValueError(f"zeros is 'veto' or 'abstain', not {self.zeros!r}")

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Agreed() if self.zeros == "veto" else Unopposed()})

    def update(self, answers: Answers, count: int) -> Tensor:
        if self.zeros == "veto":
            return answers[Agreed()]
        return torch.nan_to_num(answers[Unopposed()], posinf=0.0)


@dataclass(frozen=True)
class AndMask(Rule):
    """m where |s| >= threshold, else 0 (Parascandolo et al. 2020, arXiv 2009.00329).

    rescale=True divides the update of each tensor by the share of its weights that were kept,
    as the paper's published code does.
    """

    threshold: float = 1.0
    rescale: bool = False

    def __post_init__(self) -> None:
        _require_share("threshold is a share of agreement", self.threshold)

    @property
    def weight_by_weight(self) -> bool:
        return not self.rescale  # to rescale, a tensor must be known whole

    needs = frozenset({Sum(), Votes()})

    def update(self, answers: Answers, count: int) -> Tensor:
        total, votes = answers[Sum()], answers[Votes()]
        needed = _votes_needed(self.threshold, count)
        if looks_are_free(votes) and max(votes.amax(), -votes.amin()) < needed:
            return total.new_zeros(()).expand(total.shape)  # two extremes spare four passes
        mask = votes.to(total.dtype).abs_().ge_(needed)
        kept = mask.mean() if self.rescale else None
        update = mask.mul_(total).div_(count)
        return update if kept is None else torch.where(kept > 0, update / kept, update)


@dataclass(frozen=True)
class AgreementWeighted(Rule):
    """m |s|: the mean, weighted by how far the signs agree."""

    needs = frozenset({Sum(), Votes()})

    def update(self, answers: Answers, count: int) -> Tensor:
        total = answers[Sum()]
        return answers[Votes()].to(total.dtype).abs_().mul_(total).div_(count * count)


@dataclass(frozen=True)
class PowerMean(Rule):
    """sign(s) (mean_i |g_i|^p)^(1/p) where |s| >= threshold, else 0.

    With threshold 1: p = 1 is the AND-mask, p = 0 the geometric mean of Parascandolo et al.
    2020 (arXiv 2009.00329, section 3), p = -1 the harmonic mean, p = -inf the consensus.
    Below 1 the magnitudes are those of all voters, whichever way they vote. At p <= 0 a zero
    gradient makes the update 0.
    """

    p: float
    threshold: float = 1.0

    def __post_init__(self) -> None:
        _require_share("threshold is a share of agreement", self.threshold)
        if math.isnan(self.p) or self.p == math.inf:
            raise ValueError(f"p is a number below inf (or -inf), not {self.p}")

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Votes(), self._magnitudes})

    @property
    def _magnitudes(self) -> Statistic:
        return Least() if self.p == -math.inf else LogPowerSum(self.p)

    def update(self, answers: Answers, count: int) -> Tensor:
        magnitude = answers[self._magnitudes]
        if self.p == 0:
            magnitude = (magnitude / count).exp()
        elif self.p > -math.inf:
            magnitude = ((magnitude - math.log(count)) / self.p).exp()
        votes = answers[Votes()]
        agreed = votes.abs() >= _votes_needed(self.threshold, count)
        return torch.where(agreed, votes.sign() * magnitude, 0.0)


@dataclass(frozen=True)
class SignVote(Rule):
    """sign(s): signSGD with majority vote (Bernstein et al. 2018, arXiv 1810.05291)."""

    needs = frozenset({Votes()})

    def update(self, answers: Answers, count: int) -> Tensor:
        return answers[Votes()].float().sign_()


@dataclass(frozen=True)
class RandomMask(Rule):
    """Control: the mean on randomly chosen weights, 0 elsewhere.

    Of each tensor a share `ratio` of the weights is chosen, or with ratio=None as many as have
    consensus; always among the weights at which some voter is non-zero, so that the choice is
    not wasted on weights that would not move anyway.

    Args:
        ratio: the share of the tensor's weights, in [0, 1], or None.
        generator: source of the random choice; None is torch's global one.
    """

    ratio: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.ratio is not None:
            _require_share("ratio is None or a share of weights", self.ratio)

    weight_by_weight = False  # the lots of a tensor are drawn together

    @property
    def needs(self) -> frozenset[Statistic]:
        return frozenset({Sum(), Touched()} | ({Agreed()} if self.ratio is None else set()))

    def update(self, answers: Answers, count: int) -> Tensor:
        mean = answers[Sum()] / count
        device = mean.device if self.generator is None else self.generator.device
        lots = torch.rand(mean.shape, generator=self.generator, device=device).to(mean.device)
        # lots lie in [0, 1): the bonus ranks every touched weight before every other
        ranks = (lots - 2.0 * answers[Touched()]).flatten()
        size = round(self.ratio * len(ranks)) if self.ratio is not None else None
        mask = _least(ranks, answers[Agreed()].count_nonzero() if size is None else size)
        return mean * mask.view_as(mean)


def _least(ranks: Tensor, size: int | Tensor) -> Tensor:
    """True at the `size` least of (n,) numbers."""
    mask = torch.zeros_like(ranks, dtype=torch.bool)
    if isinstance(size, Tensor) and not looks_are_free(size):  # to sort takes long, but no look
        return mask.scatter_(
            0, ranks.argsort(), torch.arange(len(ranks), device=size.device) < size
        )
    mask[ranks.topk(int(size), largest=False, sorted=False).indices] = True
    return mask


@dataclass(frozen=True)
class SmallestMagnitude(Rule):
    """Control: sign(m) min_i |g_i|, nothing masked for disagreement."""

    needs = frozenset({Sum(), Least()})

    def update(self, answers: Answers, count: int) -> Tensor:
        return torch.sign(answers[Sum()]) * answers[Least()]
