"""The rules of the study by name, and how each reduces the gradients of several networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from consensus_lib.rules import (
    AgreementWeighted,
    AndMask,
    Consensus,
    Mean,
    PowerMean,
    RandomMask,
    Rule,
    SmallestMagnitude,
)
from consensus_lib.statistics import Stack
from course.study.networks import Architecture

__all__ = ["CONTROLS", "MAIN_RULES", "RELATIVES", "RULES", "SCALED_MEAN", "SOFTER_RULES", "Reducer"]

SCALED_MEAN = "scaled mean"  # takes the mean's step, as long as consensus's: see `ScaledStepper`
CONTROLS = ("random mask", "smallest", SCALED_MEAN)

_MAIN: dict[str, Rule] = {
    "mean": Mean(),
    "consensus": Consensus(),
    "abstain": Consensus(zeros="abstain"),
    "AND-mask": AndMask(),
    "AND-mask 2/3": AndMask(2 / 3),
    "agreement": AgreementWeighted(),
    "random mask": RandomMask(),
    "smallest": SmallestMagnitude(),
    SCALED_MEAN: Mean(),
}
_SOFTER: dict[str, Rule] = {
    "AND-mask 1/2": AndMask(1 / 2),
    "geometric": PowerMean(0),
    "harmonic": PowerMean(-1),
    "power -3": PowerMean(-3),
}

RULES: Mapping[str, Rule] = MappingProxyType(_MAIN | _SOFTER)
MAIN_RULES, SOFTER_RULES = tuple(_MAIN), tuple(_SOFTER)
RELATIVES = ("MGDA", "UPGrad")  # not coordinate-wise: TorchJD's


class Reducer:
    """A rule for S networks at once.

    Most rules look at one weight at a time, so that a stack (N, S, P) is as good to them as one
    (N, P). A random mask chooses among the weights of one tensor of one network: there each
    network has the rule, and the source of lots, that `course.arc.fit` would have. The
    relatives look at whole gradients, one network after another.

    Args:
        name: of `RULES` or `RELATIVES`; for the latter raises ImportError where torchjd is
            missing.
        architecture: of the networks.
        seeds: of the S networks at the start.
    """

    def __init__(self, name: str, architecture: Architecture, seeds: Sequence[int]) -> None:
        self._rule = RULES.get(name)
        self._architecture = architecture
        self._aggregator = _aggregator(name) if name in RELATIVES else None
        if isinstance(self._rule, RandomMask):
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            self._rules = [RandomMask(self._rule.ratio, generator) for generator in generators]

    def reduce(self, stack: Stack, alive: Sequence[int]) -> Tensor:
        """The updates (S, P) from a stack of gradients (N, S, P).

        Args:
            stack: finite gradients.
            alive: which of the seeds the S networks are, counted from 0.
        """
        if self._aggregator is not None:
            return torch.stack([self._aggregator(rows) for rows in stack.gradients.unbind(dim=1)])
        voters = len(stack.gradients)
        if self._rule.weight_by_weight:
            return self._rule.update(stack, voters).to(stack.gradients.dtype)
        answers = {need: self._architecture.tensors(stack[need]) for need in self._rule.needs}
        updates = []
        for number in range(2 * len(self._architecture.layers)):
            of_tensor = [
                self._rules[seed].update(
                    {need: tensors[number][row] for need, tensors in answers.items()}, voters
                )
                for row, seed in enumerate(alive)
            ]
            updates.append(torch.stack(of_tensor))
        return self._architecture.from_tensors(updates)


def _aggregator(name: str) -> Callable[[Tensor], Tensor]:
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ImportError(
            f"{name} comes from TorchJD, which the course does not need: "
            "pip install -r tests/benchmarks/requirements.txt"
        ) from error
    return getattr(aggregation, name)()
