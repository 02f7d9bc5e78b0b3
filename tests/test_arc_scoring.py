"""Scores: against grids counted by hand, and against the properties that define them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from course.arc import Pair, Score, copy_baseline, load_task, score

PAIR = Pair([[1, 0, 1, 0], [0, 0, 0, 0]], [[1, 2, 1, 0], [0, 2, 0, 2]])


def test_by_hand():
    # Right: 6 of 8. Changed cells: three, of which the prediction has two.
    prediction = np.array([[1, 2, 1, 2], [0, 2, 0, 0]])
    assert score(prediction, PAIR) == Score(False, 6 / 8, 2 / 3, n_cells=8, n_changed=3)
    assert score(torch.tensor(PAIR.output), PAIR) == Score(True, 1.0, 1.0, n_cells=8, n_changed=3)
    assert copy_baseline(PAIR) == Score(False, 5 / 8, 0.0, n_cells=8, n_changed=3)
    # Seven red cells in a grid of a hundred.
    copied = copy_baseline(load_task("a699fb00").test[0])
    assert (copied.cell_accuracy, copied.n_changed) == (0.93, 7)
    unchanged = copy_baseline(Pair([[1, 2]], [[1, 2]]))
    assert (unchanged.exact, unchanged.n_changed) == (True, 0)
    assert math.isnan(unchanged.changed_cell_accuracy)


@given(
    grids=hnp.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
        lambda shape: hnp.arrays(np.int64, (3, *shape), elements=st.integers(0, 2))
    )
)
def test_counts_agree_with_a_loop(grids):
    given_, target, prediction = (grid.tolist() for grid in grids)
    result = score(grids[2], Pair(given_, target))
    cells = [
        (a, b, c)
        for rows in zip(given_, target, prediction, strict=True)
        for a, b, c in zip(*rows, strict=True)
    ]
    changed = [(b, c) for a, b, c in cells if a != b]
    assert result.n_cells == len(cells)
    assert result.n_changed == len(changed)
    assert result.exact == (target == prediction)
    assert round(result.cell_accuracy * len(cells)) == sum(b == c for _, b, c in cells)
    if changed:
        right = sum(b == c for b, c in changed)
        assert round(result.changed_cell_accuracy * len(changed)) == right


@pytest.mark.parametrize(
    ("prediction", "pair", "words"),
    [
        (PAIR.output.T, PAIR, r"prediction has shape \(4, 2\), the target \(2, 4\)"),
        (np.full((2, 4), 1.5), PAIR, r"prediction, row 1, column 1: 1\.5 is no colour"),
        ([[1]], Pair([[1]]), "hidden"),
        ([[1, 1]], Pair([[1]], [[1, 1]]), r"task\.same_size"),
    ],
)
def test_what_cannot_be_scored_is_refused(prediction, pair, words):
    with pytest.raises(ValueError, match=words):
        score(prediction, pair)
