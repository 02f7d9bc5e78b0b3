"""What one backward pass found: the loss, and how much of the network the voters agree on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from consensus_lib.statistics import (
    Agreed,
    GradientStatistics,
    Statistic,
    Touched,
    Votes,
)

__all__ = ["ParameterReport", "Report", "report_needs"]


@dataclass(frozen=True)
class ParameterReport:
    """How many weights of one parameter, or of all, have consensus, move, or could move.

    Attributes:
        size: the number of weights.
        consensus: weights at which every voter's gradient has the same non-zero sign.
        updated: weights that the rule's update moves.
        live: weights at which any voter's gradient is not zero.
    """

    size: int
    consensus: int
    updated: int
    live: int

    @property
    def consensus_ratio(self) -> float:
        """The share of all weights with consensus."""
        return self.consensus / self.size

    @property
    def update_ratio(self) -> float:
        """The share of all weights that the rule's update moves."""
        return self.updated / self.size

    @property
    def live_ratio(self) -> float:
        """The share of all weights at which any voter's gradient is not zero."""
        return self.live / self.size

    @property
    def live_consensus_ratio(self) -> float:
        """The share of the live weights with consensus; nan where none is live.

        Dead weights, such as those of a colour that no grid shows, dilute `consensus_ratio`
        but not this one.
        """
        return self.consensus / self.live if self.live else float("nan")


class Report:
    """What one backward pass found. Numbers leave the device when they are first read.

    Attributes:
        voters: how many voters, N.
        floor: the coin-flip floor 2^(1-N): the consensus ratio of N random signs.
        fallback: parameters that no layer rule accounted for, and that took one ordinary
            backward pass a voter: here is the time that a slow step takes.
    """

    def __init__(
        self, losses: Tensor, statistics: GradientStatistics, updates: dict[str, Tensor]
    ) -> None:
        """Count over the statistics, which must hold `report_needs`, and the updates."""
        self.voters = statistics.count
        self.floor = 2.0 ** (1 - statistics.count)
        self.fallback = statistics.fallback
        self._loss = losses.detach().mean()
        self._sizes = {name: update.numel() for name, update in updates.items()}
        self._counts = torch.stack(
            [
                _counted(answers, self.voters, updates[name])
                for name, answers in statistics.by_parameter.items()
            ]
        )

    def __repr__(self) -> str:
        return (
            f"Report(loss={self.loss:.4g}, voters={self.voters}, "
            f"consensus_ratio={self.consensus_ratio:.3f}, update_ratio={self.update_ratio:.3f}, "
            f"floor={self.floor:.3g})"
        )

    @cached_property
    def loss(self) -> float:
        """The mean loss over examples, whatever the rule."""
        return float(self._loss)

    @cached_property
    def by_parameter(self) -> dict[str, ParameterReport]:
        """{parameter name: its ParameterReport}."""
        rows = self._counts.tolist()
        return {
            name: ParameterReport(size, *row)
            for (name, size), row in zip(self._sizes.items(), rows, strict=True)
        }

    @cached_property
    def total(self) -> ParameterReport:
        """The counts over all trainable parameters together."""
        return ParameterReport(sum(self._sizes.values()), *self._counts.sum(dim=0).tolist())

    @property
    def consensus_ratio(self) -> float:
        """The share of weights at which every voter's gradient has the same non-zero sign."""
        return self.total.consensus_ratio

    @property
    def update_ratio(self) -> float:
        """The share of weights that the rule's update moves."""
        return self.total.update_ratio

    @property
    def live_ratio(self) -> float:
        """The share of weights at which any voter's gradient is not zero."""
        return self.total.live_ratio

    @property
    def live_consensus_ratio(self) -> float:
        """`consensus_ratio` over the live weights only; nan where none is live."""
        return self.total.live_consensus_ratio


def report_needs(needs: frozenset[Statistic]) -> frozenset[Statistic]:
    """The statistics that a report needs beside those of the rule."""
    return needs | {Touched()} | (set() if Votes() in needs else {Agreed()})


def _counted(answers: dict[Statistic, Tensor], count: int, update: Tensor) -> Tensor:
    """How many weights have consensus, are updated, are live: (3,)."""
    if Votes() in answers:
        agreed = answers[Votes()].abs().sub_(count - 1).clamp_(min=0)
    else:
        agreed = answers[Agreed()]
    updated = torch.count_nonzero(update)
    consensus = updated if agreed is update else torch.count_nonzero(agreed)
    return torch.stack([consensus, updated, torch.count_nonzero(answers[Touched()])])
