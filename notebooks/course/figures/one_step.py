"""One step of one weight in one figure: what each example asks for, and who gains or pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

import consensus_lib as cl
from course.figures import style
from course.figures.one_weight import (
    LOOKS,
    VETO,
    Numbers,
    as_numbers,
    draw_arrow,
    draw_place,
    named_rules,
    signed,
    update_of,
    verdict,
)

__all__ = ["draw_step", "who_pays"]

_SIGNS = {"better": "▼", "worse": "▲", "as before": "="}
_COLUMNS = (0.645, 0.8, 0.98)


def who_pays(gradients: Numbers, step: float) -> list[int]:
    """Return the numbers, from 1, of the examples whose loss is larger at w = step than at 0."""
    g = as_numbers(gradients)
    changes = zip(_losses(0.0, g), _losses(step, g), strict=True)
    return [i for i, pair in enumerate(changes, start=1) if verdict(*pair) == "worse"]


def draw_step(
    gradients: Numbers, learning_rate: float = 1.0, consensus: cl.Rule = VETO
) -> style.Picture:
    """Draw a row an example: its vote, where the steps of both rules land, and its loss there.

    Below them stand the average of the losses, and the two steps. A vote is the arrow from w = 0
    to -g_i, the optimum of the example; in the band around the arrow's tip its loss is smaller
    than at 0. The axis shows weights up to 1.65, or 3.3 where a vote is longer than 1.5; what
    lies beyond is cut off.

    Args:
        gradients: (N,), one an example, at w = 0; up to six stay readable.
        learning_rate: a step leads to -learning_rate x update.
        consensus: the rule drawn as consensus.
    """
    g = as_numbers(gradients)
    steps = {n: -learning_rate * update_of(r, g) for n, r in named_rules(consensus).items()}
    heights = [*range(len(g) + 1), *(len(g) + 1.2 + i for i in range(len(steps)))]

    picture, ax = style.new_figure(size=(5.6, 4.4))
    style.hold_still(picture, left=0.21, right=0.54, bottom=0.21, top=0.79)
    ax.set_ylim(heights[-1] + 0.6, -0.6)
    _draw_rows(ax, g, steps, heights)
    _write_losses(ax, g, steps, heights)
    sentences = [_sentence(name, step, who_pays(g, step), len(g)) for name, step in steps.items()]
    for name, sentence, height in zip(steps, sentences, (0.985, 0.92), strict=True):
        _write(picture, 0.01, height, sentence, color=LOOKS[name]["color"], va="top")
    _write(picture, 0.21, 0.025, "gains here", backgroundcolor=style.GAIN)
    _write(picture, 0.99, 0.025, "▲ pays   ▼ gains", ha="right")
    picture.alt = f"One step of one weight. {'. '.join(sentences)}."
    return picture


def _losses(w: float, g: np.ndarray) -> np.ndarray:
    return 0.5 * (w + g) ** 2


def _draw_rows(
    ax: Axes, g: np.ndarray, steps: Mapping[str, float], heights: Sequence[float]
) -> None:
    limit = 1.65 if np.abs(g).max() <= 1.5 else 3.3
    ax.axvline(0, color=style.NEUTRAL, linewidth=1)
    ax.axhline(len(g) + 0.6, color=style.PALE, linewidth=2)
    ax.barh(
        heights[: len(g)], np.clip(-2 * g, -limit, limit), height=0.8, color=style.GAIN, zorder=0
    )
    for height, value in zip(heights, g, strict=False):
        draw_arrow(ax, -value, height, dict(style.MEAN, color=style.NEUTRAL), 2 * limit)
    for (name, step), height in zip(steps.items(), heights[len(g) + 1 :], strict=True):
        draw_arrow(ax, step, height, LOOKS[name], 2 * limit)
        ax.plot([step, step], [-0.6, height], **{**LOOKS[name], "linewidth": 1.5}, zorder=1)
        for row in heights[: len(g)]:
            draw_place(ax, step, row, name)
    ax.set_xlim(-limit, limit)
    ax.set_xticks([-int(limit), 0, int(limit)])
    ax.set_yticks(heights, [*(f"example {i + 1}" for i in range(len(g))), "average", *steps])
    ax.tick_params(axis="y", length=0)
    for text, name in zip(ax.get_yticklabels()[len(g) + 1 :], steps, strict=True):
        text.set(color=LOOKS[name]["color"], fontweight="bold")
    style.label(ax, x="weight w")


def _write_losses(
    ax: Axes, g: np.ndarray, steps: Mapping[str, float], heights: Sequence[float]
) -> None:
    before = _losses(0.0, g)
    head = -0.6 - 0.07 * (heights[-1] + 1.2)
    columns = {"before": (before, style.NEUTRAL)}
    columns |= {n: (_losses(step, g), LOOKS[n]["color"]) for n, step in steps.items()}
    for column, (name, (losses, color)) in enumerate(columns.items()):
        _cell(ax, column, head, name, color=color)
        for row, height in enumerate(heights[: len(g) + 1]):
            then, now = (x[row] if row < len(g) else x.mean() for x in (before, losses))
            change = verdict(then, now)
            look = {"bbox": {"facecolor": style.PAYS, "edgecolor": "none", "pad": 2}}
            sign = f" {_SIGNS[change]}" if column else ""
            _cell(ax, column, height, _number(now) + sign, **look if change == "worse" else {})


def _cell(ax: Axes, column: int, height: float, text: str, **look: object) -> None:
    beside = blended_transform_factory(ax.figure.transFigure, ax.transData)
    look |= {"transform": beside, "ha": "right", "va": "center_baseline"}
    _write(ax, _COLUMNS[column], height, text, **look)


def _write(place: Axes | style.Picture, x: float, y: float, text: str, **look: object) -> None:
    place.text(x, y, text, fontsize=style.TEXT_SIZE, **look)


def _number(loss: float) -> str:
    return f"{loss:.3f}" if loss < 9.9995 else f"{loss:.1f}"


def _sentence(name: str, step: float, losers: Sequence[int], voters: int) -> str:
    place = f"w = {signed(step)}" if signed(step) != "0" else "w stays"
    winners = [i for i in range(1, voters + 1) if i not in losers]
    if not losers:
        who = "nobody pays"
    elif not winners:
        who = "all pay"
    elif len(losers) > voters / 2:
        who = f"all but {_names(winners)} pay"
    else:
        who = f"{_names(losers)} pay{'s' * (len(losers) == 1)}"
    return f"{name}: {place}, {who}"


def _names(examples: Sequence[int]) -> str:
    *others, last = map(str, examples)
    return f"examples {', '.join(others)} and {last}" if others else f"example {last}"
