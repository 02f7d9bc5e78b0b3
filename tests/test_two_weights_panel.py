"""The panel of notebook 02, driven without a browser."""

import re
from pathlib import Path

import nbformat
import pytest
import torch

from course.panels.two_weights_panel import RULES, TwoWeights
from course.toys.basins import kinds_of_ends
from course.toys.landscapes import LANDSCAPES
from course.toys.paths import descend

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "02_loss_landscapes.ipynb"


@pytest.fixture
def panel():
    return TwoWeights()


@pytest.mark.parametrize("name", TwoWeights.presets)
def test_no_preset_gives_the_target_away(panel, name):
    panel.choose(name)
    assert panel.problem is None
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
    patch = LANDSCAPES["patchwork"]
    assert kinds_of_ends(patch, panel.runs["mean"].ends) == [mean]
    assert kinds_of_ends(patch, panel.runs["consensus"].ends) == [consensus]


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


def test_a_rate_that_diverges_is_survived(panel):
    panel.set(landscape="wave pairs", learning_rate=5.0, optimizer="momentum", steps=300)
    assert panel.png().startswith(b"\x89PNG")
    assert panel.problem is None


def test_the_runs_are_those_of_the_controls(panel):
    panel.set(landscape="turned", rule="abstain", beside="none", a=1.0, b=0.3, learning_rate=0.05)
    panel.set(optimizer="Adam", steps=20)
    (run,) = panel.runs.values()
    turned = LANDSCAPES["turned"]
    expected = descend(turned, [(1.0, 0.3)], RULES["abstain"], 0.05, 20, "Adam")
    assert torch.equal(run.weights, expected.weights)


def test_the_notebook_shows_the_panel_and_its_presets():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    shown = [cell for cell in cells if cell.cell_type == "code" and "TwoWeights()" in cell.source]
    assert len(shown) == 1
    text = " ".join(cell.source for cell in cells)
    for named in re.findall(r'preset "([^"]+)"|Take "([^"]+)"', text):
        assert (named[0] or named[1]) in TwoWeights.presets
