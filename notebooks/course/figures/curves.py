"""Training curves: one panel a quantity, thin lines for seeds, a thick one for their median."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from consensus_lib.training import History
from course.figures import style

__all__ = ["PANELS", "draw_curves", "medians"]

PANELS: Mapping[str, tuple[str, str]] = {
    "loss": ("training loss", "nats per cell"),
    "test_loss": ("test loss", "nats per cell"),
    "test_cell_accuracy": ("test accuracy, all cells", "share of cells"),
    "test_changed_cell_accuracy": ("test accuracy, changed cells", "share of cells"),
    "consensus_ratio": ("consensus ratio", "share of weights"),
    "live_consensus_ratio": ("consensus ratio, live weights", "share of live weights"),
    "update_ratio": ("update ratio", "share of weights"),
}


def draw_curves(
    runs: Mapping[str, Sequence[History]],
    panels: Sequence[str] = ("loss", "test_changed_cell_accuracy", "consensus_ratio"),
    title: str = "",
) -> style.Picture:
    """Draw quantities of training runs against the step.

    Args:
        runs: {label: the histories of several seeds}. Labels that begin with "mean" or
            "consensus" get those rules' lines, others the remaining ones in order.
        panels: names of `PANELS`, each a list of one number a step in the histories.
        title: above all panels.

    Raises:
        KeyError: for a panel that `PANELS` does not name.
    """
    lines = dict(_lines(runs))
    figure, axes = style.new_figure(
        1, len(panels), size=(4.2 * len(panels), 4.0), title=title, squeeze=False
    )
    figure.get_layout_engine().set(w_pad=0.12)
    for ax, panel in zip(axes[0], panels, strict=True):
        name, unit = PANELS[panel]
        style.label(ax, name, "step", unit)
        for label, histories in runs.items():
            _draw_seeds(ax, [getattr(history, panel) for history in histories], lines[label], label)
        if "loss" in panel:
            ax.set_yscale("log")
        else:
            ax.set_ylim(-0.03, 1.03)
        if "consensus_ratio" in panel:
            floor = next(iter(runs.values()))[0].floor[0]
            ax.axhline(floor, color=style.NEUTRAL, linewidth=1.5, linestyle=(0, (1, 2)))
            ax.annotate(
                "coin-flip floor",
                (0.98, floor + 0.015),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=style.TEXT_SIZE - 1,
                color=style.NEUTRAL,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
                zorder=5,
            )
    losses = [ax for ax, panel in zip(axes[0], panels, strict=True) if "loss" in panel]
    for ax in losses[1:]:
        ax.sharey(losses[0])
    if len(runs) > 1:
        style.add_legend(axes[0, 0])
    figure.alt = f"Curves of {', '.join(PANELS[p][0] for p in panels)} for {', '.join(runs)}"
    return figure


def _lines(labels: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    others = iter(style.OTHER_RULES)
    for label in labels:
        if label.startswith("mean"):
            yield label, style.MEAN
        elif label.startswith("consensus"):
            yield label, style.CONSENSUS
        else:
            yield label, next(others)


def _draw_seeds(
    ax: Axes, curves: Sequence[Sequence[float]], line: Mapping[str, Any], label: str
) -> None:
    for curve in _padded(curves):
        ax.plot(curve, **{**line, "linewidth": 0.8, "alpha": 0.5})
    ax.plot(medians(curves), label=label, **line)


def medians(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """The median at each step over the curves that come as far; nan where none has a number."""
    padded = _padded(curves)
    known = ~np.isnan(padded).all(axis=0)
    middle = np.full(padded.shape[1], math.nan)
    middle[known] = np.nanmedian(padded[:, known], axis=0)
    return middle


def _padded(curves: Sequence[Sequence[float]]) -> np.ndarray:
    # a run that ended early has no value after its end
    length = max(map(len, curves))
    return np.array([list(c) + [math.nan] * (length - len(c)) for c in curves])
