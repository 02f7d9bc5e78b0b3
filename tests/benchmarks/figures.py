"""The results as pictures in the course's look: time and memory against the batch size."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from course.figures.costs import draw_memory, draw_time
from course.figures.style import Picture
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.results import Results

__all__ = ["memory_figure", "time_figure"]


def time_figure(results: Results) -> Picture:
    """How many ordinary steps a step costs; a pale band spans the quartiles."""
    return draw_time(pd.DataFrame(results.rows), _titles(results))


def memory_figure(results: Results) -> Picture:
    """How much memory a step needs at its worst moment."""
    return draw_memory(pd.DataFrame(results.rows), _titles(results))


def _titles(results: Results) -> Mapping[str, str]:
    """Of the models that were measured at any batch size; of the others if there is none."""
    measured = {row.problem for row in results.rows}
    problems = [name for name in PROBLEMS if name in measured]
    problems = [name for name in problems if PROBLEMS[name].fixed_batch is None] or problems
    return {name: PROBLEMS[name].title for name in problems}
