"""What one backward pass found: the loss, and how much of the network the voters agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from consensus_lib.statistics import Agreed, Piece, Statistic, Touched, looks_are_free

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
        """The share of all weights with consensus; nan where there is none."""
        return _share(self.consensus, self.size)

    @property
    def update_ratio(self) -> float:
        """The share of all weights that the rule's update moves; nan where there is none."""
        return _share(self.updated, self.size)

    @property
    def live_ratio(self) -> float:
        """The share of all weights at which any voter's gradient is not zero."""
        return _share(self.live, self.size)

    @property
    def live_consensus_ratio(self) -> float:
        """The share of the live weights with consensus; nan where none is live.

        Dead weights, such as those of a colour that no grid shows, dilute `consensus_ratio`
        but not this one.
        """
        return _share(self.consensus, self.live)


class Report:
    """What one backward pass found. Numbers leave the device when they are first read.

    Attributes:
        voters: how many voters, N.
        fallback: parameters that no grad sampler accounted for, and that took one ordinary
            backward pass a voter: here is the time that a slow step takes.
    """

    def __init__(self, losses: Tensor, voters: int, names: Sequence[str]) -> None:
        """Begin the report of some losses, (B,), and of the parameters of these names."""
        self.voters = voters
        self.fallback: tuple[str, ...] = ()
        self._loss = losses.detach().mean()
        self._names = names
        self._marks: list[tuple[dict[str, torch.Size], Tensor]] = []

    def add(self, piece: Piece, update: Tensor) -> None:
        """Count over the statistics of a piece, which must hold `report_needs`, and its update."""
        marks = [piece.answers[Agreed()], update, piece.answers[Touched()]]
        if len(piece.shapes) > 1:  # small, and counted by parameter when somebody asks
            self._marks.append((piece.shapes, torch.stack([mark.bool() for mark in marks])))
        else:
            self._marks.append((piece.shapes, torch.stack([*map(_how_many, marks)])[:, None]))

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

    @property
    def floor(self) -> float:
        """The coin-flip floor 2^(1-N): the consensus ratio of N random signs."""
        return 2.0 ** (1 - self.voters)

    @cached_property
    def by_parameter(self) -> dict[str, ParameterReport]:
        """{parameter name: its ParameterReport}."""
        shapes: dict[str, torch.Size] = {}
        columns = []
        for own, marks in self._marks:
            if len(own) > 1:
                parts = marks.split([shape.numel() for shape in own.values()], dim=1)
                marks = torch.stack([part.count_nonzero(dim=1) for part in parts], dim=1)
            shapes |= own
            columns.append(marks)
        rows = torch.cat(columns, dim=1).T.tolist()  # one transfer for all
        found = {
            name: ParameterReport(shape.numel(), *row)
            for (name, shape), row in zip(shapes.items(), rows, strict=True)
        }
        self._marks = []
        return {name: found[name] for name in self._names}

    @cached_property
    def total(self) -> ParameterReport:
        """The counts over all trainable parameters together."""
        counts = zip(*map(astuple, self.by_parameter.values()), strict=True)
        return ParameterReport(*map(sum, counts))

    @property
    def consensus_ratio(self) -> float:
        """The share of weights at which every voter's gradient has the same non-zero sign."""
        return self.total.consensus_ratio

    @property
    def update_ratio(self) -> float:
        """The share of weights that the rule's update moves."""
        return self.total.update_ratio


def report_needs(needs: frozenset[Statistic]) -> frozenset[Statistic]:
    """The statistics that a report needs beside those of the rule."""
    return needs | {Touched(), Agreed()}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _how_many(tensor: Tensor) -> Tensor:
    """How many numbers are not 0, an int64 scalar; of a view of few numbers, these are counted."""
    times = 1
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0:
            times *= tensor.shape[dim]
            tensor = tensor.narrow(dim, 0, 1)
    if looks_are_free(tensor):  # numpy counts five times as fast, and booleans faster than numbers
        return torch.tensor(times * np.count_nonzero(tensor.bool().numpy()))
    return times * tensor.count_nonzero()
