"""More training pairs out of the ones a task has: turned, mirrored and recoloured copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from course.arc.tasks import N_COLOURS, Pair

__all__ = ["Augmentation", "augment_pairs"]

Augmentation = Literal["none", "symmetries", "colours", "both"]

Change = Callable[[np.ndarray], np.ndarray]


def augment_pairs(
    pairs: Sequence[Pair], augmentation: Augmentation = "none"
) -> tuple[tuple[Pair, ...], tuple[int, ...]]:
    """Return every pair with its changed copies, and for each of them the pair it comes from.

    Input and output of a copy are changed alike. A copy with the cells of an earlier one, as of
    a grid that is its own mirror image, is left out: it would be the same vote once more.

    An augmentation is a claim about the task. Where things fall down, a turned copy teaches
    that they fall sideways; where gaps become red, a recoloured one that they become grey.

    Args:
        pairs: N pairs; outputs may be hidden.
        augmentation: "none"; "symmetries" (up to 8 copies: 4 turns, each also mirrored);
            "colours" (up to 9: colours 1 to 9 moved on in a circle, black stays, so that a
            colour is always answered by the same one, which random permutations would not
            grant); "both" (up to 72).

    Returns:
        The M >= N copies, of each pair itself first; and M indices of pairs, counted from 0.

    Raises:
        ValueError: for another augmentation.
    """
    if augmentation not in get_args(Augmentation):
        raise ValueError(
            f"augmentation is one of {list(get_args(Augmentation))}, not {augmentation!r}"
        )
    turns = _SYMMETRIES if augmentation in ("symmetries", "both") else _SYMMETRIES[:1]
    shifts = range(N_COLOURS - 1 if augmentation in ("colours", "both") else 1)
    copies: list[Pair] = []
    origins: list[int] = []
    for index, pair in enumerate(pairs):
        # a dict keeps the first of equal copies, and their order
        changed = dict.fromkeys(_change(pair, turn, shift) for shift in shifts for turn in turns)
        copies += changed
        origins += [index] * len(changed)
    return tuple(copies), tuple(origins)


def _symmetry(quarter_turns: int, mirrored: bool) -> Change:
    return lambda grid: np.rot90(grid.T if mirrored else grid, quarter_turns)


_SYMMETRIES = [_symmetry(turns, mirrored) for mirrored in (False, True) for turns in range(4)]


def _change(pair: Pair, turn: Change, shift: int) -> Pair:
    def change(grid: np.ndarray) -> np.ndarray:
        recoloured = np.where(grid > 0, (grid - 1 + shift) % (N_COLOURS - 1) + 1, 0)
        return turn(recoloured)

    return Pair(change(pair.input), None if pair.output is None else change(pair.output))
