"""Fresh pairs for five tasks: their rule written down, and inputs like theirs drawn at random.

One test grid is one bit. With many grids of the same rule and the same colours one can tell a
network that has the rule from one that was lucky.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from course.arc.tasks import Pair, load_task

__all__ = ["GENERATED_TASKS", "generate_pairs", "solve"]

_Solve = Callable[[np.ndarray], np.ndarray]
_Sample = Callable[[np.random.Generator], np.ndarray]

_BLUE, _RED, _GREEN, _GREY, _AZURE = 1, 2, 3, 5, 8
_SIDES = ((-1, 0), (1, 0), (0, -1), (0, 1))


def generate_pairs(task_id: str, count: int, seed: int) -> tuple[Pair, ...]:
    """Draw pairs that follow the rule of a task.

    All differ from each other and from the task's own pairs, use its colours only, and change at
    least one cell. Sizes span those of the task's own grids, and the mean share of filled cells
    lies between the smallest and the largest of its own; "3618c87e" and "6f8cd79b" have but a few
    inputs of their own sizes, and get larger ones too.

    Some inputs ask what the training pairs leave open: red shapes of two cells in "aedd82e4" and
    blue cells one apart in a column in "a699fb00", which the test pair answers. Green shapes of
    two cells are left out of "67385a82": no official pair has one, and "two or more" fits them
    as well as "three or more".

    Args:
        task_id: one of `GENERATED_TASKS`.
        count: how many, >= 1.
        seed: the same seed gives the same pairs, and more of them the same first ones.

    Raises:
        ValueError: for another task, a count below 1, or more pairs than the task has.
    """
    sample, rule = _generator(task_id)
    if count < 1:
        raise ValueError(f"count is at least 1, not {count}")
    task, rng = load_task(task_id), np.random.default_rng(seed)
    seen = {(pair.input.shape, pair.input.tobytes()) for pair in task.train + task.test}
    pairs: list[Pair] = []
    for _ in range(100 * count):
        grid = sample(rng)
        key = (grid.shape, grid.tobytes())
        if key in seen:
            continue
        seen.add(key)
        output = rule(grid)
        if (grid == output).all():
            continue
        pairs.append(Pair(grid, output))
        if len(pairs) == count:
            return tuple(pairs)
    raise ValueError(f"{task_id} has hardly more than {len(pairs)} different pairs, not {count}")


def solve(task_id: str, grid: np.ndarray) -> np.ndarray:
    """Apply the rule of one of `GENERATED_TASKS` to an input grid (H, W); else ValueError."""
    return _generator(task_id)[1](np.asarray(grid))


def _generator(task_id: str) -> tuple[_Sample, _Solve]:
    if task_id not in _GENERATORS:
        raise ValueError(f"no generator for {task_id!r}; there are: {', '.join(_GENERATORS)}")
    return _GENERATORS[task_id]


def _fill_gaps(grid: np.ndarray) -> np.ndarray:
    """A black cell between two blue ones on a row becomes red."""
    output = grid.copy()
    gap = (grid[:, 1:-1] == 0) & (grid[:, :-2] == _BLUE) & (grid[:, 2:] == _BLUE)
    output[:, 1:-1][gap] = _RED
    return output


def _dotted_rows(rng: np.random.Generator) -> np.ndarray:
    """5x5 or 10x10; on some rows two to four blue cells with gaps of one."""
    side = int(rng.choice([5, 10]))
    grid = np.zeros((side, side), dtype=np.int64)
    rows = rng.choice(side, size=rng.integers(side // 3, side // 2 + 1), replace=False)
    for row in rows:
        dots = int(rng.integers(2, min(4, (side + 1) // 2) + 1))
        first = int(rng.integers(0, side - 2 * (dots - 1)))
        grid[row, first : first + 2 * dots - 1 : 2] = _BLUE
    return grid


def _drop(grid: np.ndarray) -> np.ndarray:
    """A blue cell on a grey post over a grey floor drops down to the floor, in its place."""
    output = grid.copy()
    rows, columns = np.nonzero(grid == _BLUE)
    output[rows, columns] = 0
    output[-1, columns] = _BLUE
    return output


def _posts(rng: np.random.Generator) -> np.ndarray:
    """4 to 7 rows and 5 to 12 columns; posts of one cell, never side by side."""
    height, width = int(rng.integers(4, 8)), int(rng.integers(5, 13))
    grid = np.zeros((height, width), dtype=np.int64)
    grid[-1] = _GREY
    columns = np.flatnonzero(rng.random(width) < 0.4)
    columns = columns[np.diff(columns, prepend=-2) > 1]
    grid[-2, columns] = _GREY
    grid[-3, columns] = _BLUE
    return grid


def _border(grid: np.ndarray) -> np.ndarray:
    """The outermost cells become azure."""
    output = np.full_like(grid, _AZURE)
    output[1:-1, 1:-1] = grid[1:-1, 1:-1]
    return output


def _empty(rng: np.random.Generator) -> np.ndarray:
    """Black, 3 to 20 cells a side."""
    return np.zeros(rng.integers(3, 21, size=2), dtype=np.int64)


def _mark_lone(grid: np.ndarray) -> np.ndarray:
    """A red cell without a red one above, below, left or right becomes blue."""
    return np.where((grid == _RED) & (_sizes(grid == _RED) == 1), _BLUE, grid)


def _recolour_large(grid: np.ndarray) -> np.ndarray:
    """A green shape of three or more cells, joined by their sides, becomes azure."""
    return np.where((grid == _GREEN) & (_sizes(grid == _GREEN) >= 3), _AZURE, grid)


def _scattered(colour: int, sides: tuple[int, int]) -> _Sample:
    """Cells of one colour on black, about half of them, as in the task's own grids."""

    def sample(rng: np.random.Generator) -> np.ndarray:
        shape = rng.integers(sides[0], sides[1] + 1, size=2)
        return np.where(rng.random(shape) < 0.45, colour, 0)

    return sample


def _green_shapes(rng: np.random.Generator) -> np.ndarray:
    """Scattered green cells, of which no two make a shape of their own."""
    while True:
        grid = _scattered(_GREEN, (3, 6))(rng)
        if not (_sizes(grid == _GREEN) == 2).any():
            return grid


def _sizes(cells: np.ndarray) -> np.ndarray:
    """For each cell of a mask (H, W) how many are joined with it by their sides."""
    sizes = np.zeros(cells.shape, dtype=np.int64)
    for start in zip(*np.nonzero(cells), strict=True):
        if sizes[start]:
            continue
        shape, edge = {start}, [start]
        while edge:
            row, column = edge.pop()
            for down, right in _SIDES:
                near = (row + down, column + right)
                inside = 0 <= near[0] < cells.shape[0] and 0 <= near[1] < cells.shape[1]
                if inside and cells[near] and near not in shape:
                    shape.add(near)
                    edge.append(near)
        for cell in shape:
            sizes[cell] = len(shape)
    return sizes


_GENERATORS: MappingProxyType[str, tuple[_Sample, _Solve]] = MappingProxyType(
    {
        "a699fb00": (_dotted_rows, _fill_gaps),
        "3618c87e": (_posts, _drop),
        "6f8cd79b": (_empty, _border),
        "aedd82e4": (_scattered(_RED, (3, 5)), _mark_lone),
        "67385a82": (_green_shapes, _recolour_large),
    }
)
GENERATED_TASKS = tuple(_GENERATORS)
