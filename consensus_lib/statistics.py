"""What a batch says of every parameter: its statistics, which merge across chunks and processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from consensus_lib.distributed import run_together, total_count
from consensus_lib.questions import Stack, Statistic

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["GradientStatistics", "statistics_of"]


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
    raise not_finite(name, first_voter + voter)


def not_finite(name: str, voter: int) -> FloatingPointError:
    """The error that names the parameter and the voter whose gradient has a nan or inf."""
    return FloatingPointError(
        f"the gradient of voter {voter} at parameter '{name}' is not finite (it has a nan or "
        "inf): look at that example and its loss, or lower the learning rate"
    )


def looks_are_free(tensor: Tensor) -> bool:
    """Whether Python may choose by the numbers of a tensor at no cost.

    Elsewhere than on the CPU each look makes the host wait for the device, and the device for the
    next kernel.
    """
    return tensor.device.type == "cpu"
