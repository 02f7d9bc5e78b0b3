"""Figures of lesson 00: a puzzle as it is learned, and the study's answer, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from course.arc import ArcHistory, Task, score
from course.figures import grids, style
from course.study.comparing import Comparison, pair, scores_of
from course.study.reporting import CHANGED, rows_at

__all__ = ["draw_answer", "draw_learning"]

_LOOKS = {"mean": style.MEAN, "consensus": style.CONSENSUS}


def draw_learning(
    task: Task, runs: Mapping[str, ArcHistory], steps: Sequence[int]
) -> style.Picture:
    """Draw the first test grid as the networks predict it along their training.

    Args:
        task: with a known first test output.
        runs: {"mean" or "consensus": its history}, a row each.
        steps: the steps before which the prediction is shown; the last column but one is the
            prediction at the end, the last one the target.
    """
    pair = task.test[0]
    picture, axes = style.new_figure(
        len(runs),
        len(steps) + 2,
        size=(10.0, 1.9 * len(runs) + 0.5),
        title=f"Task {task.id}: the test grid as each network draws it",
        squeeze=False,
    )
    for row, (rule, history) in zip(axes, runs.items(), strict=True):
        exams = [*(history.examinations[step] for step in steps), history.final]
        names = [*(f"step {step}" for step in steps), "at the end"]
        for ax, name, exam in zip(row, names, exams, strict=False):
            prediction = exam.predictions[0]
            grids.draw_grid(ax, prediction)
            wrong = int((prediction != pair.output).sum())
            solved = score(prediction, pair).exact
            style.label(ax, name, x="all right" if solved else f"{wrong} wrong")
        grids.draw_grid(row[-1], pair.output)
        style.label(row[-1], "target")
        row[0].set_ylabel(
            rule, fontsize=style.TITLE_SIZE, fontweight="bold", color=_LOOKS[rule]["color"]
        )
    picture.alt = "The predicted test grid by step: " + "; ".join(
        f"{ax.get_title()} {ax.get_xlabel()}" for ax in axes.flat if ax.get_xlabel()
    )
    return picture


def draw_answer(columns: pd.DataFrame, comparison: Comparison) -> style.Picture:
    """Draw a bar a task, the rule's accuracy minus the baseline's, from the lowest to the highest.

    Args:
        columns: rows of the study's main part.
        comparison: of two of their rules in changed-cell accuracy after the last step.

    Raises:
        ValueError: as `pair`.
    """
    scores = scores_of(rows_at(columns, "end"), CHANGED.column)
    differences = np.sort(pair(scores, comparison.rule, comparison.baseline).differences)
    places = np.arange(len(differences))
    low, high = comparison.interval_95
    picture, ax = style.new_figure(size=(9.0, 4.2))
    for name, part, tasks in (
        (comparison.baseline, differences < 0, comparison.worse),
        (comparison.rule, differences > 0, comparison.better),
    ):
        ax.bar(
            places[part],
            differences[part],
            width=1.0,
            color=_LOOKS[name]["color"],
            label=f"{name} is better ({tasks} tasks)",
        )
    ax.axhline(0, color=style.NEUTRAL, linewidth=1)
    alike = places[differences == 0]
    look = {"color": style.NEUTRAL, "linewidth": 5, "solid_capstyle": "butt"}
    ax.plot(alike, 0 * alike, label=f"equal ({comparison.equal} tasks)", **look)
    ax.axhspan(
        low, high, color="black", alpha=0.35, linewidth=0, label="95 % interval of the average"
    )
    ax.axhline(comparison.difference, color="black", linewidth=1.5, label="average over all tasks")
    ax.set(xlim=(-1, len(places)), ylim=(-1.03, 1.03))
    style.label(
        ax,
        f"Changed cells right: {comparison.rule} minus {comparison.baseline}, task by task",
        x="tasks, from the lowest difference to the highest",
        y="difference, share\nof changed cells",
    )
    style.add_legend(ax, loc="upper left")
    picture.alt = (
        f"Differences of {len(places)} tasks; their average is {comparison.difference:+.3f} "
        f"with a 95 % interval from {low:+.3f} to {high:+.3f}"
    )
    return picture
