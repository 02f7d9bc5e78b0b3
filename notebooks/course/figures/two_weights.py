"""Figures of two weights: the pooled loss, each example's own, paths, basins, and a view in 3D."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LightSource, to_rgb
from matplotlib.lines import Line2D
from torch import Tensor

from course.figures import style
from course.toys.basins import count_ends, grid_of_starts, which_zero
from course.toys.landscapes import Landscape, Waves
from course.toys.paths import Paths

__all__ = [
    "BASINS_SIZE",
    "draw_basins",
    "draw_examples",
    "draw_map",
    "draw_paths",
    "draw_surface",
    "draw_waves",
    "explain_zeros",
    "mark_zeros",
]

BASINS_SIZE = (6.0, 3.9)

_KINDS = {"shared": ("#009E73", "*", 17), "crossing": ("#CC79A7", "X", 11)}
_NOWHERE_COLOR = "#BDBDBD"
_LOW, _HIGH = 1.0, 0.62  # grey levels of the lowest and the highest loss
_BANDS = 12
_PIXELS, _MESH = 240, 61
_START = {"marker": "o", "markersize": 4, "markerfacecolor": "white", "linestyle": ""}
_END = {"marker": "s", "markersize": 4, "linestyle": ""}


def draw_paths(landscape: Landscape, runs: Mapping[str, Paths]) -> style.Picture:
    """Draw the paths of each rule over the pooled loss, from many starts, one map a rule.

    Args:
        landscape: where.
        runs: {rule: its paths}; "mean" and "consensus" get their colours.
    """
    picture, axes = style.new_figure(
        1, len(runs), size=(9.0, 5.2), squeeze=False, sharex=True, sharey=True
    )
    for ax, (rule, paths) in zip(axes[0], runs.items(), strict=True):
        draw_map(ax, landscape)
        for path in paths.weights.movedim(1, 0).numpy():
            ax.plot(*path.T, **{**style.look_of(rule), "linewidth": 1.3, "linestyle": "-"})
        ax.plot(*paths.weights[0].T.numpy(), color=style.look_of(rule)["color"], **_START)
        ax.plot(*paths.ends.T.numpy(), color=style.look_of(rule)["color"], **_END)
        mark_zeros(ax, landscape)
        style.label(ax, rule, "weight a", "" if ax.get_subplotspec().colspan.start else "weight b")
    explain_zeros(picture, landscape)
    picture.alt = f"Paths over the pooled loss, from many starts: {', '.join(runs)}"
    return picture


def draw_examples(landscape: Landscape) -> style.Picture:
    """Draw each example's own loss, and beside them the pooled one, with its zero points."""
    number = landscape.examples
    picture, axes = style.new_figure(1, number + 1, size=(9.0, 3.9), sharex=True, sharey=True)
    for example, ax in enumerate([*axes[:-1], axes[-1]]):
        draw_map(ax, landscape, example if example < number else None)
        mark_zeros(ax, landscape, scale=0.8)
        name = f"example {example + 1} alone" if example < number else "pooled"
        style.label(ax, name, "weight a", "" if example else "weight b")
    explain_zeros(picture, landscape)
    picture.alt = "Maps of the loss of each example alone and of all: darker is higher"
    return picture


def draw_basins(landscape: Landscape, ends: Mapping[str, Tensor]) -> style.Picture:
    """Draw for each rule in which zero point each start ends.

    Args:
        landscape: where.
        ends: {rule: (size, size, 2)}, where the paths from `grid_of_starts` ended.
    """
    picture, axes = style.new_figure(1, len(ends), size=BASINS_SIZE, squeeze=False, sharey=True)
    for ax, (rule, where) in zip(axes[0], ends.items(), strict=True):
        zeros = which_zero(landscape, where).numpy()
        colors = [_KINDS[point.kind][0] for point in landscape.zero_points]
        palette = np.array([to_rgb(color) for color in [*colors, _NOWHERE_COLOR]])
        ax.imshow(palette[zeros], extent=_extent(landscape), origin="lower")
        mark_zeros(ax, landscape, edge="black")
        style.label(ax, rule, "weight a", "" if ax.get_subplotspec().colspan.start else "weight b")
    explain_zeros(picture, landscape, [_mark("nowhere", _NOWHERE_COLOR, "s", 11)])
    picture.alt = "Where each start ends: " + "; ".join(
        f"{rule}: {', '.join(f'{n} {kind}' for kind, n in count_ends(landscape, where).items())}"
        for rule, where in ends.items()
    )
    return picture


def draw_surface(landscape: Landscape, runs: Mapping[str, Paths]) -> style.Picture:
    """Draw the pooled loss as a surface in 3D, with the paths of each rule on it.

    Args:
        landscape: where.
        runs: {rule: its paths}, drawn as far as they lie in the drawn part.
    """
    picture = style.Picture(figsize=(9.0, 6.0), dpi=style.DPI, facecolor="white")
    ax = picture.add_axes((0.02, 0.08, 0.94, 0.9), projection="3d", computed_zorder=False)
    mesh = grid_of_starts(landscape, _MESH)
    height = landscape.losses(mesh).mean(dim=-1).numpy()
    a, b = mesh.unbind(dim=-1)
    look = {"shade": False, "linewidth": 0, "antialiased": False, "rcount": _MESH, "ccount": _MESH}
    ax.plot_surface(a.numpy(), b.numpy(), height, facecolors=_lit(height), **look)
    lift = 0.02 * np.ptp(height)
    for rule, paths in runs.items():
        losses = paths.losses.mean(dim=-1)
        for path, loss in zip(paths.weights.movedim(1, 0), losses.T, strict=True):
            ax.plot(*path.T.numpy(), loss.numpy() + lift, **style.look_of(rule), zorder=3)
            ax.plot(*path[0].tolist(), loss[0] + lift, **{**_START, "markersize": 8}, color="black")
    for point in filter(landscape.inside, landscape.zero_points):
        color, marker, size = _KINDS[point.kind]
        ax.plot(point.a, point.b, lift, marker, color=color, markersize=size, mec="black", zorder=4)
    ax.view_init(elev=48, azim=-60)  # degrees: over the ground, and around the vertical
    ax.set_box_aspect((1, 1, 0.45))
    ax.tick_params(labelsize=style.TEXT_SIZE - 1)
    ax.set_xlabel("weight a", fontsize=style.TEXT_SIZE, labelpad=8)
    ax.set_ylabel("weight b", fontsize=style.TEXT_SIZE, labelpad=8)
    ax.set_zlabel("pooled loss", fontsize=style.TEXT_SIZE, labelpad=6)
    explain_zeros(
        picture, landscape, [Line2D([], [], label=name, **style.look_of(name)) for name in runs]
    )
    picture.suptitle("The pooled loss, and paths on it", fontsize=style.TITLE_SIZE)
    picture.alt = f"The pooled loss as a surface, with the paths of {', '.join(runs)}"
    return picture


def draw_waves(
    landscape: Waves, waves: Mapping[str, tuple[float, float]], unseen: Sequence[float]
) -> style.Picture:
    """Draw waves y = sin(a x + b) with the points that they were fitted to, and unseen ones.

    Args:
        landscape: whose examples and true wave.
        waves: {name: (a, b)}, up to five.
        unseen: the x of further points of the true wave.
    """
    picture, ax = style.new_figure(size=(9.0, 4.2))
    x = np.linspace(-2.2, 2.2, 300)
    looks = [{"color": style.NEUTRAL, "linewidth": 3}, *style.OTHER_RULES]
    for (name, (a, b)), look in zip(waves.items(), looks, strict=False):
        ax.plot(x, np.sin(a * x + b), label=name, **look)
    a, b = landscape.truth
    given = landscape.inputs.flatten().unique().numpy()
    points = {"markersize": 11, "markeredgewidth": 2, "color": "black", "zorder": 4}
    ax.plot(given, np.sin(a * given + b), "o", label="given", **points)
    new = np.array(unseen)
    ax.plot(new, np.sin(a * new + b), "D", label="unseen", **points, markerfacecolor="white")
    ax.set(xlim=(x[0], x[-1]), ylim=(-1.15, 1.15))
    style.label(ax, "Waves through the given points", "x", "y")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=style.TEXT_SIZE, frameon=False)
    picture.alt = f"Waves through {len(given)} given points: {', '.join(waves)}"
    return picture


def draw_map(ax: Axes, landscape: Landscape, example: int | None = None) -> None:
    """Fill the axes with bands of equal loss, white at 0: of one example, or pooled (None)."""
    ax.imshow(_bands(landscape, example), extent=_extent(landscape), origin="lower")
    ax.set_autoscale_on(False)  # a path may leave the picture


def mark_zeros(ax: Axes, landscape: Landscape, scale: float = 1.0, edge: str = "white") -> None:
    """Mark the zero points of the drawn part by their kind; `scale` of the usual size."""
    for point in filter(landscape.inside, landscape.zero_points):
        color, marker, size = _KINDS[point.kind]
        look = {"color": color, "markersize": scale * size, "markeredgecolor": edge, "zorder": 4}
        ax.plot(point.a, point.b, marker, **look)


def explain_zeros(
    picture: style.Picture, landscape: Landscape, others: Sequence[Line2D] = ()
) -> None:
    """Add below all axes what the marks of this landscape's zero points mean, and `others`."""
    kinds = {point.kind for point in filter(landscape.inside, landscape.zero_points)}
    handles = [*(_mark(kind, *_KINDS[kind]) for kind in _KINDS if kind in kinds), *others]
    style.legend_below(picture, handles, handlelength=1.8, columnspacing=1.4)


def _mark(name: str, color: str, marker: str, size: float) -> Line2D:
    return Line2D([], [], color=color, marker=marker, markersize=size, linestyle="", label=name)


def _extent(landscape: Landscape) -> tuple[float, float, float, float]:
    (low_a, low_b), (high_a, high_b) = landscape.corners
    return low_a, high_a, low_b, high_b


@functools.lru_cache(maxsize=64)
def _bands(landscape: Landscape, example: int | None) -> np.ndarray:
    """An image (n, n, 3): a picture of bands is drawn faster than contours, and once only."""
    losses = landscape.losses(grid_of_starts(landscape, _PIXELS))
    loss = losses.mean(dim=-1) if example is None else losses[..., example]
    # Of the root, since near its lowest point a loss is a square.
    root = (loss / losses.max()).sqrt()
    band = (root * _BANDS).floor().clamp(max=_BANDS - 1) / (_BANDS - 1)
    grey = _LOW + (_HIGH - _LOW) * band
    return grey.unsqueeze(-1).expand(-1, -1, 3).numpy()


def _lit(height: np.ndarray) -> np.ndarray:
    """Grey (n, n, 3) of a surface in light from the north-west, pale enough for lines on it."""
    light = 0.45 + 0.55 * LightSource().hillshade(height)
    return np.repeat(light[..., None], 3, axis=-1)
