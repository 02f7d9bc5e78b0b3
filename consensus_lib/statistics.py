"""The statistics that rules are made of: they fold over voters, and merge across sets of voters.

Notation: N voters; g_i is the gradient of voter i at one weight. A *stack* is a tensor (N, ...)
whose dimension 0 is the voter; a statistic has the shape (...) that is left. Every statistic of
two sets of voters together follows from the statistics of each: that is all that a stream of
voters, gradient accumulation and several processes need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from consensus_lib.distributed import merge_across, total_count

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Statistic(ABC):
    """One statistic of the voters of a weight.

    Its settings must be in its repr, as those of dataclasses are: processes compare by it what
    they have gathered.
    """

    temporaries = 0  # how many float32 tensors of the size of the stack `of` needs for itself

    @property
    def made_of(self) -> frozenset[Statistic]:
        """The statistics it follows from: to fold these and derive it once is the cheapest."""
        return frozenset({self})

    @abstractmethod
    def of(self, stack: Stack) -> Tensor:
        """Its value for a stack (N, ...), N >= 1: a tensor (...)."""

    @abstractmethod
    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        """Its value for two sets of voters together, from its values for each; associative."""


class Stack(dict[Statistic, Tensor]):
    """Stacked gradients (N, ...) that give a statistic when first asked: stack[Sum()].

    Values are kept, so that statistics which share work (a minimum, say) do it once. With what a
    statistic is `made_of` given as `folded`, it gives that statistic without any gradients.
    """

    def __init__(
        self, gradients: Tensor | None = None, folded: Mapping[Statistic, Tensor] | None = None
    ) -> None:
        super().__init__(folded or {})
        self.gradients = gradients

    def __missing__(self, statistic: Statistic) -> Tensor:
        self[statistic] = value = statistic.of(self)
        return value


class RunningStatistics:
    """Statistics of a stream of stacks: what they are made of is folded, they follow at the end."""

    def __init__(self, needs: frozenset[Statistic]) -> None:
        self._needs = needs
        self._made_of = frozenset().union(*(need.made_of for need in needs))
        self._folded: dict[Statistic, Tensor] = {}

    def add(self, gradients: Tensor) -> None:
        """Fold in the gradients of some voters, (n, ...)."""
        stack = Stack(gradients)
        for part in self._made_of:
            so_far = self._folded.get(part)
            self._folded[part] = stack[part] if so_far is None else part.merge(so_far, stack[part])

    def answers(self) -> dict[Statistic, Tensor]:
        """{statistic: (...)} of all voters so far."""
        stack = Stack(folded=self._folded)
        return {need: stack[need] for need in self._needs}


class _Added(Statistic):
    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class _Lowest(Statistic):
    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, b)


@dataclass(frozen=True)
class Sum(_Added):
    """The sum of the gradients, sum_i g_i."""

    def of(self, stack: Stack) -> Tensor:
        return stack.gradients.sum(dim=0)


@dataclass(frozen=True)
class Votes(_Added):
    """The sum of the signs: voters with g_i > 0 less those with g_i < 0 (int32)."""

    temporaries = 1

    def of(self, stack: Stack) -> Tensor:
        return stack.gradients.sign().sum(dim=0).to(torch.int32)


@dataclass(frozen=True)
class Minimum(_Lowest):
    """min_i g_i."""

    def of(self, stack: Stack) -> Tensor:
        return stack.gradients.amin(dim=0)


@dataclass(frozen=True)
class Maximum(Statistic):
    """max_i g_i."""

    def of(self, stack: Stack) -> Tensor:
        return stack.gradients.amax(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)


@dataclass(frozen=True)
class Least(_Lowest):
    """The least magnitude, min_i |g_i|; a zero gradient counts as 0."""

    temporaries = 1

    def of(self, stack: Stack) -> Tensor:
        return stack.gradients.abs().amin(dim=0)


@dataclass(frozen=True)
class LeastNonzero(_Lowest):
    """The least magnitude among the g_i that are not 0; inf where every g_i is 0."""

    temporaries = 2

    def of(self, stack: Stack) -> Tensor:
        # threshold sends zeros to inf in one vectorized pass; comparisons are ten times slower
        return torch.threshold(stack.gradients.abs(), 0.0, torch.inf).amin(dim=0)


@dataclass(frozen=True)
class Touched(Statistic):
    """Whether any voter has g_i != 0 (bool)."""

    made_of = frozenset({Minimum(), Maximum()})

    def of(self, stack: Stack) -> Tensor:
        return torch.maximum(stack[Maximum()], -stack[Minimum()]).bool()

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a | b


def minmod(least: Tensor, greatest: Tensor) -> Tensor:
    """The number nearest 0 in the interval from least to greatest, weight by weight."""
    return least.clamp(min=0) + greatest.clamp(max=0)


@dataclass(frozen=True)
class Agreed(Statistic):
    """The signed least magnitude where all g_i have the same non-zero sign, else 0.

    This is the minmod limiter of finite-volume schemes, min_i(g_i)^+ + max_i(g_i)^-, and it is
    associative: the minmod of two partial values is the value for all.
    """

    made_of = frozenset({Minimum(), Maximum()})

    def of(self, stack: Stack) -> Tensor:
        return minmod(stack[Minimum()], stack[Maximum()])

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return minmod(torch.minimum(a, b), torch.maximum(a, b))


@dataclass(frozen=True)
class Unopposed(Statistic):
    """`Agreed` among the non-zero g_i only: 0 where every g_i is 0, inf where signs conflict.

    Zero is the neutral element (nobody has voted yet) and inf the absorbing one (a conflict
    stays a conflict), which makes the merge associative.
    """

    made_of = frozenset({Minimum(), Maximum(), LeastNonzero()})

    def of(self, stack: Stack) -> Tensor:
        lowest, highest = stack[Minimum()].sign(), stack[Maximum()].sign()
        side = (lowest + highest).clamp(-1, 1)  # 0 for a conflict, and where nobody votes
        least = stack[LeastNonzero()].clamp(max=torch.finfo(side.dtype).max)
        conflict = (-lowest * highest).clamp(min=0)
        # 1 / (1 - conflict) - 1 is inf or 0; torch.where is twenty times slower
        return side * least + ((1 - conflict).reciprocal() - 1)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        nearer = torch.where(a.abs() < b.abs(), a, b)
        conflict = torch.isinf(a) | torch.isinf(b) | (a.sign() * b.sign() < 0)
        merged = torch.where(a == 0, b, torch.where(b == 0, a, nearer))
        return torch.where(conflict, torch.inf, merged)


@dataclass(frozen=True)
class LogPowerSum(Statistic):
    """log sum_i |g_i|^p in float64; for p = 0 its counterpart sum_i log |g_i|.

    The logarithm keeps tiny gradients from overflowing at negative p.
    """

    p: float

    temporaries = 6

    def of(self, stack: Stack) -> Tensor:
        logs = stack.gradients.abs().double().log()
        return logs.sum(dim=0) if self.p == 0 else (self.p * logs).logsumexp(dim=0)

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b if self.p == 0 else torch.logaddexp(a, b)


@dataclass(frozen=True)
class Piece:
    """The statistics of some parameters, laid side by side.

    Attributes:
        shapes: {parameter name: shape}, in the order in which they lie.
        answers: {statistic: tensor}, of as many numbers as the parameters have together.
    """

    shapes: dict[str, torch.Size]
    answers: dict[Statistic, Tensor]

    def split(self, tensor: Tensor) -> dict[str, Tensor]:
        """{parameter name: its part of such a tensor, in its shape}."""
        if len(self.shapes) == 1:
            return {name: tensor.reshape(shape) for name, shape in self.shapes.items()}
        parts = tensor.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def by_parameter(self) -> dict[str, dict[Statistic, Tensor]]:
        """{parameter name: {statistic: tensor of its shape}}."""
        found: dict[str, dict[Statistic, Tensor]] = {name: {} for name in self.shapes}
        for statistic, answer in self.answers.items():
            for name, part in self.split(answer).items():
                found[name][statistic] = part
        return found


@dataclass(repr=False, eq=False)
class GradientStatistics:
    """The statistics of every parameter for one set of voters.

    Attributes:
        count: how many voters, N.
        by_parameter: {parameter name: {statistic: tensor of the parameter's shape}}; half
            precisions are widened to float32.
        dtypes: {parameter name: dtype of its gradients, which is that of its update}.
        fallback: parameters that no grad sampler accounted for: right, but slow to gather.
    """

    count: int
    by_parameter: dict[str, dict[Statistic, Tensor]]
    dtypes: dict[str, torch.dtype]
    fallback: tuple[str, ...] = ()

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
        accumulation steps first. Each statistic sends what an all_reduce of it would.

        Args:
            group: the processes that take part; None is all of them.

        Raises:
            RuntimeError: if torch.distributed is not initialized.
            ValueError: on every process, when they differ in parameters, shapes, dtypes or
                statistics, or hold stacked gradients; the statistics are then as they were.
        """
        tensors = [t for answers in self.by_parameter.values() for t in _tensors(answers)]
        device = tensors[0].device if tensors else torch.device("cpu")
        described = {name: self._described(name) for name in self.by_parameter}
        count = total_count(self.count, described, device, group)
        if any(isinstance(answers, Stack) for answers in self.by_parameter.values()):
            raise ValueError(
                "stacked gradients (of statistics_of) answer when asked, so nobody knows yet "
                "what to reduce: gather with tape.statistics(losses, needs=rule.needs)"
            )
        found: dict[str, dict[Statistic, Tensor]] = {name: {} for name in self.by_parameter}
        # sorted, since names and needs may have another order in another process
        for need in sorted({s for a in self.by_parameter.values() for s in a}, key=repr):
            mine = {n: a[need] for n, a in sorted(self.by_parameter.items()) if need in a}
            for name, tensor in merge_across(need.merge, mine, group).items():
                found[name][need] = tensor
        self.by_parameter, self.count = found, count
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
    for name, stack in gradients.items():
        require_real(name, stack.dtype)
        if stack.dim() == 0:
            raise ValueError(f"{name}: dimension 0 is the voter, and a scalar has none")
        if len(stack) == 0:
            raise ValueError(f"{name}: an empty batch, shape {tuple(stack.shape)}, has no voter")
        bad = ~torch.isfinite(stack)
        if bad.any():
            raise not_finite(name, int(bad.nonzero()[0, 0]))
    counts = {name: len(stack) for name, stack in gradients.items()}
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


def require_real(name: str, dtype: torch.dtype) -> None:
    """Raise TypeError unless the gradients of a parameter are real floating numbers."""
    if dtype.is_complex:
        raise TypeError(
            f"{name}: {dtype} has no sign to agree on: train torch.view_as_real of it and call "
            "torch.view_as_complex in the model"
        )
    if not dtype.is_floating_point:
        raise TypeError(f"{name}: gradients are floating tensors, not {dtype}")


def not_finite(name: str, voter: int) -> FloatingPointError:
    """The error that names the parameter and the voter whose gradient has a nan or inf."""
    return FloatingPointError(
        f"the gradient of voter {voter} at parameter '{name}' is not finite (it has a nan or "
        "inf): look at that example and its loss, or lower the learning rate; with a "
        "torch.amp.GradScaler leave out this step and call scaler.update(scaler.get_scale() / 2)"
    )


def looks_are_free(tensor: Tensor) -> bool:
    """Whether Python may choose by the numbers of a tensor at no cost.

    Elsewhere than on the CPU each look makes the host wait for the device, and the device for the
    next kernel.
    """
    return tensor.device.type == "cpu"
