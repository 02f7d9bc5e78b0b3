"""The figures of notebook 09: rules against weight decay, voters, layers and steps away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from course.figures import style
from course.study.store import select

__all__ = ["draw_against", "draw_layers", "draw_rise", "draw_voters", "mean_over_tasks"]


def mean_over_tasks(columns: pd.DataFrame, measure: str) -> float:
    """The mean over tasks of the mean over their runs; nan where there is no run.

    Args:
        columns: rows of a study, one a run.
        measure: a column of numbers; a row without one (nan) is left out.
    """
    return float(columns.groupby("task")[measure].mean().mean())


def draw_against(
    columns: pd.DataFrame,
    by: str,
    panels: Mapping[str, tuple[str, str]],
    x: str,
    title: str = "",
) -> style.Picture:
    """Draw means over tasks against a setting, one line a rule.

    Args:
        columns: rows of a study, one a run.
        by: the column of the setting; its values are placed evenly, in order.
        panels: {measure: (title, y label)}; measures that end in "loss" get a log scale.
        x: the name of the setting.
        title: above all panels.
    """
    figure, axes = style.new_figure(
        1, len(panels), size=(4.6 * len(panels), 4.2), title=title, squeeze=False
    )
    values = sorted(set(columns[by].tolist()))
    for ax, (measure, (name, unit)) in zip(axes[0], panels.items(), strict=True):
        style.label(ax, name, x, unit)
        for rule, line in _lines(columns):
            own = select(columns, rule=rule)
            means = [mean_over_tasks(select(own, **{by: value}), measure) for value in values]
            ax.plot(range(len(values)), means, marker="o", label=rule, **line)
        ax.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        if measure.endswith("loss"):
            ax.set_yscale("log")
    style.add_legend(axes[0, 0])
    figure.alt = f"{', '.join(name for name, _ in panels.values())} against {x}"
    return figure


def draw_voters(columns: pd.DataFrame, title: str = "") -> style.Picture:
    """Draw the consensus ratio over live weights against the number of voters, with the floor.

    Args:
        columns: rows of the part "voters", of one moment.
        title: above the panels, one for each rule that is trained; a single one has no name.
    """
    rules = [rule for rule, _ in _lines(columns)]
    figure, axes = style.new_figure(
        1, len(rules), size=(5.0 * len(rules), 4.2), title=title, squeeze=False, sharey=True
    )
    voters = sorted(set(columns["voters"].tolist()))
    for ax, (rule, line) in zip(axes[0], _lines(columns), strict=True):
        own = select(columns, rule=rule)
        ratios = [
            mean_over_tasks(select(own, voters=count), "live_consensus_ratio") for count in voters
        ]
        ax.plot(voters, ratios, marker="o", **line)
        floor = [2.0 ** (1 - count) for count in voters]
        ax.plot(voters, floor, color=style.NEUTRAL, linestyle=(0, (1, 2)))
        ax.text(
            6, 1e-4, "coin-flip\nfloor", ha="right", fontsize=style.TEXT_SIZE, color=style.NEUTRAL
        )
        ax.set_xscale("log", base=2)
        ax.set_xticks(voters, [f"{count:.0f}" for count in voters])
        ax.set_yscale("log")
        ax.set_ylim(1e-6, 1.5)
        name = f"trained by {rule}" if len(rules) > 1 else ""
        style.label(ax, name, "voters N", "consensus ratio, live weights")
    figure.alt = "Consensus ratio against the number of voters, with the coin-flip floor"
    return figure


def draw_layers(columns: pd.DataFrame, steps: Sequence[int], title: str = "") -> style.Picture:
    """Draw the consensus ratio of each layer's live weights, one line a moment.

    Args:
        columns: rows of one rule, `at` = "step".
        steps: the checkpoints to draw.
        title: above the figure.
    """
    names = [name for name in columns if name.startswith("layer_")]
    names = [name for name in names if not columns[name].isna().all()]
    figure, ax = style.new_figure(size=(6.4, 4.2), title=title)
    shades = np.linspace(0.75, 0.0, len(steps))
    for step, shade in zip(steps, shades, strict=True):
        own = select(columns, value=step)
        ratios = [mean_over_tasks(own, name) for name in names]
        ax.plot(
            range(1, len(names) + 1),
            ratios,
            marker="o",
            color=str(shade),
            linewidth=2,
            label=f"step {step}",
        )
    ax.set_xticks(range(1, len(names) + 1))
    ax.set_ylim(0, 1.05)
    style.label(ax, "", "layer, first to last", "consensus ratio, live weights")
    style.add_legend(ax, loc="upper left", ncols=3, columnspacing=1)
    figure.alt = "Consensus ratio by layer, one line a moment of training"
    return figure


def draw_rise(columns: pd.DataFrame, title: str = "") -> style.Picture:
    """Draw how far the training loss rises at random steps away, one line a rule.

    Args:
        columns: rows of the part "flatness".
        title: above the figure.
    """
    figure, ax = style.new_figure(size=(6.4, 4.2), title=title)
    radii = sorted(columns["radius"].dropna().unique())
    for rule, line in _lines(columns):
        own = select(columns, rule=rule)
        rises = [mean_over_tasks(select(own, radius=radius), "rise") for radius in radii]
        ax.plot(radii, rises, marker="o", label=rule, **line)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(radii, [f"{radius:.0%}" for radius in radii])
    ax.minorticks_off()
    style.label(ax, "", "length of the step, share of each layer's norm", "rise, nats per cell")
    style.add_legend(ax)
    figure.alt = "Rise of the training loss against the length of a random step"
    return figure


def _lines(columns: pd.DataFrame) -> Iterator[tuple[str, Mapping[str, Any]]]:
    others = iter(style.OTHER_RULES)
    known = {"mean": style.MEAN, "consensus": style.CONSENSUS}
    rules = sorted(set(columns["rule"].tolist()), key=lambda rule: (rule not in known, rule))
    for rule in sorted(rules, key=lambda rule: rule != "mean"):
        yield rule, known[rule] if rule in known else next(others)
