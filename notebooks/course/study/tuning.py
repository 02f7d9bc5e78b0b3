"""Choosing a learning rate and a weight decay so that the best never lies at an edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

__all__ = ["ADAM", "ADAMW", "SGD", "Lattice", "Setting"]

Setting = tuple[float, float]
"""(learning rate, weight decay)."""

LARGEST_SHRINKAGE = 0.5  # the share of a weight that decay may take in a step


@dataclass(frozen=True)
class Lattice:
    """The settings that may be tried.

    Attributes:
        rates: rising.
        decays: rising from 0, which is no edge.
    """

    rates: tuple[float, ...]
    decays: tuple[float, ...]

    def wanted(self, start: Sequence[Setting], scores: Mapping[Setting, float]) -> list[Setting]:
        """The settings still to try: the start, then the neighbours of the best so far.

        Args:
            start: what is tried in any case.
            scores: those tried, higher is better.

        Returns:
            None are left once all of the up to eight neighbours of the best have been tried.
        """
        if missing := [setting for setting in start if setting not in scores]:
            return missing
        rate, decay = (
            values.index(value)
            for values, value in zip((self.rates, self.decays), self.best(scores), strict=True)
        )
        near = product(self._around(self.rates, rate), self._around(self.decays, decay))
        return [s for s in near if s not in scores and s[0] * s[1] <= LARGEST_SHRINKAGE]

    @staticmethod
    def best(scores: Mapping[Setting, float]) -> Setting:
        """The setting with the highest score; of equals the smaller rate, then decay."""
        return max(sorted(scores), key=scores.__getitem__)

    @staticmethod
    def _around(values: tuple[float, ...], index: int) -> tuple[float, ...]:
        return values[max(0, index - 1) : index + 2]


ADAMW = Lattice(
    (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
)
ADAM = Lattice(ADAMW.rates, (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0))
SGD = Lattice((0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (0.0, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3))
