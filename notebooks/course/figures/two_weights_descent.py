"""One descent by one or two rules: its path, the examples' losses on it, and who stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from course.figures import style
from course.figures.two_weights import draw_map, explain_zeros, mark_zeros
from course.toys.basins import NOWHERE, grid_of_starts, which_zero
from course.toys.landscapes import Landscape
from course.toys.paths import Paths

__all__ = ["MAP", "Descent", "draw_descent", "where_it_ends"]

Box = tuple[float, float, float, float]

# Left, bottom, width and height in shares of the picture. The map is square. With one rule the
# lower pair stays empty, so that nothing jumps when a second one is chosen.
MAP: Box = (0.1, 0.23, 0.51, 0.68)
_PAIRS: Sequence[tuple[Box, Box]] = (
    ((0.73, 0.70, 0.23, 0.21), (0.73, 0.605, 0.23, 0.075)),
    ((0.73, 0.325, 0.23, 0.21), (0.73, 0.23, 0.23, 0.075)),
)
_SIZE = (6.0, 4.5)
_DASHES = ("-", (0, (1, 1)))  # of the examples
_ROWS = (1, 0)  # of weights a and b


def where_it_ends(landscape: Landscape, end: Tensor) -> str:
    """In few words where a path ended, (2,): the kind of zero point, or the loss that is left."""
    zero = int(which_zero(landscape, end))
    if zero != NOWHERE:
        return landscape.zero_points[zero].kind
    loss = landscape.losses(end).mean()
    return f"loss {loss:.2f}" if loss >= 0.01 else f"loss {loss:.0e}"


def draw_descent(landscape: Landscape, runs: Mapping[str, Paths]) -> Descent:
    """Draw the first path of one or two rules over the pooled loss.

    Beside the map stand, for each rule, the loss of both examples at each step, and below it
    bars for the steps at which weight a and weight b get an update: a gap is a weight that the
    rule leaves alone.

    Args:
        landscape: where; of two examples.
        runs: {rule: its paths}, all of the same number of steps; "mean" and "consensus" get
            their colours.
    """
    picture = Descent(landscape, list(runs), len(next(iter(runs.values())).updates))
    picture.show(runs)
    return picture


class Descent(style.LivePicture):
    """What `draw_descent` draws, able to show other runs of the same rules, of up to `steps` steps.

    Axes, ticks and map are drawn once and kept. This makes every picture but the first several
    times faster, fast enough to follow a hand.
    """

    def __init__(self, landscape: Landscape, rules: Sequence[str], steps: int) -> None:
        super().__init__(_SIZE)
        self._landscape = landscape
        ax = self.add_plot(MAP)
        draw_map(ax, landscape)
        mark_zeros(ax, landscape)
        style.label(ax, "", "weight a", "weight b")
        self._shown = {
            rule: _Shown(ax, self.add_plot(losses), self.add_plot(moves), style.look_of(rule))
            for rule, (losses, moves) in zip(rules, _PAIRS, strict=False)
        }
        top = 1.05 * landscape.losses(grid_of_starts(landscape, 25)).max().item()
        for shown in self._shown.values():
            shown.losses[0].axes.set(xlim=(0, steps), ylim=(0, top))
            shown.moves[0].axes.set(xlim=(0, steps))
            shown.moves[0].axes.tick_params(labelbottom=False)
        shown.moves[0].axes.tick_params(labelbottom=True)
        style.label(shown.moves[0].axes, x="step")
        (self._start,) = ax.plot([], [], "o", color="white", mec="black", ms=11)
        self.moving += [*(a for shown in self._shown.values() for a in shown.artists), self._start]
        explain_zeros(self, landscape, [_key(f"example {i + 1}", d) for i, d in enumerate(_DASHES)])

    def show(self, runs: Mapping[str, Paths]) -> None:
        """Show the first path of each rule in place of the last ones."""
        ends = {}
        for rule, paths in runs.items():
            ends[rule] = where_it_ends(self._landscape, paths.ends[0])
            self._shown[rule].put(paths, f"{rule}: {ends[rule]}")
        start = paths.weights[0, 0].tolist()
        self._start.set_data(*([x] for x in start))
        words = (f"{rule} ends at {end}" for rule, end in ends.items())
        self.alt = f"Descent from ({start[0]:.2f}, {start[1]:.2f}): {'; '.join(words)}"


class _Shown:
    """The moving parts of one rule."""

    def __init__(self, where: Axes, losses: Axes, moves: Axes, look: Mapping[str, Any]) -> None:
        self.path = where.plot([], [], **look)[0]
        self.end = where.plot([], [], "s", color=look["color"], markersize=7)[0]
        self.losses = [losses.plot([], [], **{**look, "linestyle": d})[0] for d in _DASHES]
        bar = {"color": look["color"], "linewidth": 8, "solid_capstyle": "butt"}
        self.moves = [moves.plot([], [], **bar)[0] for _ in _ROWS]
        style.label(losses, " ", y="loss")
        losses.title.set(color=look["color"], x=1, ha="right")
        losses.tick_params(labelbottom=False)
        moves.set(ylim=(-0.6, 1.6))
        moves.set_yticks(_ROWS, ["a", "b"])
        self.artists = [*self.losses, *self.moves, self.path, self.end, losses.title]

    def put(self, paths: Paths, title: str) -> None:
        path = paths.weights[:, 0].T.numpy()
        self.path.set_data(*path)
        self.end.set_data(*path[:, -1:])
        self.losses[0].axes.title.set_text(title)
        for line, loss in zip(self.losses, paths.losses[:, 0].T.numpy(), strict=True):
            line.set_data(np.arange(len(loss)), loss)
        # Each step is a piece of its own, from t to t + 1; nan makes the gap.
        steps = np.arange(len(paths.updates))
        for line, row, masked in zip(self.moves, _ROWS, paths.masked[:, 0].T.numpy(), strict=True):
            heights = np.where(masked, np.nan, row)
            line.set_data(np.stack([steps, steps + 1], axis=1).ravel(), heights.repeat(2))


def _key(name: str, dashes: Any) -> Line2D:
    return Line2D([], [], color=style.NEUTRAL, linestyle=dashes, linewidth=2.5, label=name)
