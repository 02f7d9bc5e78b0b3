"""Figures of the rules of agreement: the family, power means, shares, optimizers, a plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

import consensus_lib as cl
from course.figures import style
from course.figures.one_weight import LOOKS, Numbers, as_numbers, signed

__all__ = ["draw_family", "draw_plane", "draw_power_means", "draw_shares", "draw_walks"]

# As in the figures of one step: a pale green for a gain, a pale red for who pays.
_NAMED_MEANS = {-1.0: "harmonic", 0.0: "geometric", 1.0: "AND-mask"}
_MARKERS = {"mean": "o", "consensus": "s", "MGDA": "^", "UPGrad": "D"}
_GAP = 0.6  # of a cell, between the examples and the rules


def draw_family(
    gradients: Tensor, rules: Mapping[str, cl.Rule], weights: Sequence[str]
) -> style.Picture:
    """Draw a table: above the gradients of each example, below the update of each rule.

    A cell of an update is green where no example objects to it at this weight, red where one
    does (its gradient has the other sign), and white where the weight stays.

    Args:
        gradients: (N, P), an example a row; up to six of each stay readable.
        rules: {name: rule}, up to twelve.
        weights: a short name for each of the P columns.
    """
    count = len(gradients)
    updates = {name: rule.reduce(gradients) for name, rule in rules.items()}
    heights = [*range(count), *(count + _GAP + i for i in range(len(rules)))]
    picture, ax = style.new_figure(size=(9.0, 1.6 + 0.36 * (heights[-1] + 1)))
    for row, height in zip(gradients, heights, strict=False):
        for column, value in enumerate(row):
            _cell(ax, column, height, value.item(), "white")
    for update, height in zip(updates.values(), heights[count:], strict=True):
        objected = (update * gradients < 0).any(dim=0)
        for column, (value, bad) in enumerate(zip(update, objected, strict=True)):
            face = "white" if value == 0 else style.PAYS if bad else style.GAIN
            _cell(ax, column, height, value.item(), face)
    ax.set(xlim=(0, len(weights)), ylim=(heights[-1] + 1, 0))
    ax.set_xticks([i + 0.5 for i in range(len(weights))], weights)
    ax.xaxis.tick_top()
    names = [*(f"example {i + 1}" for i in range(count)), *rules]
    ax.set_yticks([height + 0.5 for height in heights], names)
    for text in ax.get_yticklabels():
        if text.get_text() in LOOKS:
            text.set(color=LOOKS[text.get_text()]["color"], fontweight="bold")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    style.label(ax, x="green: nobody objects    red: an example objects    white: it stays")
    picture.suptitle("What each rule makes of the same gradients", fontsize=style.TITLE_SIZE)
    picture.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    told = (f"{name}: {', '.join(signed(v.item()) for v in u)}" for name, u in updates.items())
    picture.alt = f"Updates of {len(rules)} rules at {', '.join(weights)}. {'; '.join(told)}"
    return picture


def _cell(ax: Axes, column: int, height: float, value: float, face: str) -> None:
    ax.add_patch(Rectangle((column, height), 1, 1, facecolor=face, edgecolor=style.PALE))
    look = {"ha": "center", "va": "center_baseline", "fontsize": style.TEXT_SIZE}
    ax.text(column + 0.5, height + 0.5, signed(value), **look)


def draw_power_means(gradients: Numbers) -> style.Picture:
    """Draw the update of the power mean over p, from consensus far left to the largest gradient.

    Args:
        gradients: (N,), those of one weight, all positive.
    """
    g = torch.from_numpy(as_numbers(gradients))
    powers = np.linspace(-20, 20, 161)
    picture, ax = style.new_figure()
    for value in g.unique():
        ax.axhline(value, color=style.NEUTRAL, linewidth=1, linestyle=(0, (1, 3)))
        ax.text(20.4, value, f"g = {signed(value.item())}", va="center", fontsize=style.TEXT_SIZE)
    line = style.OTHER_RULES[0]
    ax.plot(powers, [cl.PowerMean(float(p)).reduce(g) for p in powers], label="power mean", **line)
    ax.axhline(cl.PowerMean(-np.inf).reduce(g), label="consensus, p → −∞", **style.CONSENSUS)
    for p, name in _NAMED_MEANS.items():
        height = cl.PowerMean(p).reduce(g).item()
        ax.plot(p, height, "o", color=line["color"], markersize=9)
        ax.text(p + 0.8, height, name, va="top", fontsize=style.TEXT_SIZE)
    ax.set_xlim(-20, 20)
    style.label(ax, "One weight on which all agree", "power p", "update")
    style.add_legend(ax, loc="upper left", bbox_to_anchor=(0, 0.93))
    style.hold_still(picture, left=0.1, right=0.86, bottom=0.15, top=0.91)
    picture.alt = "The update rises with p, from the least to the greatest gradient"
    return picture


def draw_shares(
    seen: Mapping[str, Mapping[int, float]], derived: Mapping[str, Callable[[int], float]]
) -> style.Picture:
    """Draw shares of weights with consensus over the number of voters: points seen, lines derived.

    Args:
        seen: {case: {N: share}}, up to five cases; a share of 0 cannot be shown on this axis.
        derived: {case: N -> share}, for the same cases.
    """
    picture, ax = style.new_figure(size=(9.0, 5.0))
    for (name, shares), look in zip(seen.items(), (style.COINS, *style.OTHER_RULES), strict=False):
        ax.plot(list(shares), [derived[name](n) for n in shares], label=name, **look)
        ax.plot(list(shares), list(shares.values()), "o", color=look["color"], markersize=8)
    ax.set_yscale("log")
    ax.set_ylim(5e-5, 1.5)
    style.label(ax, "Lines derived, points seen", "voters N", "share of weights with consensus")
    style.add_legend(ax, loc="lower left")
    told = (f"{n} {', '.join(f'{s:.2g} of {v}' for v, s in by.items())}" for n, by in seen.items())
    picture.alt = f"Shares of weights with consensus: {'; '.join(told)} voters"
    return picture


def draw_walks(
    free: Mapping[str, Sequence[float]], held: Mapping[str, Sequence[float]], masked_from: int
) -> style.Picture:
    """Draw one weight over the steps by several optimizers, left free and with masked weights held.

    Args:
        free: {optimizer: the weight before each step and after the last}, up to four.
        held: the same with `hold_masked_weights`.
        masked_from: the step from which on the update is 0, shaded.
    """
    picture, axes = style.new_figure(1, 2, size=(9.0, 4.5), sharey=True)
    titles = "as the optimizer likes", "with hold_masked_weights"
    for ax, walks, title in zip(axes, (free, held), titles, strict=True):
        for name, look in style.looks_of(walks).items():
            walk = walks[name]
            ax.plot(walk, label=name, **look)
        last = len(walk) - 1
        ax.axvspan(masked_from, last, color=style.PALE, zorder=0)
        top = {"xycoords": ax.get_xaxis_transform(), "va": "top", "fontsize": style.TEXT_SIZE}
        ax.annotate("masked: update 0", (masked_from + 0.5, 0.98), **top)
        ax.set_xlim(0, last)
        style.label(ax, title, "step", "weight w" if ax is axes[0] else "")
    style.legend_below(picture, axes[0].get_legend_handles_labels()[0])
    ends = ", ".join(f"{n} {free[n][-1]:.2f} and {held[n][-1]:.2f}" for n in free)
    picture.alt = f"The weight ends, free and held, at: {ends}"
    return picture


def draw_plane(
    pairs: Mapping[str, Tensor], rules: Mapping[str, Callable[[Tensor], Tensor]]
) -> style.Picture:
    """Draw steps of two weights by rules that look at two examples, a panel a pair of examples.

    All are drawn as steps, against the gradients. Green are the steps to which neither example
    objects; the dashed box and the segment are what lies between the two examples' steps,
    weight by weight and as mixtures.

    Args:
        pairs: {title: gradients (2, 2)}, an example a row.
        rules: {name: gradients -> update (2,)}; "mean", "consensus", "MGDA" and "UPGrad" are known.
    """
    picture, axes = style.new_figure(1, len(pairs), size=(9.0, 4.2), squeeze=False)
    looks = style.looks_of(rules)
    for ax, (title, g) in zip(axes[0], pairs.items(), strict=True):
        ends = -g.numpy()
        corners = np.vstack([ends, [[0.0, 0.0]]])
        middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
        half = 0.7 * np.ptp(corners, axis=0).max()
        window = np.stack([middle - half, middle + half], axis=1)
        _shade_agreeable(ax, ends, window)
        low, size = ends.min(axis=0), np.ptp(ends, axis=0)
        ax.add_patch(Rectangle(low, *size, fill=False, linestyle=(0, (2, 2)), edgecolor="black"))
        ax.plot(*ends.T, color="black", linewidth=1.5)
        for i, (x, y) in enumerate(ends, start=1):
            ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": style.NEUTRAL})
            away = 13 * np.array([x, y]) / np.hypot(x, y)
            place = {"xytext": away, "textcoords": "offset points", "ha": "center", "va": "center"}
            ax.annotate(f"{i}", (x, y), fontsize=style.TITLE_SIZE, **place)
        for name, rule in rules.items():
            x, y = -rule(g).numpy()
            ax.plot([0, x], [0, y], **looks[name])
            point = {"marker": _MARKERS[name], "color": looks[name]["color"], "markersize": 11}
            hollow = {"fillstyle": "none", "markeredgewidth": 2.5}
            ax.plot(x, y, linestyle="", label=name, **point, **hollow)
        ax.set(xlim=window[0], ylim=window[1], aspect="equal")
        style.label(ax, title, "step of weight 1", "step of weight 2")
    style.legend_below(picture, axes[0, 0].get_legend_handles_labels()[0])
    picture.alt = f"Steps by {', '.join(rules)} for two examples: {'; '.join(pairs)}"
    return picture


def _shade_agreeable(ax: Axes, ends: np.ndarray, window: np.ndarray) -> None:
    x, y = (np.linspace(*side, 301) for side in window)
    worst = (np.stack(np.meshgrid(x, y), axis=-1) @ ends.T).min(axis=-1)
    ax.contourf(x, y, worst, levels=[0.0, np.inf], colors=[style.GAIN], zorder=0)
