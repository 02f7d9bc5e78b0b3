"""The questions a rule asks of a weight: each is a statistic that folds over voters.

Notation: N voters; g_i is the gradient of voter i at one weight. A *stack* is a tensor (N, ...)
whose dimension 0 is the voter; a statistic has the shape (...) that is left. Every statistic of
two sets of voters together follows from the statistics of each: that is all a stream needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from consensus_lib.distributed import Exchange

__all__ = [
    "Agreed",
    "Fold",
    "Least",
    "LeastNonzero",
    "LogPowerSum",
    "Maximum",
    "Minimum",
    "Stack",
    "Statistic",
    "Sum",
    "Touched",
    "Unopposed",
    "Votes",
    "minmod",
]


class Statistic(ABC):
    """One question about the voters of a weight."""

    @property
    def parts(self) -> frozenset[Statistic]:
        """The statistics it is made of: to fold these and derive it once is the cheapest."""
        return frozenset({self})

    @property
    def temporaries(self) -> int:
        """How many float32 tensors of the size of the stack `of` needs for itself."""
        return 0

    @abstractmethod
    def of(self, stack: Stack) -> Tensor:
        """The answer for a stack (N, ...), N >= 1: a tensor (...)."""

    @abstractmethod
    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """The answer for two sets of voters together, from the answers for each."""

    def across(self, answer: Tensor) -> Exchange:
        """The answer for the voters of all processes, from this process's answer (...).

        A generator: `yield "min", tensor` and `yield "sum", tensor` give back the minimum and
        the sum of that tensor over the processes, entry by entry, in its shape and dtype. The
        processes compare their statistics by repr, which must name its settings, as those of
        dataclasses do.
        """
        raise NotImplementedError(f"{self!r} has no `across`: say there how it crosses processes")


class Stack(dict[Statistic, Tensor]):
    """Stacked gradients (N, ...) that answer a statistic when first asked: stack[Sum()].

    Answers are kept, so that statistics which share work (a minimum, say) do it once. With the
    `parts` of a statistic folded elsewhere, it answers that statistic without any gradients.
    """

    def __init__(
        self, gradients: Tensor | None = None, folded: Mapping[Statistic, Tensor] | None = None
    ) -> None:
        super().__init__(folded or {})
        self.gradients = gradients

    def __missing__(self, statistic: Statistic) -> Tensor:
        self[statistic] = answer = statistic.of(self)
        return answer


class Fold:
    """Statistics of a stream of stacks: their parts are folded, they are derived at the end."""

    def __init__(self, needs: frozenset[Statistic]) -> None:
        self._needs = needs
        self._parts = frozenset().union(*(need.parts for need in needs))
        self._folded: dict[Statistic, Tensor] = {}

    def add(self, stack: Tensor) -> None:
        """Fold in some voters, (n, ...)."""
        found = Stack(stack)
        for part in self._parts:
            so_far = self._folded.get(part)
            self._folded[part] = found[part] if so_far is None else part.merge(so_far, found[part])

    def answers(self) -> dict[Statistic, Tensor]:
        """{statistic: (...)} of all voters so far."""
        found = Stack(folded=self._folded)
        return {need: found[need] for need in self._needs}


class _Additive(Statistic):
    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def across(self, answer: Tensor) -> Exchange:
        return (yield "sum", answer)


@dataclass(frozen=True)
class Sum(_Additive):
    """The sum of the gradients, sum_i g_i."""

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack.gradients.sum(dim=0)


@dataclass(frozen=True)
class Votes(_Additive):
    """The sum of the signs: voters with g_i > 0 less those with g_i < 0 (a whole number)."""

    @property
    def temporaries(self) -> int:
        """See `Statistic.temporaries`."""
        return 1

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack.gradients.sign().sum(dim=0)


@dataclass(frozen=True)
class Minimum(Statistic):
    """min_i g_i."""

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack.gradients.amin(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return torch.minimum(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        return (yield "min", answer)


@dataclass(frozen=True)
class Maximum(Statistic):
    """max_i g_i."""

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack.gradients.amax(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return torch.maximum(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        return -(yield "min", -answer)


@dataclass(frozen=True)
class LeastNonzero(Statistic):
    """The least magnitude among the g_i that are not 0; inf where every g_i is 0."""

    @property
    def temporaries(self) -> int:
        """See `Statistic.temporaries`."""
        return 2

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        # threshold sends zeros to inf in one vectorized pass; comparisons are ten times slower
        return torch.threshold(stack.gradients.abs(), 0.0, torch.inf).amin(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return torch.minimum(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        return (yield "min", answer)


class _FromExtremes(Statistic):
    @property
    def parts(self) -> frozenset[Statistic]:
        """See `Statistic.parts`."""
        return frozenset({Minimum(), Maximum()})


@dataclass(frozen=True)
class Touched(_FromExtremes):
    """1 where any voter has g_i != 0, else 0 (in the dtype of the gradients)."""

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return torch.maximum(stack[Maximum()], -stack[Minimum()]).sign_()

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return torch.maximum(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        # bytes, a quarter of the floats' traffic
        return 1 - (yield "min", (1 - answer).to(torch.uint8)).to(answer.dtype)


@dataclass(frozen=True)
class Least(Statistic):
    """The least magnitude, min_i |g_i|; a zero gradient counts as 0."""

    @property
    def temporaries(self) -> int:
        """See `Statistic.temporaries`."""
        return 1

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack.gradients.abs().amin(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return torch.minimum(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        return (yield "min", answer)


def minmod(least: Tensor, greatest: Tensor) -> Tensor:
    """The number nearest 0 in the interval from least to greatest, weight by weight."""
    return least.clamp(min=0) + greatest.clamp(max=0)


@dataclass(frozen=True)
class Agreed(_FromExtremes):
    """The signed least magnitude where all g_i have the same non-zero sign, else 0.

    This is the minmod limiter of finite-volume schemes, min_i(g_i)^+ + max_i(g_i)^-, and it is
    associative: the minmod of two partial answers is the answer for all.
    """

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return minmod(stack[Minimum()], stack[Maximum()])

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return minmod(torch.minimum(a, b), torch.maximum(a, b))

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        least, minus_greatest = yield "min", torch.stack([answer, -answer])
        return minmod(least, -minus_greatest)


@dataclass(frozen=True)
class Unopposed(Statistic):
    """`Agreed` among the non-zero g_i only: 0 where every g_i is 0, inf where signs conflict.

    Zero is the neutral element (nobody has voted yet) and inf the absorbing one (a conflict
    stays a conflict), which makes the merge associative.
    """

    @property
    def parts(self) -> frozenset[Statistic]:
        """See `Statistic.parts`."""
        return frozenset({Minimum(), Maximum(), LeastNonzero()})

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        lowest, highest = stack[Minimum()].sign(), stack[Maximum()].sign()
        side = (lowest + highest).clamp(-1, 1)  # 0 for a conflict, and where nobody votes
        least = stack[LeastNonzero()].clamp(max=torch.finfo(side.dtype).max)
        conflict = (-lowest * highest).clamp(min=0)
        # 1 / (1 - conflict) - 1 is inf or 0; torch.where is twenty times slower
        return side * least + ((1 - conflict).reciprocal() - 1)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        nearer = torch.where(a.abs() < b.abs(), a, b)
        conflict = torch.isinf(a) | torch.isinf(b) | (a.sign() * b.sign() < 0)
        merged = torch.where(a == 0, b, torch.where(b == 0, a, nearer))
        return torch.where(conflict, torch.inf, merged)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        # the least of each sign, inf where none has voted; a conflict has a vote of each
        up = torch.where(answer > 0, answer, torch.inf)
        down = torch.where(answer < 0, -answer, torch.inf)
        wire = torch.stack([up, down]).masked_fill(torch.isinf(answer), 0.0)
        up, down = yield "min", wire
        signed = torch.where(down < torch.inf, -down, torch.where(up < torch.inf, up, 0.0))
        return torch.where((up < torch.inf) & (down < torch.inf), torch.inf, signed)


@dataclass(frozen=True)
class LogPowerSum(Statistic):
    """log sum_i |g_i|^p in float64; for p = 0 its counterpart sum_i log |g_i|.

    The logarithm keeps tiny gradients from overflowing at negative p.
    """

    p: float

    @property
    def temporaries(self) -> int:
        """See `Statistic.temporaries`."""
        return 6

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        logs = stack.gradients.abs().double().log()
        return logs.sum(dim=0) if self.p == 0 else (self.p * logs).logsumexp(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return a + b if self.p == 0 else torch.logaddexp(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        if self.p == 0:
            return (yield "sum", answer)
        greatest = -(yield "min", -answer)
        # an infinite one cannot be subtracted (inf - inf), nor need it be: exp(-inf) is 0
        shift = torch.where(torch.isinf(greatest), 0.0, greatest)
        return (yield "sum", (answer - shift).exp()).log() + shift
