"""What a batch says of each weight: statistics that fold over voters and merge across chunks.

Notation: N voters; g_i is the gradient of voter i at one weight. A *stack* is a tensor (N, ...)
whose dimension 0 is the voter; a statistic has the shape (...) that is left. Every statistic of
two sets of voters together follows from the statistics of each: that is all a stream needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from consensus_lib.distributed import Exchange, run_together, total_count

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "Agreed",
    "GradientStatistics",
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
    "statistics_of",
]


class Statistic(ABC):
    """One question about the voters of a weight."""

    @property
    def parts(self) -> frozenset[Statistic]:
        """The statistics it is made of: to fold these and derive it once is the cheapest."""
        return frozenset({self})

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
    """Whether any voter has g_i != 0 (bool)."""

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack[Minimum()].abs() + stack[Maximum()].abs() > 0

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return a | b

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        # bytes, a quarter of the floats' traffic; not every backend reduces bool
        return (yield "min", (~answer).to(torch.uint8)) == 0


@dataclass(frozen=True)
class Least(Statistic):
    """The least magnitude, min_i |g_i|; a zero gradient counts as 0."""

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return stack.gradients.abs().amin(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return torch.minimum(a, b)

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        return (yield "min", answer)


def _minmod(least: Tensor, greatest: Tensor) -> Tensor:
    return least.clamp(min=0) + greatest.clamp(max=0)


@dataclass(frozen=True)
class Agreed(_FromExtremes):
    """The signed least magnitude where all g_i have the same non-zero sign, else 0.

    This is the minmod limiter of finite-volume schemes, min_i(g_i)^+ + max_i(g_i)^-, and it is
    associative: the minmod of two partial answers is the answer for all.
    """

    def of(self, stack: Stack) -> Tensor:
        """See `Statistic.of`."""
        return _minmod(stack[Minimum()], stack[Maximum()])

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Statistic.merge`."""
        return _minmod(torch.minimum(a, b), torch.maximum(a, b))

    def across(self, answer: Tensor) -> Exchange:
        """See `Statistic.across`."""
        least, minus_greatest = yield "min", torch.stack([answer, -answer])
        return _minmod(least, -minus_greatest)


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


class GradientStatistics:
    """The statistics of every parameter for one set of voters.

    Attributes:
        count: how many voters, N.
        by_parameter: {parameter name: {statistic: tensor of the parameter's shape}}; half
            precisions are widened to float32.
        dtypes: {parameter name: dtype of its gradients, which is that of its update}.
        fallback: parameters that no layer rule accounted for: right, but slow to gather.
    """

    def __init__(
        self,
        count: int,
        by_parameter: dict[str, dict[Statistic, Tensor]],
        dtypes: dict[str, torch.dtype],
        fallback: tuple[str, ...] = (),
    ) -> None:
        self.count = count
        self.by_parameter = by_parameter
        self.dtypes = dtypes
        self.fallback = fallback

    def __repr__(self) -> str:
        return f"GradientStatistics({self.count} voters, {len(self.by_parameter)} parameters)"

    def require(self, needs: Iterable[Statistic], who: str) -> None:
        """Raise ValueError if a statistic that `who` needs was not gathered."""
        for name, answers in self.by_parameter.items():
            lacking = [] if isinstance(answers, Stack) else [s for s in needs if s not in answers]
            if lacking:
                raise ValueError(
                    f"{who} needs {', '.join(map(repr, lacking))}, which were not gathered for "
                    f"parameter '{name}': gather statistics with needs=rule.needs"
                )

    def merge(self, other: GradientStatistics) -> GradientStatistics:
        """Add the voters of `other`, in place; returns self.

        Raises:
            ValueError: if the two speak of different parameters, statistics or devices.
        """
        if self.by_parameter.keys() != other.by_parameter.keys():
            odd = sorted(self.by_parameter.keys() ^ other.by_parameter.keys())
            raise ValueError(f"only one of the two statistics has the parameters {odd}")
        self.by_parameter = {
            name: _merged(name, answers, other.by_parameter[name])
            for name, answers in self.by_parameter.items()
        }
        self.count += other.count
        self.fallback = tuple(dict.fromkeys(self.fallback + other.fallback))
        return self

    def all_reduce(self, group: ProcessGroup | None = None) -> GradientStatistics:
        """Make these the statistics of the voters of all processes, in place; returns self.

        Every process of the group must call it, once a step, each with the voters it has (at
        least one, and not always equally many). A voter lives in one process. Merge gradient
        accumulation steps first.

        Communicated: two integers a process, then one all_reduce for all minima of a dtype and
        one for all sums; see `Statistic.across` for how much each statistic sends.

        Args:
            group: the processes that take part; None is all of them.

        Raises:
            RuntimeError: if torch.distributed is not initialized.
            ValueError: on every process, when they differ in parameters, shapes, dtypes or
                statistics, or hold stacked gradients; the statistics are then as they were.
        """
        firsts = (next(iter(_tensors(a)), None) for a in self.by_parameter.values())
        device = next((t.device for t in firsts if t is not None), torch.device("cpu"))
        described = {name: self._described(name) for name in self.by_parameter}
        count = total_count(self.count, described, device, group)
        if any(isinstance(answers, Stack) for answers in self.by_parameter.values()):
            raise ValueError(
                "stacked gradients (of statistics_of) answer when asked, so nobody knows yet "
                "what to reduce: gather with tape.statistics(losses, needs=rule.needs)"
            )
        # Sorted, since a set of needs may have another order in another process.
        asked = [(n, s) for n in sorted(described) for s in sorted(self.by_parameter[n], key=repr)]
        reduced = run_together([s.across(self.by_parameter[n][s]) for n, s in asked], group)
        found = dict(zip(asked, reduced, strict=True))
        self.by_parameter = {
            name: {statistic: found[name, statistic] for statistic in answers}
            for name, answers in self.by_parameter.items()
        }
        self.count = count
        return self

    def _described(self, name: str) -> str:
        """What the processes must have in common at a parameter."""
        answers = self.by_parameter[name]
        if isinstance(answers, Stack):
            return "stacked gradients, of which no statistic is gathered"
        gathered = sorted(f"{s!r} ({t.dtype}, {tuple(t.shape)})" for s, t in answers.items())
        return f"{', '.join(gathered)} of gradients in {self.dtypes[name]}"


def _tensors(answers: dict[Statistic, Tensor]) -> Iterable[Tensor]:
    return [answers.gradients] if isinstance(answers, Stack) else answers.values()


def _merged(
    name: str, a: dict[Statistic, Tensor], b: dict[Statistic, Tensor]
) -> dict[Statistic, Tensor]:
    if isinstance(a, Stack) and isinstance(b, Stack):
        return Stack(torch.cat([a.gradients, b.gradients]))
    keys = b.keys() if isinstance(a, Stack) else a.keys()
    if not isinstance(a, Stack) and not isinstance(b, Stack) and a.keys() != b.keys():
        raise ValueError(
            f"at parameter '{name}' one was gathered for {sorted(map(repr, a))}, the other for "
            f"{sorted(map(repr, b))}: gather both with the same needs"
        )
    for key in keys:
        if a[key].device != b[key].device:
            raise ValueError(
                f"the statistics of parameter '{name}' are on {a[key].device} and "
                f"{b[key].device}: move the models to one device"
            )
    return {key: key.merge(a[key], b[key]) for key in keys}


def statistics_of(gradients: Mapping[str, Tensor]) -> GradientStatistics:
    """Every statistic of stacked gradients, {name: (N, ...)}, computed when asked for.

    Half precisions are widened to float32. Works for any rule.

    Raises:
        ValueError: if there is no voter, or parameters have different numbers of voters.
        TypeError: if a gradient is not a floating tensor.
        FloatingPointError: if a gradient is not finite; names the parameter and the voter.
    """
    counts = {name: len(checked_stack(g, name)) for name, g in gradients.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"every parameter needs the same number of voters, not {counts}")
    return GradientStatistics(
        count=next(iter(counts.values())),
        by_parameter={name: Stack(widened(g)) for name, g in gradients.items()},
        dtypes={name: g.dtype for name, g in gradients.items()},
    )


def widened(gradient: Tensor) -> Tensor:
    """The gradient in float32 if it is of a half precision, as it is otherwise."""
    return gradient.float() if gradient.dtype.itemsize < 4 else gradient


def checked_stack(stack: Tensor, name: str = "gradients") -> Tensor:
    """The stack itself if it can be reduced over its voters; see `statistics_of` for errors."""
    if not stack.is_floating_point():
        raise TypeError(f"{name}: gradients are floating tensors, not {stack.dtype}")
    if stack.dim() == 0:
        raise ValueError(f"{name}: dimension 0 is the voter, and a scalar has none")
    if len(stack) == 0:
        raise ValueError(f"{name}: an empty batch, shape {tuple(stack.shape)}, has no voter")
    require_finite(stack, name)
    return stack


def require_finite(stack: Tensor, name: str, first_voter: int = 0) -> None:
    """Raise FloatingPointError naming the parameter and the first voter that is not finite."""
    if torch.isfinite(stack).all():
        return
    bad = ~torch.isfinite(stack).flatten(start_dim=1).all(dim=1)
    voter = int(bad.nonzero()[0])
    raise FloatingPointError(
        f"the gradient of voter {first_voter + voter} at parameter '{name}' is not finite (it has "
        "a nan or inf): look at that example and its loss, or lower the learning rate"
    )
