"""How good a predicted grid is, and how good it would have been to change nothing."""

import math
from dataclasses import dataclass

import numpy as np

from course.arc.tasks import Pair, as_grid


@dataclass(frozen=True)
class Score:
    """One prediction against its target.

    exact: every cell right, the only thing that ARC counts. cell_accuracy: share of the n_cells
    right cells. changed_cell_accuracy: the share among the n_changed cells whose target differs
    from the input, nan where there are none.
    """

    exact: bool
    cell_accuracy: float
    changed_cell_accuracy: float
    n_cells: int
    n_changed: int


def score(prediction: np.ndarray, pair: Pair) -> Score:
    """Score a predicted grid (H, W) of colours 0 to 9, array or tensor, against the pair's output.

    Raises ValueError when the output is hidden, when the shapes differ, or when the pair does
    not keep its size, since "changed cell" then means nothing.
    """
    if pair.output is None:
        raise ValueError("the pair's output is hidden: there is nothing to score against")
    if pair.output.shape != pair.input.shape:
        raise ValueError(
            f"input {pair.input.shape} and output {pair.output.shape} differ in shape, so no cell "
            "is changed or unchanged; take a task with task.same_size"
        )
    grid = as_grid(prediction, "prediction")
    if grid.shape != pair.output.shape:
        raise ValueError(f"prediction has shape {grid.shape}, the target {pair.output.shape}")
    right = grid == pair.output
    changed = pair.output != pair.input
    return Score(
        exact=bool(right.all()),
        cell_accuracy=float(right.mean()),
        changed_cell_accuracy=float(right[changed].mean()) if changed.any() else math.nan,
        n_cells=right.size,
        n_changed=int(changed.sum()),
    )


def copy_baseline(pair: Pair) -> Score:
    """Score the input itself as the prediction: the accuracy that costs nothing.

    Its changed_cell_accuracy is 0, or nan. Raises ValueError as `score` does.
    """
    return score(pair.input, pair)
