"""The figures of notebook 08: rules against a baseline, and what the rows of the study show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from course.figures import style
from course.study.comparing import Comparison
from course.study.reporting import (
    CHANGED,
    Findings,
    of_task,
    reach,
    rows_at,
    rules_of,
    training_pairs,
)
from course.study.rules import CONTROLS, MAIN_RULES
from course.study.store import select

__all__ = [
    "COUNTS",
    "LOOKS",
    "draw_forest",
    "draw_fresh",
    "draw_losses",
    "draw_rates",
    "draw_ratios",
    "draw_reach",
]

Column = tuple[str, float, Callable[[Comparison], str]]
"""Of the table beside a forest: its head, its width in inches, and the text for a comparison."""

COUNTS: tuple[Column, ...] = (
    ("tasks", 0.65, lambda c: str(c.tasks)),
    ("better", 0.7, lambda c: str(c.better)),
    ("equal", 0.7, lambda c: str(c.equal)),
    ("worse", 0.7, lambda c: str(c.worse)),
)
VERDICT: tuple[Column, ...] = (("verdict", 1.2, lambda c: c.verdict),)

_SHADE = "#DDE8EF"
_NAMES, _ROW, _HEAD, _FOOT, _TITLE = 1.55, 0.36, 0.35, 0.75, 0.35  # inches
_OWN = {"mean": style.MEAN, "consensus": style.CONSENSUS}
_TICK = 0.95  # inches that the number at a tick wants
_GREYS = (("-.", "s"), (":", "^"), ("--", "D"))


def _looks() -> dict[str, Mapping[str, Any]]:
    others = iter(style.OTHER_RULES)
    greys = iter(_GREYS)
    looks = dict(_OWN)
    for rule in MAIN_RULES:
        if rule in CONTROLS:
            line, marker = next(greys)
            looks[rule] = {"color": style.NEUTRAL, "linestyle": line, "linewidth": 1.8}
            looks[rule] |= {"marker": marker, "markersize": 6, "markerfacecolor": "white"}
        elif rule not in looks:
            looks[rule] = next(others)
    return looks


LOOKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(_looks())
"""The line of every rule of the main grid; the controls are grey, with markers of their own."""


def draw_forest(
    findings: Findings,
    title: str = "",
    columns: Sequence[Column] = COUNTS + VERDICT,
    slots: int = 0,
    width: float = 10.5,
) -> style.Picture:
    """Draw each rule's mean difference to the baseline with its 95 % interval, and a table.

    The differences that do not matter are shaded. Rules that could not be paired stand below.

    Args:
        findings: what to draw, a row a comparison.
        title: above the figure; by default that of the findings.
        columns: of the table on the right.
        slots: how many rows there is room for; at least as many as there are.
        width: of the picture, in inches.
    """
    found = findings.comparisons
    slots = max(slots, len(found) + bool(findings.unpaired), 1)
    height = _TITLE + _HEAD + _ROW * slots + _FOOT
    picture, ax = style.new_figure(size=(width, height))
    right = width - 0.15 - sum(size for _, size, _ in columns)
    style.hold_still(
        picture,
        left=_NAMES / width,
        right=right / width,
        bottom=_FOOT / height,
        top=1 - (_TITLE + _HEAD) / height,
    )
    measure = findings.measure
    title = title or findings.title
    picture.suptitle(
        title, fontsize=style.TITLE_SIZE, x=0.01, ha="left", y=1 - 0.08 / height, va="top"
    )
    limit = _limit(found, measure.margin)
    ax.axvspan(-measure.margin, measure.margin, color=_SHADE, linewidth=0)
    ax.axvline(0, color=style.NEUTRAL, linewidth=1)
    for row, comparison in enumerate(found):
        _draw_interval(ax, row, comparison, limit)
    _write_table(ax, found, columns, width)
    if findings.unpaired:
        absent = f"no pair of runs came to it: {', '.join(findings.unpaired)}"
        _write(ax, 0.01, len(found), absent, ha="left")
    ax.xaxis.set_major_locator(MaxNLocator(int((right - _NAMES) / _TICK)))
    ax.set(xlim=(-limit, limit), ylim=(slots - 0.4, -0.6))
    ax.set_yticks(range(len(found)), [c.rule for c in found])
    ax.tick_params(axis="y", length=0)
    for text, comparison in zip(ax.get_yticklabels(), found, strict=True):
        if comparison.rule in _OWN:
            text.set(color=LOOKS[comparison.rule]["color"], fontweight="bold")
    good = "better" if measure.higher_is_better else "worse"
    style.label(ax, x=f"minus {findings.baseline}, {measure.unit} (right: {good})")
    picture.alt = f"{title}, against {findings.baseline}: " + "; ".join(
        f"{c.rule} {c.difference:+.3f} {c.verdict}" for c in found
    )
    return picture


def _limit(found: Sequence[Comparison], margin: float) -> float:
    ends = [abs(end) for c in found for end in (*c.interval_95, c.difference)]
    return 1.1 * max([2 * margin, *(end for end in ends if math.isfinite(end))])


def _draw_interval(ax: Axes, row: int, comparison: Comparison, limit: float) -> None:
    color = LOOKS.get(comparison.rule, {"color": "black"})["color"]
    low, high = (float(np.clip(end, -limit, limit)) for end in comparison.interval_95)
    ax.plot([low, high], [row, row], color=color, linewidth=2.5, solid_capstyle="butt")
    face = "white" if comparison.rule in CONTROLS else color
    ax.plot(
        comparison.difference,
        row,
        "o",
        color=color,
        markerfacecolor=face,
        markersize=9,
        markeredgewidth=2,
    )


def _write_table(
    ax: Axes, found: Sequence[Comparison], columns: Sequence[Column], width: float
) -> None:
    inch = 1 / (width * ax.get_position().width)
    place = 1.0
    for head, size, text in columns:
        middle = place + size * inch / 2
        _write(ax, middle, -1.0, head, color=style.NEUTRAL)
        for row, comparison in enumerate(found):
            _write(ax, middle, row, text(comparison))
        place += size * inch


def _write(ax: Axes, x: float, row: float, text: str, ha: str = "center", **kw: Any) -> None:
    ax.text(
        x,
        row,
        text,
        transform=ax.get_yaxis_transform(),
        ha=ha,
        va="center",
        fontsize=style.TEXT_SIZE,
        clip_on=False,
        **kw,
    )


def draw_rates(columns: pd.DataFrame, chosen: Mapping[str, float]) -> style.Picture:
    """Draw what each rule came to on the tuning tasks at each learning rate.

    Args:
        columns: rows of a tuning part, of one setting.
        chosen: {rule: learning rate}, drawn as rings.
    """
    picture, ax = style.new_figure(size=(9.5, 4.6))
    end = rows_at(columns, "end")
    for rule in rules_of(end):
        own = select(end, rule=rule)
        rates = sorted(set(own["learning_rate"].tolist()))
        means = [select(own, learning_rate=rate)[CHANGED.column].mean() for rate in rates]
        ax.plot(rates, means, label=rule, **LOOKS[rule])
        best = rates.index(chosen[rule])
        ax.plot(
            rates[best],
            means[best],
            "o",
            markersize=13,
            markeredgewidth=2.2,
            color=LOOKS[rule]["color"],
            markerfacecolor="none",
        )
    ax.set_xscale("log")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    style.label(ax, "Tuning tasks; rings: chosen", "learning rate", CHANGED.name)
    style.add_legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    picture.alt = "Chosen learning rates: " + ", ".join(f"{r} {v:g}" for r, v in chosen.items())
    return picture


def draw_losses(columns: pd.DataFrame) -> style.Picture:
    """Draw the training loss of every run at the steps it was looked at, a panel a task."""
    checkpoints = select(columns, at="step")
    tasks = list(dict.fromkeys(checkpoints["task"].tolist()))
    picture, axes = style.new_figure(
        1, len(tasks), size=(3.6 * len(tasks), 3.8), sharey=True, squeeze=False
    )
    for ax, task in zip(axes[0], tasks, strict=True):
        for rule in rules_of(checkpoints):
            own = select(checkpoints, task=task, rule=rule)
            for number, seed in enumerate(dict.fromkeys(own["seed"].tolist())):
                run = select(own, seed=seed)
                name = None if number else rule
                ax.plot(run["step"], run["train_loss"], label=name, **LOOKS[rule])
        ax.set_yscale("log")
        style.label(ax, f"task {task}", "step")
    axes[0, 0].set_ylabel("training loss, nats a cell", fontsize=style.TEXT_SIZE)
    style.add_legend(axes[0, -1])
    picture.alt = f"Training losses on {', '.join(tasks)}"
    return picture


def draw_reach(columns: pd.DataFrame) -> style.Picture:
    """Draw the share of each rule's runs that come to each training loss."""
    picture, ax = style.new_figure(size=(9.5, 4.4))
    for rule, shares in reach(columns).items():
        ax.plot([*shares], [*shares.values()], label=rule, **LOOKS[rule])
    levels = [*shares]
    ax.set_xscale("log")
    ax.set_xticks(levels, [f"{level:g}" for level in levels])
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.set_ylim(-0.03, 1.03)
    style.label(ax, "Who gets there?", "training loss, nats a cell", "share of runs that reach it")
    style.add_legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    picture.alt = "Share of runs that reach each training loss, by rule"
    return picture


def draw_ratios(columns: pd.DataFrame) -> style.Picture:
    """Draw the consensus ratio along the runs by the mean and by consensus.

    Left over all weights, in the middle over live ones, on the right over live ones as a
    multiple of the coin-flip floor of the task. Lines are medians over tasks, bands hold the
    middle half of the tasks.
    """
    picture, axes = style.new_figure(1, 3, size=(12.0, 4.0))
    checkpoints = select(columns, at="step")
    steps = sorted(set(checkpoints["value"].tolist()))
    for rule, look in _OWN.items():
        for ax, name in zip(axes, ("", "live_", "live_"), strict=True):
            bands = [
                _quartiles(
                    of_task(select(checkpoints, rule=rule, value=step), f"{name}consensus_ratio"),
                    over_floor=ax is axes[2],
                )
                for step in steps
            ]
            low, middle, high = zip(*bands, strict=True)
            ax.plot(range(len(steps)), middle, label=rule, **look)
            ax.fill_between(range(len(steps)), low, high, color=look["color"], alpha=0.15)
    floor = float(np.median([_floor(task) for task in set(columns["task"].tolist())]))
    for ax, height in zip(axes, (floor, floor, 1.0), strict=True):
        ax.axhline(height, color=style.NEUTRAL, linewidth=1.5, linestyle=(0, (1, 2)))
        ax.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
        ax.set_ylim(bottom=0)
    style.label(axes[0], "all weights", "step", "consensus ratio")
    style.label(axes[1], "live weights", "step", "consensus ratio")
    style.label(axes[2], "live weights, over the floor", "step", "ratio / floor of the task")
    axes[0].annotate(
        "median floor",
        (len(steps) - 1, floor),
        ha="right",
        va="bottom",
        fontsize=style.TEXT_SIZE - 1,
        color=style.NEUTRAL,
    )
    style.add_legend(axes[1])
    picture.alt = "Consensus ratio along the runs, against the coin-flip floor"
    return picture


def _floor(task: str) -> float:
    return 2.0 ** (1 - training_pairs(task))


def _quartiles(by_task: Mapping[str, float], over_floor: bool) -> tuple[float, float, float]:
    numbers = [ratio / _floor(task) if over_floor else ratio for task, ratio in by_task.items()]
    return tuple(np.quantile(numbers, [0.25, 0.5, 0.75]).tolist())


def draw_fresh(columns: pd.DataFrame) -> style.Picture:
    """Draw each rule's accuracy on generated pairs, a row a task: means over seeds.

    The mean and consensus have lines from their worst seed to their best; all other rules are
    small grey rings.
    """
    end = rows_at(columns, "end")
    tasks = sorted(set(end["task"].tolist()))
    picture, axes = style.new_figure(1, 2, size=(12.0, 0.6 * len(tasks) + 1.5), sharey=True)
    for ax, name in zip(axes, ("fresh_changed_accuracy", "fresh_exact"), strict=True):
        for row, task in enumerate(tasks):
            for rule in rules_of(end):
                numbers = select(end, task=task, rule=rule)[name]
                _draw_seeds(ax, row, rule, numbers)
        ax.set_xlim(-0.03, 1.03)
    axes[0].set_yticks(range(len(tasks)), tasks)
    axes[0].set_ylim(len(tasks) - 0.5, -0.5)
    style.label(axes[0], "changed cells of 200 fresh pairs", "share of cells")
    style.label(axes[1], "fresh pairs solved exactly", "share of pairs")
    ring = {"marker": "o", "markerfacecolor": "none", "linestyle": "", "color": style.NEUTRAL}
    axes[1].plot([], [], label="other rules", markersize=6, **ring)
    style.add_legend(axes[1], loc="center left", bbox_to_anchor=(1.0, 0.5))
    picture.alt = f"Accuracy on fresh pairs of {', '.join(tasks)}"
    return picture


def _draw_seeds(ax: Axes, row: int, rule: str, numbers: pd.Series) -> None:
    look = _OWN.get(rule)
    if look is None:
        ax.plot(numbers.mean(), row, "o", color=style.NEUTRAL, markerfacecolor="none", markersize=6)
        return
    place = row + (0.15 if rule == "consensus" else -0.15)
    ax.plot([numbers.min(), numbers.max()], [place, place], **look)
    name = rule if row == 0 else None
    ax.plot(numbers.mean(), place, "o", color=look["color"], markersize=9, label=name)
