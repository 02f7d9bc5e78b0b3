"""Training curves: one panel a quantity, thin lines for seeds, a thick one for their median."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from consensus_lib import History
from course.figures import style

__all__ = ["PANELS", "draw_curves", "draw_seeds", "medians"]

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
        runs: {label: the histories of several seeds}; rules have their own lines.
        panels: names of `PANELS`, each a list of one number a step in the histories.
        title: above all panels.

    Raises:
        KeyError: for a panel that `PANELS` does not name.
    """
    figure, axes = style.new_figure(
        1, len(panels), size=(4.2 * len(panels), 4.0), title=title, squeeze=False
    )
    figure.get_layout_engine().set(w_pad=0.12)
    for ax, panel in zip(axes[0], panels, strict=True):
        name, unit = PANELS[panel]
        style.label(ax, name, "step", unit)
        for label, look in style.looks_of(runs).items():
            curves = [getattr(history, panel) for history in runs[label]]
            draw_seeds(ax, range(max(map(len, curves))), curves, look, label)
        if "loss" in panel:
            ax.set_yscale("log")
        else:
            ax.set_ylim(-0.03, 1.03)
        if "consensus_ratio" in panel:
            floor = next(iter(runs.values()))[0].floor[0]
            style.mark_level(ax, floor, "coin-flip floor")
    losses = [ax for ax, panel in zip(axes[0], panels, strict=True) if "loss" in panel]
    for ax in losses[1:]:
        ax.sharey(losses[0])
    if len(runs) > 1:
        style.add_legend(axes[0, 0])
    figure.alt = f"Curves of {', '.join(PANELS[p][0] for p in panels)} for {', '.join(runs)}"
    return figure


def draw_seeds(
    ax: Axes, steps: Sequence[int], curves: Sequence[Sequence[float]], look: style.Look, label: str
) -> None:
    """Draw a thin line a seed, as far as it comes, and a thick one for their median."""
    for curve in curves:
        thin = {"linewidth": 0.8, "alpha": 0.5, "marker": ""}
        ax.plot(steps[: len(curve)], curve, **{**look, **thin})
    ax.plot(steps, medians(curves), label=label, **{**look, "markevery": 0.2})


def medians(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """The median at each step over the curves that come as far; nan where none has a number."""
    seeds = [pd.Series([*curve], dtype=float) for curve in curves]
    return pd.concat(seeds, axis=1).median(axis=1).to_numpy()
