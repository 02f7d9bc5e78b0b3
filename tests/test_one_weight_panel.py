"""The panel of notebook 01, driven without a browser."""

from pathlib import Path

import nbformat
import pytest

from course.panels.one_weight_panel import OneWeight

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "01_one_weight.ipynb"


@pytest.fixture
def panel():
    return OneWeight()


def test_a_repeated_step_moves_towards_what_it_is_made_of(panel):
    panel.set(gradients=(1.0, 2.0, 3.0), learning_rate=0.5, steps=2)
    # By hand: the mean 2, half of it, then half of what is left; consensus 1, then 0.5.
    assert panel.paths == {"mean": [0.0, -1.0, -1.5], "consensus": [0.0, -0.5, -0.75]}
    panel.set(gradients=(1.0, -2.0, 2.0))
    assert panel.paths["consensus"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", OneWeight.presets)
def test_no_preset_gives_the_target_away(panel, name):
    panel.choose(name)
    assert panel.problem is None
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


@pytest.mark.parametrize("wrong", [(1.0,), (1.0,) * 7, (1.0, 5.5), (1.0, float("nan")), 1.0, "ab"])
def test_gradients_that_are_not_possible_are_refused(panel, wrong):
    before = panel.values
    with pytest.raises(ValueError, match="gradients.*2 to 6 numbers from -5 to 5"):
        panel.set(gradients=wrong)
    assert panel.values == before


def test_it_is_written_as_it_would_be_set(panel):
    panel.set(gradients=(0.5, -0.5), learning_rate=0.3)
    again = OneWeight()
    exec(f"again.set({repr(panel).removeprefix('OneWeight(')}", {"again": again})
    assert again.values == panel.values
