"""Figures of the votes of a Linear layer: how they factorise, and how few are unanimous."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from course.figures import style

__all__ = ["draw_sign_patterns", "draw_unanimous"]

_UP, _DOWN = style.OTHER_RULES[0]["color"], style.OTHER_RULES[1]["color"]
_FACES = {1: _UP, -1: _DOWN, 0: "white"}
_MARKS = {1: "+", -1: "−", 0: "0"}
_GAP = 0.5  # cells between the factors and their products


def draw_sign_patterns(inputs: Tensor, grad_outputs: Tensor) -> style.Picture:
    """Draw the sign of every example's gradient as the product of two signs, and their sum.

    A panel an example: its inputs above, its gradients by the outputs at the left, between them
    the sign of the gradient of each weight. The last panel sums the votes; where all agree, the
    cell is filled.

    Args:
        inputs: (B, in); up to three examples and four inputs stay readable.
        grad_outputs: (B, out).
    """
    above = np.sign(inputs.numpy()).astype(int)
    left = np.sign(grad_outputs.numpy()).astype(int)
    count, width, height = len(above), above.shape[1], left.shape[1]
    picture, axes = style.new_figure(
        1, count + 1, (2.8 * (count + 1), 3.6), "Signs of the gradients, example by example"
    )
    for b, ax in enumerate(axes[:-1]):
        signs = np.outer(left[b], above[b])
        _draw_grid(ax, signs, lambda sign: (_MARKS[sign], _FACES[sign]))
        _write(ax, width / 2, -1.25 - _GAP, "inputs a")
        _write(ax, -0.5 - _GAP, -0.25, "δ")
        for i in range(width):
            _draw_cell(ax, i, -1 - _GAP, _MARKS[above[b, i]], _FACES[above[b, i]])
        for o in range(height):
            _draw_cell(ax, -1 - _GAP, o, _MARKS[left[b, o]], _FACES[left[b, o]])
        style.label(ax, f"example {b + 1}")
    votes = left.T @ above
    _draw_grid(
        axes[-1],
        votes,
        lambda v: (f"{v:+d}".replace("-", "−"), _FACES[v // count if abs(v) == count else 0]),
    )
    style.label(axes[-1], "sum of the votes")
    for ax in axes:
        ax.set(xlim=(-1.2 - _GAP, width + 0.2), ylim=(height + 0.2, -2 - _GAP), aspect="equal")
        ax.axis("off")
    picture.alt = f"Sums of the votes of {count} examples, by output: {votes.tolist()}"
    return picture


def _draw_grid(ax: Axes, values: np.ndarray, look: Callable[[int], tuple[str, str]]) -> None:
    for (o, i), value in np.ndenumerate(values):
        _draw_cell(ax, i, o, *look(int(value)))


def _draw_cell(ax: Axes, x: float, y: float, text: str, face: str) -> None:
    ax.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor=style.NEUTRAL))
    ax.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=style.TITLE_SIZE)


def _write(ax: Axes, x: float, y: float, text: str) -> None:
    ax.text(x, y, text, ha="center", color=style.NEUTRAL, fontsize=style.TEXT_SIZE)


def draw_unanimous(shares: Mapping[str, Mapping[int, float]]) -> style.Picture:
    """Draw the share of weights with unanimous votes over the batch, beside that of coins.

    Args:
        shares: {label: {batch: share of weights}}, up to four labels.
    """
    picture, ax = style.new_figure()
    for name, line in style.looks_of(shares).items():
        ax.plot(*zip(*shares[name].items(), strict=True), marker="o", label=name, **line)
    batches = sorted({batch for share in shares.values() for batch in share})
    floors = [2.0 ** (1 - batch) for batch in batches]
    ax.plot(batches, floors, label="coin-flip floor", **style.COINS)
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.minorticks_off()
    ax.set_ylim(-0.03, 1.03)
    style.label(ax, "Weights on which all examples agree", "batch (examples)", "share of weights")
    style.add_legend(ax, loc="center right")
    told = (
        f"{name} {', '.join(f'{s:.2g} of {n}' for n, s in of.items())}"
        for name, of in shares.items()
    )
    picture.alt = f"Share of weights on which all examples agree: {'; '.join(told)} examples"
    return picture
