"""The panel of notebook 04, driven without a browser."""

import math
import re

import nbformat
import pytest
import torch

import consensus_lib as cl
from course.panels.agreement_panel import (
    WEIGHTS,
    FamilyOfRules,
    draw_examples,
    draw_objections,
    gains,
)
from tests.test_lab_agreement import NOTEBOOK

HALF = {"correlation": 0.5, "opponents": 0, "zeros": 0.0, "draw": 0}


@pytest.fixture
def panel():
    return FamilyOfRules()


def correlations(g):
    return torch.corrcoef(torch.cat([draw_examples(**g | {"draw": d}) for d in range(50)], dim=1))


def test_examples_correlate_as_asked_and_opponents_against():
    found = correlations({"voters": 4, "correlation": 0.5, "opponents": 1, "zeros": 0.0})
    expected = torch.full((4, 4), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    expected[0, 1:] = expected[1:, 0] = -0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=0.04)  # 10,000 weights: 4 errors


def test_another_example_or_more_zeros_leave_the_rest_as_it_was():
    few, many = (draw_examples(voters=n, **HALF) for n in (3, 12))
    assert torch.equal(many[:3], few)
    some, more = (draw_examples(voters=12, **HALF | {"zeros": z}) for z in (0.2, 0.6))
    assert torch.equal(some[more != 0], more[more != 0])
    assert (more == 0).double().mean().item() == pytest.approx(0.6, abs=0.04)
    assert torch.equal(draw_examples(voters=3, **HALF), few)
    assert not torch.equal(draw_examples(voters=3, **HALF | {"draw": 1}), few)


def test_gains_are_cosines():
    g = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-3.0, -4.0], [0.0, 0.0]])
    torch.testing.assert_close(gains(g[0], g), torch.tensor([1.0, 0.0, -1.0, 0.0]))
    assert gains(torch.zeros(2), g).tolist() == [0.0] * 4


def test_the_picture_shows_shares_and_who_objects():
    g = torch.tensor([[1.0, 1.0], [1.0, -3.0]])
    picture = draw_objections(g, {"mean": cl.Mean(), "consensus": cl.Consensus()})
    assert picture.alt == "2 examples: mean moves 100.0%, 0 object; consensus moves 50.0%, 0 object"
    left, _ = picture.axes
    assert [bar.get_width() for bar in left.patches] == [1.0, 0.5]
    assert left.lines[0].get_xdata() == [0.5, 0.5]  # the floor

    loud = torch.tensor([[1.0, 1.0], [-3.0, -3.0]])
    picture = draw_objections(loud, {"mean": cl.Mean(), "consensus": cl.Consensus()})
    assert "mean moves 100.0%, 1 object; consensus moves 0.0%, 0 object" in picture.alt
    crosses = [line for line in picture.axes[1].lines if line.get_marker() == "x"]
    assert [len(line.get_xdata()) for line in crosses] == [1, 0]


@pytest.mark.parametrize("name", FamilyOfRules.presets)
def test_every_preset_is_shown_and_does_not_give_the_target_away(panel, name):
    panel.choose(name)
    assert panel.problem is None
    assert panel.reached is None


def test_the_dials_set_their_rules(panel):
    panel.set(voters=3, threshold=0.3, p=-math.inf)
    assert panel.rules["AND-mask"] == cl.AndMask(0.3)
    assert panel.rules["power mean"] == cl.PowerMean(-math.inf, 0.3)
    assert panel.gradients.shape == (3, WEIGHTS)
    assert "power mean" in panel.draw().alt


@pytest.mark.parametrize(
    "values",
    [
        {"opponents": 3, "voters": 8, "correlation": 0.5},  # threshold 1: the mask is consensus's
        {"threshold": 0.0},  # nobody objects to the mean
        {"opponents": 1, "correlation": 0.5, "threshold": 0.0},  # the mask is the mean
    ],
)
def test_the_target_is_not_reached_by_half_of_it(panel, values):
    panel.set(**values)
    assert panel.reached is None


def test_the_way_told_in_the_lesson_reaches_the_target(panel):
    told = next(
        cell.source
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells
        if "One way" in cell.source
    )
    exec(re.search(r"panel\.set\(.*\)", told)[0], {"panel": panel})
    assert "the mask moves 24.0% of the weights, consensus 1.0%" in panel.reached
    panel.reset()
    assert panel.reached is None


def test_the_numbers_told_of_half_of_them_silent(panel):
    told = {"half shared": {}, "half of them silent": {}}
    for preset, found in told.items():
        panel.choose(preset)
        found.update(re.findall(r"([\w -]+) moves ([\d.]+)%", panel.draw().alt))
        found.update({name.strip(): float(share) for name, share in found.items()})
    before, after = told.values()
    for name in ("consensus", "AND-mask", "power mean"):
        assert (before[name], after[name]) == (37.5, 2.5)
    assert (before["least magnitude"], after["least magnitude"]) == (100.0, 6.0)
    assert (after["mean"], after["abstain"]) == (95.0, 58.5)
    assert before["abstain"] < after["abstain"]
