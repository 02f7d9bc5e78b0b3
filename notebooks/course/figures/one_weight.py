"""Figures of one weight: what its examples ask for, what two rules do, who gains, and the path.

The examples are those of the lesson: L_i(w) = 1/2 (w + g_i)^2, so that g_i is the gradient of
example i at w = 0 and -g_i is its optimum.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.markers import CARETLEFT, CARETRIGHT
from torch import Tensor

import consensus_lib as cl
from course.figures import style

VETO, ABSTAIN = cl.Consensus(), cl.Consensus(zeros="abstain")
LOOKS = {"mean": style.MEAN, "consensus": style.CONSENSUS}
_STAYS = "D"
_HEADROOM = 1.1
_MARKER_SIZE = 10
_SMALL = 1e-9

Numbers = Sequence[float] | Tensor


def draw_votes(gradients: Numbers, consensus: cl.Rule | None = VETO) -> style.Picture:
    """Draw an arrow an example from w = 0 towards less loss, and below them both updates.

    An arrow runs to -g_i, or to -update: the step at learning rate 1. A vote or an update of 0
    is a dot.

    Args:
        gradients: (N,), one an example, at w = 0.
        consensus: the rule drawn as consensus, named "abstain" where its zeros do; None draws the
            mean alone.
    """
    g = as_numbers(gradients)
    rules = named_rules(consensus)
    updates = [update_of(rule, g) for rule in rules.values()]
    rows = [f"example {i}: g = {signed(value)}" for i, value in enumerate(g, start=1)]
    named = ["mean", "abstain" if consensus == ABSTAIN else "consensus"]
    rows += [f"{name} = {signed(u)}" for name, u in zip(named, updates, strict=False)]
    heights = [*range(len(g)), *(len(g) + 0.5 + i for i in range(len(rules)))]
    looks = [dict(style.MEAN, color=style.NEUTRAL)] * len(g) + [LOOKS[name] for name in rules]
    limit = _limit([*g, *updates])

    picture, ax = style.new_figure(size=(9.0, 4.0))
    ax.axvline(0, color=style.NEUTRAL, linewidth=1)
    ax.axhline(len(g) - 0.25, color=style.PALE, linewidth=2)
    for value, height, look in zip((*g, *updates), heights, looks, strict=True):
        draw_arrow(ax, -value, height, look, 2 * limit)
    ax.set(xlim=(-limit, limit), ylim=(heights[-1] + 0.6, -0.6))
    ax.set_yticks(heights, rows)
    ax.tick_params(axis="y", length=0)
    for text, look in zip(ax.get_yticklabels()[len(g) :], looks[len(g) :], strict=True):
        text.set(color=look["color"], fontweight="bold")
    style.hold_still(picture, left=0.26, right=0.97, bottom=0.15, top=0.91)
    style.label(ax, "Arrows point towards less loss, against the gradient", x="weight w")
    picture.alt = f"Votes and updates at w = 0: {'; '.join(rows)}"
    return picture


def draw_losses(
    gradients: Numbers, learning_rate: float = 1.0, consensus: cl.Rule | None = VETO
) -> style.Picture:
    """Draw each example's loss over the weight, with its value before and after one step.

    The step starts at w = 0; the title of each example says for whom it got better or worse.

    Args:
        gradients: (N,), one an example, at w = 0; up to four stay readable.
        learning_rate: the step is to -learning_rate x update.
        consensus: the rule drawn as consensus; None draws the mean alone.
    """
    g = as_numbers(gradients)
    rules = named_rules(consensus)
    ends = [-learning_rate * update_of(rule, g) for rule in rules.values()]
    places = np.array([0.0, *ends])
    losses = 0.5 * (places + g[:, None]) ** 2
    limit = _limit([*ends, *-g])
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
    told = []
    for i, ax in enumerate(axes[0]):
        ax.plot(w, 0.5 * (w + g[i]) ** 2, color=style.NEUTRAL, linewidth=1.5)
        for (name, text), place, loss in zip(names.items(), places, losses[i], strict=True):
            draw_place(ax, place, loss, name, label=text, clip_on=False)
        ax.set(xlim=(-limit, limit), ylim=(0, _limit(losses.flatten())))
        after = zip(rules, losses[i, 1:], strict=True)
        lines = [f"example {i + 1}", *(f"{n}: {verdict(losses[i, 0], x)}" for n, x in after)]
        style.label(ax, "\n".join(lines), x="weight w", y="" if i else "loss")
        told.append(", ".join(lines))
    style.hold_still(picture, left=0.1, right=0.98, bottom=0.22, top=0.75, wspace=0.08)
    handles = axes[0, 0].get_legend_handles_labels()[0]
    style.legend_below(picture, handles, loc="lower center", handlelength=2)
    picture.alt = (
        f"Losses before and after a step of learning rate {learning_rate:.3g}: {'; '.join(told)}"
    )
    return picture


def draw_path(gradients: Numbers, mean: Numbers, consensus: Numbers) -> style.Picture:
    """Draw the weight over the steps by both rules, and the optimum of each example.

    Args:
        gradients: (N,), one an example, at w = 0: the optimum of example i is at -g_i.
        mean: (T + 1,), the weight before each step and after the last, by the mean.
        consensus: the same by consensus.
    """
    optima = -as_numbers(gradients)
    paths = [as_numbers(mean), as_numbers(consensus)]
    everything = np.concatenate([optima, *paths])
    height = max(np.ptp(everything), _SMALL)

    picture, ax = style.new_figure(size=(9.0, 4.5))
    for place, name in _named(optima, 0.08 * height):
        ax.axhline(place, color=style.NEUTRAL, linewidth=1, linestyle=(0, (1, 3)))
        look = {"fontsize": style.TEXT_SIZE, "color": style.NEUTRAL, "va": "center"}
        ax.text(1.01, place, name, transform=ax.get_yaxis_transform(), **look)
    for path, (name, look) in zip(paths, LOOKS.items(), strict=True):
        ax.plot(path, label=name, **look)
    limits = everything.min() - 0.06 * height, everything.max() + 0.06 * height
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


def named_rules(consensus: cl.Rule | None) -> dict[str, cl.Rule]:
    """Return {name: rule}: the mean, and what is to be drawn as consensus unless it is None."""
    return {"mean": cl.Mean()} | ({} if consensus is None else {"consensus": consensus})


def update_of(rule: cl.Rule, gradients: np.ndarray) -> float:
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
    look = {"color": LOOKS[name]["color"] if name in LOOKS else style.NEUTRAL, "linestyle": ""}
    look |= {"marker": {"mean": "o", "consensus": "s"}.get(name, _STAYS), "zorder": 3}
    if name == "consensus":  # hollow, so that a covered point shows through
        look |= {"fillstyle": "none", "markeredgewidth": 2.5}
    ax.plot(x, y, markersize=_MARKER_SIZE + 4 * (name == "consensus"), **look, **kw)


def draw_arrow(ax: Axes, end: float, height: float, look: style.Look, width: float) -> None:
    """Draw an arrow from 0 on an axis `width` wide, or a dot where it would have no length."""
    point = {"color": look["color"], "markersize": _MARKER_SIZE}
    if abs(end) <= _SMALL:
        ax.plot(0, height, _STAYS, **point)
        return
    # A caret has its tip at the point; the line ends inside it.
    head = np.sign(end) * min(abs(end), 0.01 * width)
    ax.plot([0, end - head], [height, height], **look)
    ax.plot(end, height, marker=CARETRIGHT if end > 0 else CARETLEFT, **point)


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
