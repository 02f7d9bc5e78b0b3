"""Checks for the exercises of 06_one_arc_task and 07_consensus_on_arc."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import consensus_lib as cl
from course.arc import Pair, load_task
from course.checks.verdict import Verdict, asked, not_yet, right

__all__ = ["changed_cell_accuracy", "control_rule", "difference_at_equal_loss", "solve_a699fb00"]


def changed_cell_accuracy(answer: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> Verdict:
    """Check answer(prediction, input, target), grids (H, W) -> share of right changed cells."""
    given = np.array([[0, 0, 1], [1, 0, 0]])
    target = np.array([[0, 2, 1], [1, 2, 0]])
    half = np.array([[0, 2, 1], [1, 0, 0]])
    spoiled = np.array([[5, 2, 1], [1, 2, 5]])
    cases = [
        ("a plain copy of the input", given, target, 0.0),
        ("the target itself", target, target, 1.0),
        ("a prediction with one of two changed cells right", half, target, 0.5),
        ("all changed cells right, two others spoiled", spoiled, target, 1.0),
        ("a pair in which nothing changes", given, given, math.nan),
    ]
    for name, prediction, output, expected in cases:
        copies = prediction.copy(), given.copy(), output.copy()
        got = asked(lambda *grids: float(answer(*grids)), *copies, about=f"for {name}")
        if isinstance(got, Verdict):
            return got
        if not np.isclose(got, expected, equal_nan=True):
            return not_yet(
                f"for {name} expected {expected:g}, got {got:g}; count only the cells where the "
                "target differs from the input",
            )
    return right("only the changed cells count, and a copy scores 0")


def solve_a699fb00(answer: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check answer(grid (H, W)) -> grid on the pairs of a699fb00 and on fresh grids of its rule."""
    task = load_task("a699fb00")
    named = [(f"training pair {i}", pair) for i, pair in enumerate(task.train, start=1)]
    named += [("the test pair", pair) for pair in task.test]
    named += [(f"a fresh grid {pair.input.tolist()}", pair) for pair in _fresh_chains(20)]
    for name, pair in named:
        output = asked(answer, pair.input.copy(), about=f"on {name}")
        if isinstance(output, Verdict):
            return output
        output = np.asarray(output)
        if output.shape != pair.output.shape:
            return not_yet(
                f"on {name} the output has shape {output.shape}, not {pair.output.shape}"
            )
        wrong = np.argwhere(output != pair.output)
        if len(wrong):
            row, column = wrong[0]
            return not_yet(
                f"on {name}: {len(wrong)} cells are wrong, the first in row {row}, column {column} "
                f"(counted from 0): expected {pair.output[row, column]}, got {output[row, column]}",
            )
    return right("training pairs, test pair and 20 fresh grids are all solved")


def _fresh_chains(count: int) -> list[Pair]:
    """Grids with chains of blue cells two apart, sometimes with other gaps between chains."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(count):
        grid = np.zeros((4, int(rng.integers(5, 9))), dtype=int)
        for row in grid:
            column = int(rng.integers(0, 3))
            while column < len(row):
                row[column] = 1
                column += int(rng.choice([2, 2, 3, 4]))
        output = grid.copy()
        for row, column in np.argwhere(grid == 0):
            inside = 0 < column < grid.shape[1] - 1
            if inside and grid[row, column - 1] == grid[row, column + 1] == 1:
                output[row, column] = 2
        pairs.append(Pair(grid, output))
    return pairs


def difference_at_equal_loss(
    answer: Callable[[Sequence[Any], Sequence[Any], float], float],
) -> Verdict:
    """Check answer(mean_runs, consensus_runs, loss) -> mean paired difference in accuracy.

    Runs of the same place are of the same seed. The difference, consensus minus mean, is of the
    changed-cell accuracy at each run's first step with that training loss, over the seeds for
    which both runs reach it; nan if there is none.
    """
    fast = _run([1.0, 0.1, 0.01], [0.0, 0.5, 1.0])
    slow = _run([1.0, 0.5, 0.1], [0.0, 0.2, 0.8])
    never = _run([1.0, 0.9, 0.8], [0.0, 0.1, 0.2])
    lucky = _run([0.1, 0.1, 0.05], [0.9, 0.3, 0.3])
    cases = [
        ("two runs that both reach it", [fast], [slow], 0.1, 0.3),
        ("a first step that reaches it at once", [lucky], [fast], 0.1, -0.4),
        ("a seed for which consensus never reaches it", [fast, lucky], [slow, never], 0.1, 0.3),
        ("a seed for which the mean never reaches it", [never, fast], [fast, slow], 0.1, 0.3),
        ("no seed for which both reach it", [fast, never], [never, slow], 0.1, math.nan),
    ]
    for name, mean_runs, consensus_runs, loss, expected in cases:
        runs = mean_runs, consensus_runs, loss
        got = asked(lambda *runs: float(answer(*runs)), *runs, about=f"with {name}")
        if isinstance(got, Verdict):
            return got
        if not np.isclose(got, expected, equal_nan=True):
            return not_yet(
                f"with {name} expected {expected:g}, got {got:g}; compare a seed only if both of "
                "its runs reach the loss, else a rule is rewarded for failing on the hard seeds",
            )
    return right("seeds are paired, and a seed counts only if both runs reach the loss")


def _run(loss: list[float], accuracy: list[float]) -> Any:
    history = cl.History(loss=loss)
    return SimpleNamespace(
        loss=loss, test_changed_cell_accuracy=accuracy, first_step_at=history.first_step_at
    )


def control_rule(answer: Callable[[int], cl.RandomMask]) -> Verdict:
    """Check answer(seed) -> a random mask as large as the consensus, the same for the same seed."""
    gradients = torch.randn(3, 4000, generator=torch.Generator().manual_seed(1))
    rules = [asked(answer, seed, about=f"for seed {seed}") for seed in (0, 0, 1)]
    if isinstance(rules[0], Verdict):
        return rules[0]
    if not all(isinstance(rule, cl.RandomMask) for rule in rules):
        return not_yet(f"expected a cl.RandomMask, got {rules[0]!r}")
    if rules[0].ratio is not None:
        return not_yet(
            f"the mask has the fixed ratio {rules[0].ratio}; with ratio=None it moves as many "
            "weights as have consensus at that step, which is what the control is for",
        )
    first, again, other = (rule.reduce(gradients) for rule in rules)
    if not torch.equal(first, again):
        return not_yet(
            "two rules of the same seed chose different weights, so that nobody can repeat your "
            "run; give the rule a torch.Generator with that seed",
        )
    if torch.equal(first, other):
        return not_yet("seeds 0 and 1 chose the same weights; use the seed")
    return right("as many weights as have consensus, chosen by lot, and repeatable")
