"""Figures of notebook 05: weights, environments, spirals with signatures, a grid of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from course.figures import style
from course.figures.curves import draw_seeds
from course.figures.style import looks_of as looks  # noqa: F401 - for the panel of the lesson
from course.toys.spirals import Data, Outcome, accuracy
from course.toys.spirals_study import choose

__all__ = [
    "CHANCE",
    "draw_accuracies",
    "draw_answers",
    "draw_environments",
    "draw_grid",
    "draw_many_environments",
    "draw_weights",
    "show_accuracies",
    "show_answers",
]

CHANCE = 0.5
_LABELS = ("#56B4E9", "#E69F00")
_MARKS = ("o", "^")
_SIDE, _REACH = 61, 2.6


def draw_weights(weights: Mapping[str, Tensor], names: Sequence[str]) -> style.Picture:
    """Draw what each rule learned, a group of bars for each weight, a bar for each rule.

    Args:
        weights: {rule: (P,)}, up to four.
        names: of the P weights.
    """
    picture, ax = style.new_figure(size=(9.0, 3.8))
    width = 0.8 / len(weights)
    hatches = ("", "//", "..", "xx")
    told = []
    lines = style.looks_of(weights).items()
    for i, ((rule, line), hatch) in enumerate(zip(lines, hatches, strict=False)):
        values = weights[rule].tolist()
        places = [place + (i + 0.5) * width - 0.4 for place in range(len(values))]
        look = {"color": line["color"], "hatch": hatch, "edgecolor": "white"}
        ax.bar(places, values, width, label=rule, **look)
        told.append(f"{rule}: {', '.join(f'{value:.2f}' for value in values)}")
    ax.axhline(0, color=style.NEUTRAL, linewidth=1)
    ax.set_xticks(range(len(names)), names)
    ax.tick_params(axis="x", length=0)
    style.label(ax, "What each rule learned", y="weight")
    style.add_legend(ax)
    picture.alt = f"Weights after training. {'; '.join(told)}"
    return picture


def draw_many_environments(
    counts: Sequence[int], losses: Mapping[str, Tensor], shortcuts: int, least: float
) -> style.Picture:
    """Draw the test loss over the number of environments, with the spread over worlds.

    Args:
        counts: of environments, C of them.
        losses: {rule: (C, W)}, test losses in W worlds; lines are medians, bands reach from the
            tenth to the ninetieth percentile.
        shortcuts: d; the right panel shows how many of them are alike everywhere by chance.
        least: the loss of the best use of the invariant feature.
    """
    picture, (left, right) = style.new_figure(
        1, 2, size=(11.0, 4.2), gridspec_kw={"width_ratios": (2, 1)}
    )
    for rule, line in style.looks_of(losses).items():
        low, middle, high = np.nanquantile(losses[rule].numpy(), (0.1, 0.5, 0.9), axis=1)
        left.fill_between(counts, low, high, color=line["color"], alpha=0.18, linewidth=0)
        left.plot(counts, middle, label=rule, **line)
    style.mark_level(left, 0.5, "always predict 0")
    # below its line, for on the line lies the curve of consensus
    style.mark_level(left, least, "best use of the invariant feature", below=True)
    left.set_ylim(0.15, None)
    left.set_xticks(counts)
    style.label(left, "median and spread over worlds", "environments", "test loss")
    style.add_legend(left, loc="upper right")
    expected = [shortcuts * 2.0 ** (1 - count) for count in counts]
    right.plot(counts, expected, color=style.NEUTRAL, linewidth=2.5, marker="o")
    right.set_yscale("log")
    right.set_xticks(counts[::2])
    style.label(right, "shortcuts alike everywhere", "environments", "expected number")
    picture.alt = f"Test loss of {', '.join(losses)} for {counts[0]} to {counts[-1]} environments"
    return picture


def draw_environments(data: Data, environments: Sequence[int] = (0, 1)) -> style.Picture:
    """Draw the points of an environment beside its signature, and below them the test's.

    Args:
        data: as drawn.
        environments: numbers of training environments, a row each.
    """
    rows = [(f"environment {e + 1}", *(part[e] for part in data.train)) for e in environments]
    rows.append(("test", *(part[0] for part in data.test)))
    picture, axes = style.new_figure(
        2, len(rows), size=(11.0, 5.4), gridspec_kw={"height_ratios": (3, 1.4)}
    )
    for column, (name, inputs, labels) in enumerate(rows):
        few = inputs[:150], labels[:150]
        _scatter(axes[0, column], *few)
        style.label(axes[0, column], name)
        both = [inputs[labels == label][:2, 2:] for label in (0, 1)]
        ax = axes[1, column]
        shown = ax.imshow(torch.cat(both).numpy(), cmap="PuOr", vmin=-2.5, vmax=2.5, aspect="auto")
        ax.set_yticks([0.5, 2.5], ["● signatures", "▲ signatures"] if column == 0 else ["", ""])
        ax.axhline(1.5, color="white", linewidth=3)
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    _add_key(picture, axes[1], shown, "its numbers", {-2: "-2", 0: "0", 2: "2"})
    picture.suptitle("The same spirals, and a signature that gives the label away", fontsize=15)
    picture.alt = f"Spirals and signatures of {', '.join(name for name, *_ in rows)}"
    return picture


def _add_key(
    picture: style.Picture,
    axes: Sequence[Axes],
    shown: AxesImage,
    name: str,
    ticks: Mapping[float, str],
) -> None:
    bar = picture.colorbar(shown, ax=list(axes), aspect=12, pad=0.01)
    bar.ax.set_ylim(min(ticks), max(ticks))
    bar.set_ticks(list(ticks), labels=list(ticks.values()), fontsize=style.TEXT_SIZE - 1)
    bar.set_label(name, fontsize=style.TEXT_SIZE)
    bar.outline.set_visible(False)


def _scatter(ax: Axes, inputs: Tensor, labels: Tensor) -> None:
    for label, (color, mark) in enumerate(zip(_LABELS, _MARKS, strict=True)):
        x, y = inputs[labels == label][:, :2].T.numpy()
        ax.scatter(x, y, s=22, color=color, marker=mark, edgecolor="black", linewidth=0.4)
    ax.set(aspect="equal", xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH))
    ax.set_xticks([])
    ax.set_yticks([])


def draw_accuracies(runs: Mapping[str, Sequence[Outcome]], title: str = "") -> style.Picture:
    """Draw the accuracy over steps: training environments left, the test environment right.

    Args:
        runs: {label: outcomes of several seeds}; thin lines are seeds, thick ones their median.
        title: above both.
    """
    picture, axes = style.new_figure(1, 2, size=(10.0, 4.0), title=title, sharey=True)
    names = ("training environments", "test environment")
    for column, (ax, name) in enumerate(zip(axes, names, strict=True), start=1):
        for label, line in style.looks_of(runs).items():
            seen = [[look[column] for look in run.seen] for run in runs[label]]
            draw_seeds(ax, [look[0] for look in runs[label][0].seen], seen, line, label)
        _finish(ax, name)
    axes[0].set_ylabel("accuracy", fontsize=style.TEXT_SIZE)
    style.add_legend(axes[1], loc="center right")
    finals = (
        f"{label}: {', '.join(f'{run.test:.2f}' for run in outcomes)}"
        for label, outcomes in runs.items()
    )
    picture.alt = f"Accuracy over steps; on the test environment at the end: {'; '.join(finals)}"
    return picture


def show_accuracies(ax: Axes, seen: Mapping[str, Sequence[tuple[int, float, float]]]) -> None:
    """Draw training (thin) and test accuracy (thick) of some runs, {label: (step, train, test)}."""
    for label, line in style.looks_of(seen).items():
        if seen[label]:
            steps, train, test = zip(*seen[label], strict=True)
            ax.plot(steps, train, **{**line, "linewidth": 1, "alpha": 0.7})
            ax.plot(steps, test, label=label, **line)
    _finish(ax, "accuracy: test thick, training thin")


def _finish(ax: Axes, name: str) -> None:
    ax.axhline(CHANCE, **style.COINS)
    ax.set_ylim(0.28, 1.03)
    style.label(ax, name, "step")


def draw_answers(networks: Mapping[str, nn.Module], data: Data) -> style.Picture:
    """Draw what networks answer on the plane when the signature tells nothing.

    Args:
        networks: {label: network}, a panel each.
        data: whose test environment's points are shown on top.
    """
    picture, axes = style.new_figure(
        1, len(networks), size=(3.9 * len(networks), 4.2), squeeze=False
    )
    told = []
    for ax, (label, network) in zip(axes[0], networks.items(), strict=True):
        show_answers(ax, network, data)
        found = accuracy(network, *data.test)
        style.label(ax, f"{label}, test accuracy {found:.2f}")
        told.append(f"{label}: {found:.2f}")
    _add_key(
        picture, axes[0], axes[0, 0].images[0], "answers", {0: "all ●", 0.5: "half", 1: "all ▲"}
    )
    picture.suptitle("The answer on the plane, averaged over signatures", fontsize=15)
    picture.alt = f"Answers on the plane. Test accuracy of {'; '.join(told)}"
    return picture


@torch.no_grad()
def show_answers(ax: Axes, network: nn.Module | None, data: Data, points: int = 200) -> None:
    """Draw test points, and below them the share of 16 random signatures with the answer 1.

    Args:
        ax: where.
        network: None draws the points alone.
        data: whose test environment is meant.
        points: how many.
    """
    inputs, labels = (part[0, :points] for part in data.test)
    if network is not None:
        side = torch.linspace(-_REACH, _REACH, _SIDE)
        y, x = torch.meshgrid(side, side, indexing="ij")
        signatures = data.test[0][0, :16, 2:]
        places = torch.stack([x, y], dim=-1).reshape(-1, 1, 2).expand(-1, 16, 2)
        mixed = torch.cat([places, signatures.expand(len(places), -1, -1)], dim=-1)
        share = (network(mixed).squeeze(-1) > 0).double().mean(dim=1).reshape(_SIDE, _SIDE).numpy()
        extent = (-_REACH, _REACH, -_REACH, _REACH)
        ax.imshow(share, origin="lower", extent=extent, cmap="PuOr_r", vmin=-0.2, vmax=1.2)
    _scatter(ax, inputs, labels)


def draw_grid(runs: pd.DataFrame) -> style.Picture:
    """Draw the mean held-out accuracy of every setting, a panel a rule; a frame marks the choice.

    Args:
        runs: of the stored study.
    """
    chosen = choose(runs)
    means = runs.pivot_table("held_out", ["rule", "weight_decay"], "learning_rate")
    picture, axes = style.new_figure(
        1, len(chosen), size=(2.5 * len(chosen) + 0.9, 3.4), sharey=True, squeeze=False
    )
    for ax, (rule, (rate, decay)) in zip(axes[0], chosen.items(), strict=True):
        field = means.loc[rule]
        ax.imshow(field, cmap="Greys", vmin=0.3, vmax=1.1, aspect="auto", origin="lower")
        for (row, column), value in np.ndenumerate(field):
            look = {"color": "white" if value > 0.75 else "black", "fontsize": style.TEXT_SIZE}
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", **look)
        corner = field.columns.get_loc(rate) - 0.5, field.index.get_loc(decay) - 0.5
        frame = {"edgecolor": style.CONSENSUS["color"], "linewidth": 4, "fill": False}
        ax.add_patch(Rectangle(corner, 1, 1, clip_on=False, zorder=5, **frame))
        ax.set_xticks(range(field.shape[1]), [f"{rate:g}" for rate in field.columns])
        ax.set_yticks(range(field.shape[0]), [f"{decay:g}" for decay in field.index])
        ax.tick_params(length=0)
        style.label(ax, rule, "learning rate")
    axes[0, 0].set_ylabel("weight decay", fontsize=style.TEXT_SIZE)
    picture.suptitle("Accuracy on held-out environments, mean over seeds", fontsize=15)
    picture.alt = "Chosen learning rate and weight decay by held-out accuracy: " + "; ".join(
        f"{rule}: {rate:g} and {decay:g}" for rule, (rate, decay) in chosen.items()
    )
    return picture
