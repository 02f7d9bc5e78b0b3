"""The results as pictures in the course's look: time and memory against the batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes

from consensus_lib.lab.style import (
    CONSENSUS,
    MEAN,
    OTHER_RULES,
    PALE,
    TEXT_SIZE,
    Picture,
    label,
    new_figure,
)
from tests.benchmarks.contenders import ORDINARY, OURS
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.results import Results, Row

__all__ = ["memory_figure", "time_figure"]

_vmap, _opacus, _backpack, _torchjd = OTHER_RULES
LINES: Mapping[str, Mapping[str, Any]] = {
    ORDINARY: {**MEAN, "marker": "o"},
    OURS: {**CONSENSUS, "marker": "o"},
    "torch.func.vmap": {**_vmap, "marker": "s"},
    "torch.func.vmap, chunks of 8": {**_vmap, "marker": "x"},
    "Opacus": {**_opacus, "marker": "^"},
    "BackPACK": {**_backpack, "marker": "v"},
    "TorchJD GradDrop": {**_torchjd, "marker": "D"},
    "TorchJD UPGrad, autogram": {**_torchjd, "marker": "P"},
}
Value = Callable[[Row], float | None]


def time_figure(results: Results) -> Picture:
    """How many ordinary steps a step costs; a pale band spans the quartiles."""
    picture, panels = _panels(results, "Time of a step, in ordinary steps")
    for problem, ax in panels.items():
        ax.set_yscale("log")
        _draw(results, problem, ax, lambda row: row.ratio_median)
        _shade_quartiles(results, problem, ax)
        label(ax, PROBLEMS[problem].title, "batch (examples)", "ordinary steps")
    _add_legend(picture, panels)
    return picture


def memory_figure(results: Results) -> Picture:
    """How much more memory than the ordinary step a step needs at its worst moment."""
    picture, panels = _panels(results, "Peak memory above the ordinary step, in model sizes")
    for problem, ax in panels.items():
        ax.set_yscale("symlog", linthresh=1)
        _draw(results, problem, ax, results.extra_memory)
        label(ax, PROBLEMS[problem].title, "batch (examples)", "sizes of the model")
    _add_legend(picture, panels)
    return picture


def _panels(results: Results, title: str) -> tuple[Picture, dict[str, Axes]]:
    """An empty figure with axes for each model that was measured at any batch size."""
    measured = {row.problem for row in results.rows}
    problems = [name for name in PROBLEMS if name in measured]
    problems = [name for name in problems if PROBLEMS[name].fixed_batch is None] or problems
    cols = min(2, len(problems))
    rows = -(-len(problems) // cols)
    picture, axes = new_figure(rows, cols, (6.5 * cols, 4.2 * rows + 1.5), title, squeeze=False)
    flat = list(axes.flat)
    for ax in flat[len(problems) :]:
        ax.remove()
    return picture, dict(zip(problems, flat, strict=False))


def _draw(results: Results, problem: str, ax: Axes, value: Value) -> None:
    rows = [row for row in results.rows if row.problem == problem]
    for name, line in LINES.items():
        points = [(r.batch, value(r)) for r in rows if r.contender == name]
        points = [(batch, y) for batch, y in points if y is not None]
        ax.plot([batch for batch, _ in points], [y for _, y in points], label=name, **line)
    batches = sorted({row.batch for row in rows})
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.minorticks_off()
    ax.grid(color=PALE)


def _shade_quartiles(results: Results, problem: str, ax: Axes) -> None:
    for name, line in LINES.items():
        timed = [r for r in results.rows if (r.problem, r.contender) == (problem, name) and r.timed]
        batches = [row.batch for row in timed]
        low, high = [row.ratio_low for row in timed], [row.ratio_high for row in timed]
        ax.fill_between(batches, low, high, color=line["color"], alpha=0.2, linewidth=0)


def _add_legend(picture: Picture, panels: Mapping[str, Axes]) -> None:
    """One legend below all panels."""
    handles, names = next(iter(panels.values())).get_legend_handles_labels()
    picture.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=1 if len(panels) == 1 else 3,
        fontsize=TEXT_SIZE,
        frameon=False,
        handlelength=3,
    )
