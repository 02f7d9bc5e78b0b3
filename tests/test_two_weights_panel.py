"""The panel of notebook 02, driven without a browser."""

import re
import threading
from pathlib import Path

import nbformat
import pytest
import torch

from course.figures.two_weights_descent import MAP, draw_descent
from course.panels import two_weights_panel
from course.panels.two_weights_panel import RULES, TwoWeights
from course.toys.basins import grid_of_starts, kinds_of_ends
from course.toys.landscapes import LANDSCAPES
from course.toys.paths import OPTIMIZERS, descend, side_by_side

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "02_loss_landscapes.ipynb"
SECONDS = 60


@pytest.fixture
def panel():
    return TwoWeights()


@pytest.fixture
def small_map(monkeypatch):
    monkeypatch.setattr(two_weights_panel, "_SIZE", 6)
    monkeypatch.setattr(two_weights_panel, "_BANDS", 3)


def runs_of(values):
    names = dict.fromkeys([values["rule"], values["beside"]])
    rules = {name: RULES[name] for name in names if name != "none"}
    settings = {name: values[name] for name in ("learning_rate", "steps", "optimizer")}
    start = [[values["a"], values["b"]]]
    return side_by_side(LANDSCAPES[values["landscape"]], start, rules, **settings)


CHANGES = [
    {"landscape": "turned"},
    {"landscape": "waves", "rule": "AND-mask"},
    {"a": 1.25},
    {"b": -2.5},
    {"beside": "none"},
    {"beside": "abstain", "rule": "abstain"},
    {"rule": "weighted", "beside": "mean"},
    {"optimizer": "Adam"},
    {"optimizer": "momentum", "learning_rate": 0.05},
    {"steps": 10},
    {"steps": 300},
]


def test_the_picture_is_the_descent_of_the_controls(panel):
    pictures = {bytes(panel.screen.value)}
    for change in CHANGES:
        panel.set(**change)
        assert panel.problem is None
        values = panel.values
        fresh = two_weights_panel.Descent(
            LANDSCAPES[values["landscape"]], list(runs_of(values)), two_weights_panel._MOST_STEPS
        )
        fresh.show(runs_of(values))
        assert bytes(panel.screen.value) == fresh.png(), change
        assert panel.picture.alt == fresh.alt
        pictures.add(bytes(panel.screen.value))
    assert len(pictures) == len(CHANGES) + 1


def test_a_slider_answers_like_set(panel):
    panel.controls["a"].value = 0.6
    panel.controls["learning_rate"].value = 1.0
    moved = bytes(panel.screen.value)
    panel.reset()
    panel.set(a=0.6, learning_rate=1.0)
    assert bytes(panel.screen.value) == moved


@pytest.mark.parametrize("name", TwoWeights.presets)
def test_every_preset_is_shown_and_does_not_give_the_target_away(panel, name):
    panel.choose(name)
    assert panel.problem is None
    assert panel.preset_menu.value == name
    assert panel.reached is None


@pytest.mark.parametrize(
    ("preset", "mean", "consensus"),
    [
        ("stalled beside the shared zero", "crossing", "nowhere"),
        ("both find the shared zero", "shared", "shared"),
        ("only consensus finds it", "crossing", "shared"),
        ("only the mean finds it", "shared", "nowhere"),
        ("stopped by the first valley", "crossing", "nowhere"),
    ],
)
def test_presets_end_as_they_are_called(panel, preset, mean, consensus):
    panel.choose(preset)
    runs = runs_of(panel.values)
    patch = LANDSCAPES["patchwork"]
    assert kinds_of_ends(patch, runs["mean"].ends) == [mean]
    assert kinds_of_ends(patch, runs["consensus"].ends) == [consensus]


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ({"a": 0.0, "b": -2.9}, True),
        ({"a": 0.0, "b": -2.9, "rule": "consensus", "beside": "mean"}, True),
        ({"a": 0.0, "b": -2.9, "beside": "none"}, False),
        ({"a": 0.0, "b": -2.9, "rule": "AND-mask"}, False),
        ({"a": -2.5, "b": 0.5}, False),
        ({"a": -2.0, "b": -1.5}, False),
        ({"a": 0.0, "b": -2.9, "steps": 10}, False),
    ],
)
def test_the_target_is_judged(panel, values, reached):
    panel.set(**values)
    assert (panel.reached is not None) == reached
    if reached:
        assert "(0.00, −2.90)" in panel.reached


def press(panel, x, y):
    panel.screen.spot = [x, y]


def test_a_press_moves_the_start_to_where_it_was_pressed(panel):
    left, bottom, width, height = MAP
    for a, b in ((0.0, 0.0), (1.5, -2.25), (-3.0, 3.0)):
        x, y = left + width * (a + 3) / 6, 1 - bottom - height * (b + 3) / 6
        press(panel, x, y)
        assert (panel.values["a"], panel.values["b"]) == (a, b)
        start = panel.picture._start.get_data()
        assert [list(side) for side in start] == [[a], [b]]
        # The same place on the picture's own axes.
        axes = panel.picture.axes[0]
        drawn = axes.transData.transform((a, b)) / panel.picture.bbox.size
        assert tuple(drawn) == pytest.approx((x, 1 - y), abs=1e-9)


def test_a_press_on_the_edge_counts_and_one_beside_the_map_does_not(panel):
    left, bottom, width, _ = MAP
    press(panel, left - 0.04 * width, 1 - bottom + 0.02)
    assert (panel.values["a"], panel.values["b"]) == (-3.0, -3.0)
    press(panel, 0.9, 0.5)
    assert (panel.values["a"], panel.values["b"]) == (-3.0, -3.0)


def test_the_map_counts_the_basins(panel, small_map):
    blank = panel.map.value
    assert bytes(blank).startswith(b"\x89PNG")
    panel.start()
    assert panel.wait(SECONDS)
    assert panel.problem is None
    assert (panel.progress.value, panel.progress.max) == (3, 3)
    starts = grid_of_starts(LANDSCAPES["patchwork"], 6).flatten(0, 1)
    for name in ("mean", "consensus"):
        ends = descend(LANDSCAPES["patchwork"], starts, RULES[name]).ends
        kinds = kinds_of_ends(LANDSCAPES["patchwork"], ends)
        shared, crossing = (kinds.count(kind) / 36 for kind in ("shared", "crossing"))
        assert f"{name}: {shared:.2f} shared, {crossing:.2f} crossing." in panel.status
        (ends_shown,) = panel._basins.values()
        assert torch.equal(ends_shown[name].flatten(0, 1), ends)
    assert panel.map.value != blank


def test_a_map_is_shown_with_its_own_settings_only(panel, small_map):
    blank = panel.map.value
    panel.start()
    panel.wait(SECONDS)
    made = panel.map.value
    panel.set(a=1.0, b=1.0)
    assert panel.map.value == made
    for change in ({"learning_rate": 0.5}, {"rule": "AND-mask"}, {"landscape": "turned"}):
        before = {name: panel.values[name] for name in change}
        panel.set(**change)
        assert panel.map.value == blank
        panel.set(**before)
        assert panel.map.value == made
    panel.reset()
    assert panel.map.value == blank


def gated(panel, monkeypatch):
    """Make the work wait at each of its bands, until the event is set."""
    began, go_on = threading.Event(), threading.Event()
    original = two_weights_panel._descents

    def slow(values, starts):
        if len(starts) > 1:
            began.set()
            go_on.wait(SECONDS)
        return original(values, starts)

    monkeypatch.setattr(two_weights_panel, "_descents", slow)
    panel.start()
    assert began.wait(SECONDS)
    return go_on


@pytest.mark.parametrize("end", ["stop", "set", "reset"])
def test_the_map_is_stopped(panel, small_map, monkeypatch, end):
    blank = panel.map.value
    go_on = gated(panel, monkeypatch)
    assert panel.running
    if end == "reset":
        threading.Timer(0.1, go_on.set).start()
        panel.reset()
    elif end == "set":
        panel.set(learning_rate=0.5)
    else:
        panel.stop()
    go_on.set()
    assert panel.wait(SECONDS)
    assert panel.progress.value < panel.progress.max
    assert not panel._basins
    assert panel.map.value == blank
    assert end == "reset" or panel.status == "Stopped."


def test_moving_the_start_does_not_stop_the_map(panel, small_map, monkeypatch):
    go_on = gated(panel, monkeypatch)
    panel.set(a=1.0)
    go_on.set()
    assert panel.wait(SECONDS)
    assert len(panel._basins) == 1


def test_a_rate_that_diverges_is_survived(panel):
    panel.set(landscape="wave pairs", learning_rate=5.0, optimizer="momentum", steps=300)
    assert bytes(panel.screen.value).startswith(b"\x89PNG")
    panel.set(learning_rate=0.3)
    assert panel.problem is None


def test_controls_offer_what_the_library_has(panel):
    assert list(panel.controls["landscape"].options) == list(LANDSCAPES)
    assert list(panel.controls["optimizer"].options) == list(OPTIMIZERS)
    assert list(panel.controls["rule"].options) == list(RULES)


def test_the_notebook_shows_the_panel_and_its_first_preset():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    shown = [cell for cell in cells if cell.cell_type == "code" and "TwoWeights()" in cell.source]
    assert len(shown) == 1
    (output,) = shown[0].outputs
    assert output.data["text/plain"] == repr(TwoWeights())
    text = " ".join(cell.source for cell in cells)
    for named in re.findall(r'preset "([^"]+)"|Take "([^"]+)"', text):
        assert (named[0] or named[1]) in TwoWeights.presets


def test_a_descent_shown_again_is_the_one_drawn_anew():
    patch = LANDSCAPES["patchwork"]

    def runs(start):
        return side_by_side(patch, [start], {n: RULES[n] for n in ("mean", "consensus")}, steps=50)

    picture = draw_descent(patch, runs((-2.0, 1.0)))
    picture.png()
    picture.show(runs((2.0, -1.0)))
    assert picture.png() == draw_descent(patch, runs((2.0, -1.0))).png()
