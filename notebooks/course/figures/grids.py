"""ARC grids as pictures, in the palette of the official viewer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap

from course.arc import Pair, Task, as_grid, score
from course.figures import style

# github.com/fchollet/ARC-AGI, apps/css/common.css: colours 0 to 9 and the lines between cells.
PALETTE = (
    "#000000",
    "#0074D9",
    "#FF4136",
    "#2ECC40",
    "#FFDC00",
    "#AAAAAA",
    "#F012BE",
    "#FF851B",
    "#7FDBFF",
    "#870C25",
)
CELL_BORDER = "#555555"

# Inches. The largest width is about what a notebook shows without shrinking the letters.
_MIN_CELL, _MAX_CELL = 0.1, 0.42
_MAX_WIDTH, _MAX_HEIGHT = 10.0, 6.0
_LABEL_WIDTH, _LINE_HEIGHT, _TITLE_HEIGHT = 1.5, 0.22, 0.4
_GAP = 0.08


def draw_grid(ax: Axes, grid: np.ndarray) -> None:
    """Draw a grid (H, W) of colours 0 to 9: square cells, row 0 on top, no ticks.

    Cell (row, column) covers column to column + 1 and row to row + 1. Raises ValueError for
    what is no ARC grid.
    """
    cells = as_grid(grid)
    _draw_cells(ax, cells, PALETTE)
    _set_window(ax, (0, cells.shape[1]), (cells.shape[0], 0))


def draw_task(task: Task, hide_test: bool = False) -> style.Picture:
    """Draw a task: a column a pair, inputs above outputs, all cells of one size.

    A hidden output is a question mark; hide_test=True hides all test outputs.
    """
    shown = task.hidden() if hide_test else task
    pairs = shown.train + shown.test
    names = [
        f"{part} pair {number}"
        for part, members in (("training", shown.train), ("test", shown.test))
        for number, _ in enumerate(members, start=1)
    ]
    picture, axes = _lay_out(
        shapes=[
            [pair.input.shape for pair in pairs],
            [(pair.input if pair.output is None else pair.output).shape for pair in pairs],
        ],
        labels=[[f"{name}\n{role}" for name in names] for role in ("input", "output")],
        title=f"Task {task.id}",
    )
    for column, pair in enumerate(pairs):
        _draw_cells(axes[0, column], pair.input, PALETTE)
        if pair.output is None:
            _draw_question_mark(axes[1, column], pair.input.shape)
        else:
            _draw_cells(axes[1, column], pair.output, PALETTE)
    for ax in axes[:, len(shown.train) :].flat:
        ax.title.set_fontweight("bold")
    picture.alt = (
        f"ARC task {task.id}: {len(task.train)} training and {len(task.test)} test pairs, "
        "inputs above outputs"
    )
    return picture


def draw_prediction(pair: Pair, prediction: np.ndarray) -> style.Picture:
    """Draw input, prediction, target and the wrong cells, each marked with a cross.

    prediction: (H, W) colours 0 to 9. Raises ValueError as `course.arc.score` does.
    """
    is_exact = score(prediction, pair).exact
    grid = as_grid(prediction)
    wrong = grid != pair.output
    title = (
        f"exact: all {wrong.size} cells right"
        if is_exact
        else f"{wrong.sum()} of {wrong.size} cells wrong"
    )
    picture, axes = _lay_out(
        shapes=[[grid.shape] * 4],
        labels=[["input", "prediction", "target", "wrong cells"]],
        title=title,
    )
    for ax, shown in zip(axes[0], (pair.input, grid, pair.output), strict=False):
        _draw_cells(ax, shown, PALETTE)
    _draw_wrong_cells(axes[0, 3], wrong)
    picture.alt = f"ARC input, prediction, target and wrong cells: {title}"
    return picture


def _draw_cells(ax: Axes, cells: np.ndarray, colours: Sequence[str]) -> None:
    height, width = cells.shape
    ax.pcolormesh(
        np.arange(width + 1),
        np.arange(height + 1),
        cells,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
        edgecolors=CELL_BORDER,
        linewidth=0.5,
        # Half of the outer border lies outside the axes.
        clip_on=False,
    )


def _draw_wrong_cells(ax: Axes, wrong: np.ndarray) -> None:
    _draw_cells(ax, wrong.astype(int), (style.PALE, "#000000"))
    near, far = 0.25, 0.75
    strokes = [
        [(column + near, row + start), (column + far, row + end)]
        for row, column in np.argwhere(wrong)
        for start, end in ((near, far), (far, near))
    ]
    ax.add_collection(LineCollection(strokes, colors="white", linewidths=2), autolim=False)


def _draw_question_mark(ax: Axes, shape: tuple[int, ...]) -> None:
    height, width = shape
    ax.text(width / 2, height / 2, "?", fontsize=40, color=style.NEUTRAL, ha="center", va="center")


def _set_window(ax: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    ax.set(xlim=x, ylim=y, aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _lay_out(
    shapes: Sequence[Sequence[tuple[int, ...]]], labels: Sequence[Sequence[str]], title: str
) -> tuple[style.Picture, np.ndarray]:
    grid_heights, grid_widths = np.moveaxis(np.array(shapes), -1, 0)
    heights, widths = grid_heights.max(axis=1), grid_widths.max(axis=0)
    cell = _cell_size(heights, widths)
    room = np.maximum(widths, _LABEL_WIDTH / cell)
    label_height = _LINE_HEIGHT * (1 + labels[0][0].count("\n"))
    picture, axes = style.new_figure(
        *grid_heights.shape,
        size=(
            room.sum() * cell + 2 * _GAP * len(room),
            heights.sum() * cell + len(heights) * (label_height + 2 * _GAP) + _TITLE_HEIGHT,
        ),
        title=title,
        squeeze=False,
        gridspec_kw={"width_ratios": room, "height_ratios": heights},
    )
    picture.get_layout_engine().set(w_pad=_GAP, h_pad=_GAP, wspace=0, hspace=0)
    for (row, column), ax in np.ndenumerate(axes):
        style.label(ax, labels[row][column])
        # Windows of one scale, so that a small grid looks small beside a large one.
        width = grid_widths[row, column]
        spare = (room[column] - width) / 2
        _set_window(ax, (-spare, width + spare), (heights[row], 0))
    return picture, axes


def _cell_size(heights: np.ndarray, widths: np.ndarray) -> float:
    limit = max(_MAX_WIDTH, _LABEL_WIDTH * len(widths))
    for cell in np.linspace(_MAX_CELL, _MIN_CELL, 50):
        width = np.maximum(widths * cell, _LABEL_WIDTH).sum()
        if width <= limit and heights.sum() * cell <= _MAX_HEIGHT:
            return cell
    return _MIN_CELL
