"""Figures of one weight: what its examples ask for, what two rules do, who gains, and the path.

The examples are those of the lesson: L_i(w) = 1/2 (w + g_i)^2, so that g_i is the gradient of
example i at w = 0 and -g_i is its optimum.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.markers import CARETLEFT, CARETRIGHT
from torch import Tensor

from consensus_lib.rules import Consensus, Mean, Rule
from course.figures import style

VETO, ABSTAIN = Consensus(), Consensus(zeros="abstain")
LOOKS = {"mean": style.MEAN, "consensus": style.CONSENSUS}
_STAYS = "D"
_HEADROOM = 1.1
_MARKER_SIZE = 10
_SMALL = 1e-9

Numbers = Sequence[float] | Tensor


def draw_votes(
    gradients: Numbers,
    weight: float = 0.0,
    consensus: Rule | None = VETO,
    limit: float | None = None,
) -> style.Picture:
    """Draw an arrow an example from the weight towards less loss, and below them both updates.

    An arrow runs from w to w - g_i, or to w - update, with the g_i given here taken at w: the
    step at learning rate 1. A vote or an update of 0 is a dot.

    Args:
        gradients: (N,), one an example, at the weight.
        weight: where the arrows start.
        consensus: the rule drawn as consensus, named "abstain" where its zeros do; None draws the
            mean alone.
        limit: the axis shows -limit to +limit; None picks one that holds every arrow.
    """
    g = as_numbers(gradients)
    rules = named_rules(consensus)
    updates = [update_of(rule, g) for rule in rules.values()]
    rows = [f"example {i}: g = {signed(value)}" for i, value in enumerate(g, start=1)]
    named = ["mean", "abstain" if consensus == ABSTAIN else "consensus"]
    rows += [f"{name} = {signed(u)}" for name, u in zip(named, updates, strict=False)]
    heights = [*range(len(g)), *(len(g) + 0.5 + i for i in range(len(rules)))]
    looks = [dict(style.MEAN, color=style.NEUTRAL)] * len(g) + [LOOKS[name] for name in rules]
    ends = [weight - step for step in (*g, *updates)]
    limit = limit or _limit([weight, *ends])

    picture, ax = style.new_figure(size=(9.0, 4.0))
    ax.axvline(weight, color=style.NEUTRAL, linewidth=1)
    ax.axhline(len(g) - 0.25, color=style.PALE, linewidth=2)
    for end, height, look in zip(ends, heights, looks, strict=True):
        draw_arrow(ax, weight, end, height, look, 2 * limit)
    ax.set(xlim=(-limit, limit), ylim=(heights[-1] + 0.6, -0.6))
    ax.set_yticks(heights, rows)
    ax.tick_params(axis="y", length=0)
    for text, look in zip(ax.get_yticklabels()[len(g) :], looks[len(g) :], strict=True):
        text.set(color=look["color"], fontweight="bold")
    style.hold_still(picture, left=0.26, right=0.97, bottom=0.15, top=0.91)
    style.label(ax, "Arrows point towards less loss, against the gradient", x="weight w")
    picture.alt = f"Votes and updates at w = {weight:.3g}: " + "; ".join(rows)
    return picture


def draw_losses(
    gradients: Numbers,
    learning_rate: float = 1.0,
    consensus: Rule | None = VETO,
    limit: float | None = None,
    top: float | None = None,
) -> style.Picture:
    """Draw each example's loss over the weight, with its value before and after one step.

    The step starts at w = 0; the title of each example says for whom it got better or worse.

    Args:
        gradients: (N,), one an example, at w = 0; up to four stay readable.
        learning_rate: the step is to -learning_rate x update.
        consensus: the rule drawn as consensus; None draws the mean alone.
        limit: the weight axis shows -limit to +limit; None picks one that holds everything.
        top: the loss axis shows 0 to top; None picks one that holds every point.
    """
    g = as_numbers(gradients)
    rules = named_rules(consensus)
    ends = [-learning_rate * update_of(rule, g) for rule in rules.values()]
    places = np.array([0.0, *ends])
    losses = 0.5 * (places + g[:, None]) ** 2
    limit = limit or _limit([*ends, *-g])
    top = top or _limit(losses.flatten())
    names = {"before": "before the step"} | {name: f"after the {name} step" for name in rules}

    picture, axes = style.new_figure(
        1,
        len(g),
        size=(9.0, 5.0),
        title="Each example's loss, before and after one step",
        sharey=True,
        squeeze=False,
    )
    w = np.linspace(-limit, limit, 201)
    for i, ax in enumerate(axes[0]):
        ax.plot(w, 0.5 * (w + g[i]) ** 2, color=style.NEUTRAL, linewidth=1.5)
        for (name, text), place, loss in zip(names.items(), places, losses[i], strict=True):
            draw_place(ax, place, loss, name, label=text, clip_on=False)
        ax.set(xlim=(-limit, limit), ylim=(0, top))
        verdicts = [
            f"{name}: {verdict(losses[i, 0], after)}"
            for name, after in zip(rules, losses[i, 1:], strict=True)
        ]
        title = "\n".join([f"example {i + 1}", *verdicts])
        style.label(ax, title, x="weight w", y="" if i else "loss")
    style.hold_still(picture, left=0.1, right=0.98, bottom=0.22, top=0.75, wspace=0.08)
    picture.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="lower center",
        ncols=3,
        fontsize=style.TEXT_SIZE,
        frameon=False,
    )
    picture.alt = (
        f"Losses before and after a step of learning rate {learning_rate:.3g}: "
        + "; ".join(ax.get_title().replace("\n", ", ") for ax in axes[0])
    )
    return picture


def draw_path(
    gradients: Numbers,
    mean: Numbers,
    consensus: Numbers,
    limits: tuple[float, float] | None = None,
) -> style.Picture:
    """Draw the weight over the steps by both rules, and the optimum of each example.

    Args:
        gradients: (N,), one an example, at w = 0: the optimum of example i is at -g_i.
        mean: (T + 1,), the weight before each step and after the last, by the mean.
        consensus: the same by consensus.
        limits: the lowest and highest weight shown; None picks those that hold everything.
    """
    optima = -as_numbers(gradients)
    paths = [as_numbers(mean), as_numbers(consensus)]
    everything = np.concatenate([optima, *paths])
    if limits is None:
        spare = 0.06 * max(np.ptp(everything), _SMALL)
        limits = everything.min() - spare, everything.max() + spare

    picture, ax = style.new_figure(size=(9.0, 4.5))
    for optimum in optima:
        ax.axhline(optimum, color=style.NEUTRAL, linewidth=1, linestyle=(0, (1, 3)))
    for height, name in _named(optima, 0.07 * (limits[1] - limits[0])):
        ax.text(
            1.01,
            height,
            name,
            transform=ax.get_yaxis_transform(),
            fontsize=style.TEXT_SIZE,
            color=style.NEUTRAL,
            va="center",
        )
    for path, (name, look) in zip(paths, LOOKS.items(), strict=True):
        ax.plot(path, label=name, **look)
    ax.set(xlim=(0, max(map(len, paths)) - 1), ylim=limits)
    style.hold_still(picture, left=0.1, right=0.79, bottom=0.14, top=0.92)
    style.label(ax, "The path of the weight", x="step", y="weight w")
    style.add_legend(ax, loc="upper right")
    ends = [path[-1] for path in paths]
    picture.alt = f"The weight ends at {ends[0]:.3f} by the mean, at {ends[1]:.3f} by consensus"
    return picture


def as_numbers(numbers: Numbers) -> np.ndarray:
    """Return the numbers as (N,) float64; raises ValueError for another shape, or none at all."""
    values = torch.as_tensor(numbers, dtype=torch.float64).detach().cpu().numpy()
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"one weight has a list of numbers, not the shape {values.shape}")
    return values


def named_rules(consensus: Rule | None) -> dict[str, Rule]:
    """Return {name: rule}: the mean, and what is to be drawn as consensus unless it is None."""
    return {"mean": Mean()} | ({} if consensus is None else {"consensus": consensus})


def update_of(rule: Rule, gradients: np.ndarray) -> float:
    """Return the rule's update for the gradients (N,) of one weight."""
    return rule.reduce(torch.from_numpy(gradients)).item()


def _limit(values: Sequence[float] | np.ndarray) -> float:
    """The least of ..., 1, 1.5, 2, 3, 4, 6, ... that holds all values, with some headroom.

    Coarse steps, so that an axis stands still while a value moves a little.
    """
    largest = max(float(np.abs(values).max()), _SMALL)
    power = 2.0 ** np.floor(np.log2(largest))
    return _HEADROOM * next(
        power * step for step in (1, 1.5, 2) if largest <= power * step * (1 + _SMALL)
    )


def signed(value: float) -> str:
    """Return the value as it stands in a picture: three digits and its sign, or 0."""
    return f"{value:+.3g}".replace("-", "−") if abs(value) > _SMALL else "0"


def verdict(before: float, after: float) -> str:
    """Return what a change of a loss is: "better", "worse" or "as before"."""
    if abs(after - before) <= _SMALL * max(before, 1.0):
        return "as before"
    return "worse" if after > before else "better"


def draw_place(ax: Axes, x: float, y: float, name: str, **kw: Any) -> None:
    """Draw the marker of a place: "before" a step, or after that of the "mean" or "consensus"."""
    markers = {
        "before": {"marker": _STAYS, "color": style.NEUTRAL, "markersize": _MARKER_SIZE},
        "mean": {"marker": "o", "color": style.MEAN["color"], "markersize": _MARKER_SIZE},
        # Hollow, so that a covered point shows through.
        "consensus": {
            "marker": "s",
            "color": style.CONSENSUS["color"],
            "markersize": _MARKER_SIZE + 4,
            "fillstyle": "none",
            "markeredgewidth": 2.5,
        },
    }
    ax.plot(x, y, linestyle="", zorder=3, **markers[name], **kw)


def draw_arrow(
    ax: Axes, start: float, end: float, height: float, look: Mapping[str, Any], width: float
) -> None:
    """Draw an arrow on an axis `width` wide, or a dot where it would have no length."""
    if abs(end - start) <= _SMALL:
        ax.plot(start, height, _STAYS, color=look["color"], markersize=_MARKER_SIZE)
        return
    # A caret has its tip at the point; the line ends inside it.
    forward = np.sign(end - start)
    head = min(abs(end - start), 0.01 * width)
    ax.plot([start, end - forward * head], [height, height], **look)
    ax.plot(
        end,
        height,
        marker=CARETRIGHT if forward > 0 else CARETLEFT,
        color=look["color"],
        markersize=_MARKER_SIZE,
    )


def _named(optima: np.ndarray, nearest: float) -> list[tuple[float, str]]:
    """(height, text) for each optimum; those nearer than `nearest` share one text."""
    groups: list[list[int]] = []
    for i in np.argsort(optima):
        if groups and optima[i] - optima[groups[-1][0]] < nearest:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [
        (
            float(optima[group].mean()),
            f"optimum of {', '.join(str(i + 1) for i in sorted(group))}",
        )
        for group in groups
    ]
