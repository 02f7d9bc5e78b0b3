"""Figures: what they say and show, read from matplotlib's objects, never from pixels."""

import struct
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from course.arc import Pair, load_task, task_ids
from course.figures import grids, style

OFFICIAL = [
    *("#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00"),
    *("#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25"),
]
TASKS = ["a699fb00", "6f8cd79b", "4258a5f9"]
PAIR = Pair([[0, 1, 0], [1, 0, 1]], [[0, 1, 2], [1, 2, 1]])


def png_size(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def cell_colours(ax):
    """Return the grid of hex colours that an axes shows."""
    mesh = next(artist for artist in ax.collections if isinstance(artist, QuadMesh))
    mesh.update_scalarmappable()
    height, width = mesh.get_array().shape
    return np.array([to_hex(c) for c in mesh.get_facecolors()]).reshape(height, width).tolist()


def in_official_colours(grid):
    return [[OFFICIAL[cell] for cell in row] for row in grid.tolist()]


def crossed_cells(ax):
    """Return how many strokes lie in each cell of an axes."""
    strokes = {}
    for artist in ax.collections:
        if isinstance(artist, LineCollection):
            for ends in artist.get_segments():
                column, row = np.floor(ends.mean(axis=0)).astype(int)
                strokes[row, column] = strokes.get((row, column), 0) + 1
    return strokes


def all_text(picture):
    return [text for text in picture.findobj(Text) if text.get_text() and text.get_visible()]


def test_draw_grid_in_the_official_palette():
    _, ax = style.new_figure()
    every_colour = np.arange(10).reshape(2, 5)
    grids.draw_grid(ax, every_colour)
    assert cell_colours(ax) == [OFFICIAL[:5], OFFICIAL[5:]]
    assert ax.get_xlim() == (0, 5)
    assert ax.get_ylim() == (2, 0)
    assert ax.get_aspect() == 1
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
    assert to_hex(ax.collections[0].get_edgecolors()[0]) == "#555555"


def test_colours_do_not_depend_on_which_occur():
    _, ax = style.new_figure()
    grids.draw_grid(ax, np.array([[8, 8]]))
    assert cell_colours(ax) == [[OFFICIAL[8]] * 2]


def test_draw_grid_refuses_what_is_no_grid():
    _, ax = style.new_figure()
    with pytest.raises(ValueError, match="11 is no colour"):
        grids.draw_grid(ax, np.array([[11]]))


@pytest.mark.parametrize("task_id", TASKS)
def test_draw_task_shows_and_names_every_grid(task_id):
    task = load_task(task_id)
    picture = grids.draw_task(task)
    shown = {ax.get_title(): cell_colours(ax) for ax in picture.axes}
    expected = {}
    for part, pairs in (("training", task.train), ("test", task.test)):
        for number, pair in enumerate(pairs, start=1):
            expected[f"{part} pair {number}\ninput"] = in_official_colours(pair.input)
            expected[f"{part} pair {number}\noutput"] = in_official_colours(pair.output)
    assert shown == expected
    assert repr(picture) == f"<Picture: Task {task_id}>"


@pytest.mark.parametrize("task_id", [*TASKS, "007bbfb7"])
def test_draw_task_layout(task_id):
    picture = grids.draw_task(load_task(task_id))
    picture.png()
    cells, tops = [], {}
    for ax in picture.axes:
        mesh = ax.collections[0].get_window_extent()
        height, width = ax.collections[0].get_array().shape
        # Rows count downwards, so the mesh's height comes out negative.
        cells += [mesh.width / width, abs(mesh.height) / height]
        tops[ax.get_title()] = ax.title.get_window_extent().y0, mesh.ymax
    assert max(cells) == pytest.approx(min(cells), rel=0.03), "cells are of one size"
    for title, (letters, grid) in tops.items():
        assert letters > grid, f"{title}: the label overlaps its grid"
    assert tops["training pair 1\ninput"][1] > tops["training pair 1\noutput"][1]


@pytest.mark.parametrize("task_id", [*TASKS, "794b24be", "1f85a75f"])
def test_no_label_is_cut_or_covers_another(task_id):
    picture = grids.draw_task(load_task(task_id))
    width, height = png_size(picture.png())
    boxes = [text.get_window_extent() for text in all_text(picture)]
    assert len(boxes) == 1 + len(picture.axes)
    for number, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.parametrize("hide", ["argument", "task"])
def test_hidden_outputs_are_question_marks(hide):
    task = load_task("a699fb00")
    picture = (
        grids.draw_task(task, hide_test=True)
        if hide == "argument"
        else grids.draw_task(task.hidden())
    )
    test_output = next(ax for ax in picture.axes if ax.get_title() == "test pair 1\noutput")
    assert [text.get_text() for text in test_output.texts] == ["?"]
    assert not test_output.collections
    others = [ax for ax in picture.axes if ax is not test_output]
    assert all(ax.collections and not ax.texts for ax in others)


def test_draw_prediction_crosses_the_wrong_cells():
    prediction = np.array([[0, 1, 2], [0, 2, 3]])
    picture = grids.draw_prediction(PAIR, prediction)
    by_title = {ax.get_title(): ax for ax in picture.axes}
    assert list(by_title) == ["input", "prediction", "target", "wrong cells"]
    assert cell_colours(by_title["input"]) == in_official_colours(PAIR.input)
    assert cell_colours(by_title["prediction"]) == in_official_colours(prediction)
    assert cell_colours(by_title["target"]) == in_official_colours(PAIR.output)
    assert picture.get_suptitle() == "2 of 6 cells wrong"
    wrong = by_title["wrong cells"]
    assert crossed_cells(wrong) == {(1, 0): 2, (1, 2): 2}
    wrong_colours = cell_colours(wrong)
    assert wrong_colours[1][0] == wrong_colours[1][2]
    assert wrong_colours[1][0] not in (*wrong_colours[0], wrong_colours[1][1])
    assert not any(crossed_cells(ax) for title, ax in by_title.items() if title != "wrong cells")


def test_draw_prediction_when_exact():
    picture = grids.draw_prediction(PAIR, PAIR.output)
    assert picture.get_suptitle() == "exact: all 6 cells right"
    assert crossed_cells(picture.axes[-1]) == {}


def test_draw_prediction_panels_are_of_one_size():
    picture = grids.draw_prediction(PAIR, PAIR.input)
    picture.png()
    widths = [ax.collections[0].get_window_extent().width for ax in picture.axes]
    assert max(widths) == pytest.approx(min(widths), rel=0.01)


@pytest.mark.parametrize(
    ("pair", "prediction", "words"),
    [(Pair([[1]]), [[1]], "hidden"), (PAIR, [[1]], "shape")],
    ids=["hidden", "shape"],
)
def test_draw_prediction_errors(pair, prediction, words):
    with pytest.raises(ValueError, match=words):
        grids.draw_prediction(pair, np.array(prediction))


def test_picture_in_jupyter():
    picture, _ = style.new_figure(size=(6, 3), title="Two valleys")
    png, metadata = picture._repr_png_()
    assert png_size(png) == (600, 300)
    assert metadata == {"alt": "Two valleys"}
    picture.alt = "Mean and consensus walk downhill"
    assert picture._repr_png_()[1] == {"alt": "Mean and consensus walk downhill"}
    assert repr(picture) == str(picture) == "<Picture: Two valleys>"


def test_ipython_shows_png_alt_and_plain_text():
    formatters = pytest.importorskip("IPython.core.formatters")
    picture, ax = style.new_figure()
    style.label(ax, title="Loss")
    data, metadata = formatters.DisplayFormatter().format(picture)
    assert data["text/plain"] == "<Picture: Loss>"
    assert png_size(data["image/png"]) == (800, 450)
    assert metadata["image/png"]["alt"] == "Loss"


def test_untitled_picture_has_a_stable_name():
    assert repr(style.new_figure()[0]) == "<Picture: untitled>"


def test_png_is_reproducible():
    task = load_task("6f8cd79b")
    assert grids.draw_task(task).png() == grids.draw_task(task).png()


def test_new_figure_is_laid_out_as_asked():
    one = style.new_figure()[1]
    assert isinstance(one, Axes)
    picture, axes = style.new_figure(2, 3, sharey="row", size=(9, 5))
    assert axes.shape == (2, 3)
    assert axes[0, 0].get_shared_y_axes().joined(axes[0, 0], axes[0, 2])
    assert picture.get_size_inches().tolist() == [9, 5]


def test_letters_are_readable_from_the_back_row():
    picture, ax = style.new_figure(title="Title")
    style.label(ax, title="Axes", x="step", y="loss (nats)")
    ax.plot([0, 1], [0, 1], label="mean", **style.MEAN)
    style.add_legend(ax)
    picture.png()
    assert {"Title", "Axes", "step", "loss (nats)", "mean"} <= {
        text.get_text() for text in all_text(picture)
    }
    assert min(text.get_fontsize() for text in all_text(picture)) >= 12
    task = grids.draw_task(load_task("a699fb00"))
    assert min(text.get_fontsize() for text in all_text(task)) >= 12


def brightness(colour):
    return np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722))


def test_lines_differ_in_colour_and_style():
    lines = [style.MEAN, style.CONSENSUS, *style.OTHER_RULES]
    assert len({line["color"] for line in lines}) == len(lines)
    assert len({str(line["linestyle"]) for line in lines}) == len(lines)
    # Blue against orange-red: every kind of colour blindness tells them apart.
    mean, consensus = (np.array(to_rgb(line["color"])) for line in lines[:2])
    assert mean[2] - mean[0] > 0.4
    assert consensus[0] - consensus[2] > 0.4
    assert all(brightness(line["color"]) < 0.7 for line in lines), "visible on white"


def test_user_settings_stay():
    with mpl.rc_context({"font.size": 5, "figure.dpi": 37, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        picture = grids.draw_task(load_task("6f8cd79b"))
        assert picture.dpi == 100
        assert min(text.get_fontsize() for text in all_text(picture)) >= 12
        assert to_hex(picture.axes[0].get_facecolor()) == "#ffffff"
        assert dict(mpl.rcParams) == before


def test_threads_draw_the_same_pictures():
    tasks = [load_task(task_id) for task_id in task_ids()[:4]]

    def png(task):
        return grids.draw_task(task).png()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(png, tasks)) == [png(task) for task in tasks]
