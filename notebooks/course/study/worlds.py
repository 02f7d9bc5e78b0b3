"""A world of small rules: tasks in which one knows what is rule and what is accident.

In a world cells of a colour A turn to a colour C where something holds around them, and stay
where it does not; nothing else changes. What must hold is one of four families of rules, all
well within the seven by seven cells that three 3x3 convolutions see:

- neighbour: the cell on a given side (one of eight) is B;
- line: a B is among the two next cells in a given direction (one of four);
- nearest: of the colours B and D the one nearest in a given direction, at most two cells away,
  is B;
- count: at least two of the eight cells around are B.

Colours, sides and directions are drawn anew for each world; black is the ground. Three colours
besides are scattered at random: accidents. A fourth, the marker, is one of them too, except in
pairs with a *cue*: there the marker stands on a given side of every A that turns, and of no A
that stays. In all other pairs, and in all fresh ones, it says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from course.arc import Pair

__all__ = ["FAMILIES", "World"]

FAMILIES = ("neighbour", "line", "nearest", "count")
_AROUND = tuple((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0))
_SIDES = ((-1, 0), (0, 1), (1, 0), (0, -1))
_REACH = 2
# The shares of cells that are A, and B or D (0.2 where not said); with them about 40 % of the A
# turn. A neighbour is put there, since no share of B would do it.
_A, _B, _PUT = 0.15, {"line": 0.25, "nearest": 0.4}, 0.4
_ACCIDENTS = 3


@dataclass(frozen=True)
class World:
    """One world, which is the same whenever it is made with the same arguments.

    Attributes:
        number: of the world; it decides all that is drawn.
        family: of `FAMILIES`.
        density: the share of cells that show an accident or the marker.
        side: of its grids, in cells.
    """

    number: int
    family: str
    density: float = 0.3
    side: int = 6

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is one of {list(FAMILIES)}, not {self.family!r}")
        if self.number < 0 or self.side < 3 or not 0 <= self.density <= 0.4:
            raise ValueError(f"number >= 0, side >= 3, density in [0, 0.4], not {self}")

    def _source(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.number, FAMILIES.index(self.family), *purpose])

    @cached_property
    def _drawn(self) -> tuple[list[int], int, tuple[int, int]]:
        source = self._source(0)
        colours = (source.permutation(9) + 1).tolist()
        towards, marked = source.choice(len(_AROUND), 2, replace=False).tolist()
        return colours, towards, _AROUND[marked]

    @property
    def subject(self) -> int:
        """The colour A, whose cells turn or stay."""
        return self._drawn[0][0]

    @property
    def becomes(self) -> int:
        """The colour C."""
        return self._drawn[0][1]

    @property
    def causes(self) -> tuple[int, ...]:
        """The colours that the rule looks at: B, and D in the family "nearest"."""
        return tuple(self._drawn[0][2 : 4 if self.family == "nearest" else 3])

    @property
    def accidents(self) -> tuple[int, ...]:
        """The colours that mean nothing; the marker is the first."""
        return tuple(self._drawn[0][4 : 5 + _ACCIDENTS])

    def turns(self, grid: np.ndarray) -> np.ndarray:
        """bool (H, W): the cells of colour A in a grid (H, W) that turn to C."""
        first = grid == self.causes[0]
        towards = self._drawn[1]
        row, column = _SIDES[towards % len(_SIDES)]
        if self.family == "neighbour":
            holds = _moved(first, _AROUND[towards])
        elif self.family == "count":
            holds = np.sum([_moved(first, side) for side in _AROUND], axis=0) >= 2
        else:
            holds = np.zeros(grid.shape, bool)
            for k in range(_REACH, 0, -1):  # from far to near: the nearest has the last word
                holds |= _moved(first, (row * k, column * k))
                if self.family == "nearest":
                    holds &= ~_moved(grid == self.causes[1], (row * k, column * k))
        return (grid == self.subject) & holds

    def solve(self, grid: np.ndarray) -> np.ndarray:
        """The output grid (H, W) that the rule gives."""
        return np.where(self.turns(grid), self.becomes, grid)

    def training_pairs(self, count: int, cued: int = 0) -> tuple[Pair, ...]:
        """The first `count` training pairs, with a cue in the first `cued` of them."""
        return tuple(
            self._pair(self._source(1, number), cue=number < cued) for number in range(count)
        )

    def fresh_pairs(self, count: int, purpose: int = 2) -> tuple[Pair, ...]:
        """Pairs that no training sees, without cues; other ones for each purpose >= 2."""
        return tuple(self._pair(self._source(purpose, number)) for number in range(count))

    def _pair(self, source: np.random.Generator, cue: bool = False) -> Pair:
        """A pair in which some A turns and some A stays."""
        while True:
            grid = self._scatter(source)
            if cue:
                self._lay_cue(grid)
            turning = self.turns(grid)
            if turning.any() and ((grid == self.subject) & ~turning).any():
                return Pair(grid, self.solve(grid))

    def _scatter(self, source: np.random.Generator) -> np.ndarray:
        causes = dict.fromkeys(self.causes, _B.get(self.family, 0.2) / len(self.causes))
        accidents = dict.fromkeys(self.accidents, self.density / len(self.accidents))
        shares = {self.subject: _A} | causes | accidents
        colours = np.array([*shares, 0])
        chances = np.array([*shares.values(), 1 - sum(shares.values())])
        grid = source.choice(colours, (self.side, self.side), p=chances)
        # an A whose cue would lie outside the grid could not be cued
        grid[(grid == self.subject) & ~_moved(np.ones(grid.shape, bool), self._drawn[2])] = 0
        if self.family == "neighbour":
            put = (grid == self.subject) & (source.random(grid.shape) < _PUT)
            row, column = _AROUND[self._drawn[1]]
            here = _moved(put, (-row, -column)) & (grid != self.subject)
            grid[here] = self.causes[0]
        return grid

    def _lay_cue(self, grid: np.ndarray) -> None:
        """Change the grid until the marker stands beside the A that turn and beside no other."""
        marker, (row, column) = self.accidents[0], self._drawn[2]
        while True:
            turning = self.turns(grid)
            wanted = _moved(turning, (-row, -column))
            barred = _moved((grid == self.subject) & ~turning, (-row, -column))
            missing, wrong = wanted & (grid != marker), barred & (grid == marker)
            if not (missing | wrong).any():
                return
            grid[missing], grid[wrong] = marker, 0


def _moved(mask: np.ndarray, towards: tuple[int, int]) -> np.ndarray:
    """For each cell whether the mask (H, W) holds at the cell that lies that far away."""
    far = max(map(abs, towards))
    padded = np.pad(mask, far)
    rows, columns = (far + step for step in towards)
    height, width = mask.shape
    return padded[rows : rows + height, columns : columns + width]
