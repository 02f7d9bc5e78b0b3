"""The picture of the ARC lab: curves of all runs, and a prediction turning into its target."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from matplotlib.collections import QuadMesh
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from course.arc import Pair, Task
from course.figures import style
from course.figures.arc_runs import ArcRun
from course.figures.curves import medians
from course.figures.grids import draw_grid

__all__ = ["ArcPicture", "draw_lab"]

_SIZE = (5.6, 4.5)
_CURVES = {
    "loss": ("loss, nats per cell", (0.115, 0.565, 0.355, 0.24)),
    "consensus_ratio": ("consensus ratio", (0.605, 0.565, 0.355, 0.24)),
    "test_changed_cell_accuracy": ("changed test cells right", (0.115, 0.125, 0.355, 0.24)),
}
_GRIDS = (0.535, 0.105, 0.22, 0.27), (0.77, 0.105, 0.22, 0.27)
_LEAST, _MOST, _HIGHEST = 1e-4, 10.0, 1e4
_MARKERS = ("None", "o", "s", "^", "D", "v")
_LEGEND = {"loc": "upper left", "ncols": 2, "fontsize": style.TEXT_SIZE - 1, "frameon": False}
_LEGEND |= {"handlelength": 2.0, "columnspacing": 0.8, "borderaxespad": 0.2}
_LEGEND |= {"handletextpad": 0.5, "labelspacing": 0.05}


def draw_lab(
    task: Task, runs: Sequence[ArcRun], steps: int, before: style.Picture | None = None
) -> ArcPicture:
    """Draw training loss, consensus ratio, test accuracy, and the prediction beside its target.

    Args:
        task: its first test pair is shown, with the newest prediction among the runs on it.
        runs: in the order of the legend; those of several seeds have a thin line a seed and,
            once they have ended, a thick one for the median. They may be growing.
        steps: the step axes reach at least this far.
        before: a picture made here earlier. Where task and axes are the same it is drawn on,
            which takes a tenth of the time.
    """
    ended = [loss for run in runs if run.ended for record in run.records for loss in record.loss]
    # Axes follow the losses of ended runs, and only while none is growing: new axes are slow to
    # draw, and would jump. A loss that diverges leaves them at the top, so that other runs can
    # still be read.
    least = 10.0 ** math.floor(math.log10(max(min(ended, default=1.0), 1e-12)))
    most = 10.0 ** math.ceil(math.log10(max(ended, default=1.0)))
    steps = max([steps, *(len(record) for run in runs for record in run.records)])
    losses = min(least, _LEAST), min(max(most, _MOST), _HIGHEST)
    growing = any(not run.ended for run in runs)
    fits = isinstance(before, ArcPicture) and before.frame[:2] == (task, steps)
    if fits and (growing or before.frame[2] == losses):
        picture = before
    else:
        picture = ArcPicture(task, steps, losses)
    picture.show(runs)
    return picture


class ArcPicture(style.LivePicture):
    """A Picture of which the frame is drawn once; curves and prediction then change fast.

    Attributes:
        frame: the task, the steps and the range of losses that the axes were made for.
    """

    def __init__(self, task: Task, steps: int, losses: tuple[float, float]) -> None:
        super().__init__(_SIZE)
        self.frame = task, steps, losses
        self._task = task
        self._axes_of = {}
        for name, (title, place) in _CURVES.items():
            ax = self.add_plot(place, xlim=(0, steps), ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
            style.label(ax, title, "step")
            self._axes_of[name] = ax
        self._axes_of["loss"].set(yscale="log", ylim=losses)
        self._axes_of["loss"].yaxis.set_major_locator(LogLocator(numticks=5))
        self._prediction = self._add_grids(task.test[0])
        self.moving.append(self._prediction)

    def show(self, runs: Sequence[ArcRun]) -> None:
        """Show these runs instead of those before."""
        for artist in self.moving[1:]:  # all but the prediction
            artist.remove()
        del self.moving[1:]
        looks = [*_looks(runs)]
        for name, ax in self._axes_of.items():
            for run, look in zip(runs, looks, strict=True):
                for curve, change in _lines(run, name):
                    line = Line2D(range(len(curve)), curve, **look | change)
                    self.moving.append(ax.add_line(line))
        self._show_floors(sorted({r.floor[0] for run in runs for r in run.records if r.floor}))
        self._show_prediction([run for run in runs if run.task == self._task])
        if runs:
            samples = [Line2D([], [], **look) for look in looks]
            names = [textwrap.shorten(run.label, 25, placeholder="…") for run in runs]
            self.moving.append(self.legend(samples, names, **_LEGEND))

    def _add_grids(self, pair: Pair) -> QuadMesh:
        prediction, target = (self.add_axes(place) for place in _GRIDS)
        draw_grid(prediction, pair.input)
        style.label(prediction, "prediction")
        style.label(target, "target")
        if pair.output is None:
            target.axis("off")
            target.text(0.5, 0.5, "?", fontsize=40, ha="center", va="center")
        else:
            draw_grid(target, pair.output)
        (cells,) = prediction.collections
        return cells

    def _show_floors(self, floors: Sequence[float]) -> None:
        ax = self._axes_of["consensus_ratio"]
        for floor in floors:
            self.moving.append(ax.axhline(floor, **style.COINS))
        if floors:
            look = {"ha": "right", "fontsize": style.TEXT_SIZE - 1, "color": style.NEUTRAL}
            place = 0.98, floors[-1] + 0.03, "coin-flip floor"
            self.moving.append(ax.text(*place, transform=ax.get_yaxis_transform(), **look))

    def _show_prediction(self, runs: Sequence[ArcRun]) -> None:
        pair = self._task.test[0]
        seen = [record for run in runs for record in run.records]
        grid, text = pair.input, "so far the input itself"
        if seen:
            grid = seen[-1].examination.predictions[0]
            text = f"seed {seen[-1].seed}, step {len(seen[-1])}"
            if pair.output is not None:
                wrong = int((grid != pair.output).sum())
                text += f":\n{wrong} of {grid.size} wrong" if wrong else ":\nexact"
        self._prediction.set_array(grid)
        self.alt = f"ARC task {self._task.id}, test pair 1, {' '.join(text.split())}"
        look = {"ha": "center", "va": "top", "fontsize": style.TEXT_SIZE - 1}
        self.moving.append(self.text(0.755, 0.09, text, linespacing=1.1, **look))


def _looks(runs: Sequence[ArcRun]) -> Iterator[style.Look]:
    """A look a run: that of its rule, with a marker from the second run of a rule on."""
    of_rule = style.looks_of(dict.fromkeys(run.settings.rule for run in runs))
    used: Counter[str] = Counter()
    for run in runs:
        rule = run.settings.rule
        marker = _MARKERS[used[rule] % len(_MARKERS)]
        yield {**of_rule[rule], "marker": marker, "markevery": 0.2}
        used[rule] += 1


def _lines(run: ArcRun, name: str) -> Iterator[tuple[Sequence[float], style.Look]]:
    """The curves of a run and how their lines differ from its look."""
    # Copies: another thread may be adding to them.
    curves = [list(getattr(record, name)) for record in run.records if len(record)]
    if run.ended and len(curves) > 1:
        yield medians(curves), {}
    for curve in curves:
        is_only = len(curves) == 1 or (not run.ended and curve is curves[-1])
        yield curve, {} if is_only else {"linewidth": 0.8, "alpha": 0.5, "marker": "None"}
