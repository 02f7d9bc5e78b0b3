"""The panel of notebook 01, driven without a browser."""

from pathlib import Path

import nbformat
import pytest
import torch

from consensus_lib.rules import Consensus
from course.figures.one_step import draw_step
from course.panels.one_weight_panel import Gradients, OneWeight

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "01_one_weight.ipynb"


@pytest.fixture
def panel():
    return OneWeight()


def shown(gradients):
    return [s.layout.visibility for s in gradients.sliders].count("visible")


def test_the_picture_is_the_step_of_the_controls(panel):
    for values in (
        {"gradients": (0.4, 1.2, 0.3), "zeros": "veto", "learning_rate": 0.7},
        {"gradients": (0.0, 1.0, 2.0, -3.0, 0.1, 0.2), "zeros": "abstain", "learning_rate": 2.5},
        {"gradients": (0.0, 1.0), "zeros": "abstain", "learning_rate": 0.1},
    ):
        panel.set(**values)
        assert panel.problem is None
        expected = draw_step(
            values["gradients"], values["learning_rate"], Consensus(zeros=values["zeros"])
        )
        assert bytes(panel.screen.value) == expected.png()


@pytest.mark.parametrize("name", OneWeight.presets)
def test_every_preset_is_shown_and_does_not_give_the_target_away(panel, name):
    panel.choose(name)
    assert panel.problem is None
    assert panel.preset_menu.value == name
    assert panel.reached is None


def test_the_presets_are_the_cases_of_the_lesson():
    told = {tuple(sorted(preset["gradients"])) for preset in OneWeight.presets.values()}
    source = next(
        cell.source
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells
        if cell.source.startswith("vectors = [")
    )
    vectors = {}
    exec(source.split("]\nprint")[0] + "]", vectors)
    cases = [*vectors["vectors"], [0, 1, 2], [0, 0, 0], [1, -1]]
    assert told == {tuple(sorted(map(float, case))) for case in cases}


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ({"gradients": (-1.0, -1.0, 3.0)}, "examples 1 and 2 of three"),
        ({"gradients": (0.3, 3.0, 0.3)}, "examples 1 and 3 of three"),
        ({"gradients": (0.4, 1.2, 0.3), "learning_rate": 2.1}, None),
        ({"gradients": (-1.0, -1.0, 3.0, 3.0)}, None),
        ({"gradients": (1.0, -2.0, 2.0)}, None),
    ],
)
def test_the_target_is_judged(panel, values, reached):
    panel.set(**values)
    assert (reached in panel.reached) if reached else panel.reached is None


def test_a_slider_moves_its_gradient_only(panel):
    sliders = panel.controls["gradients"].sliders
    for i, slider in enumerate(sliders[:3]):
        panel.reset()
        slider.value = 0.7
        expected = [1.0, -2.0, 2.0]
        expected[i] = 0.7
        assert panel.values["gradients"] == tuple(expected)
        assert bytes(panel.screen.value) == draw_step(expected).png()


def test_examples_come_and_go(panel):
    gradients = panel.controls["gradients"]
    assert shown(gradients) == 3
    gradients.count.value = 5
    assert (len(gradients.value), shown(gradients)) == (5, 5)
    assert gradients.value[:3] == (1.0, -2.0, 2.0)
    gradients.count.value = 2
    assert (gradients.value, shown(gradients)) == ((1.0, -2.0), 2)
    gradients.count.value = 3
    assert gradients.value == (1.0, -2.0, 2.0)
    assert gradients.sliders[5].layout.visibility == "hidden"


def test_one_redraw_whatever_moves(panel, monkeypatch):
    drawn = []
    draw = panel.draw
    monkeypatch.setattr(panel, "draw", lambda: drawn.append(panel.values) or draw())
    panel.set(gradients=(0.1, 0.2, 0.3, 0.4, 0.5), learning_rate=0.3, zeros="abstain")
    panel.controls["gradients"].sliders[0].value = 1.5
    panel.controls["gradients"].count.value = 6
    panel.reset()
    assert len(drawn) == 4


def test_a_zero_of_a_slider_is_zero():
    gradients = Gradients((1.0, 2.0))
    gradients.sliders[0].value = 2.8e-16
    assert gradients.value == (0.0, 2.0)
    assert Consensus().reduce(torch.tensor(gradients.value)).item() == 0.0


@pytest.mark.parametrize("wrong", [(1.0,), (1.0,) * 7, (1.0, 3.5), (1.0, float("nan")), 1.0, "ab"])
def test_gradients_that_are_not_possible_are_refused(panel, wrong):
    before = panel.values
    with pytest.raises(ValueError, match="gradients"):
        panel.set(gradients=wrong)
    assert panel.values == before
    assert [s.value for s in panel.controls["gradients"].sliders[:3]] == [1.0, -2.0, 2.0]


def test_it_is_written_as_it_would_be_set(panel):
    panel.set(gradients=(0.5, -0.5), learning_rate=0.3)
    assert repr(panel) == "OneWeight(zeros='veto', learning_rate=0.3, gradients=(0.5, -0.5))"
