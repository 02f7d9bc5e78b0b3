"""The figures of notebook 05: what they show, read from matplotlib's objects."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

import consensus_lib as cl
from course.figures import invariance as lab
from course.figures import style
from course.toys import spirals
from course.toys.spirals_study import Run

TINY = spirals.Recipe(environments=3, dimensions=2, examples=8, width=8, steps=6)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_rules_keep_their_colours():
    found = lab.looks(["abstain", "consensus", "mean", "AND-mask"])
    assert found["mean"] == style.MEAN
    assert found["consensus"] == style.CONSENSUS
    assert found["abstain"]["color"] != found["AND-mask"]["color"]


def test_draw_weights_has_a_bar_for_each_rule_and_weight():
    weights = {"mean": torch.tensor([1.0, -2.0, 0.0]), "consensus": torch.tensor([0.5, 0.0, 3.0])}
    picture = lab.draw_weights(weights, ["a", "b", "c"])
    (ax,) = picture.axes
    assert [bar.get_height() for bar in ax.patches] == [1.0, -2.0, 0.0, 0.5, 0.0, 3.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(b[0] >= a[1] - 1e-9 for a, b in itertools.pairwise(edges))
    assert "mean: 1.00, -2.00, 0.00" in picture.alt


def test_draw_many_environments_shows_medians_spread_and_the_floor():
    losses = {"mean": torch.tensor([[0.5, 0.6, 0.7], [0.3, 0.4, 0.8]], dtype=torch.float64)}
    picture = lab.draw_many_environments([2, 5], losses, shortcuts=8, least=0.25)
    left, right = picture.axes
    (line,) = (line for line in left.lines if line.get_label() == "mean")
    assert line.get_ydata().tolist() == [0.6, 0.4]
    low, high = np.quantile(losses["mean"].numpy(), (0.1, 0.9), axis=1)
    (band,) = left.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(low.min())
    assert heights.max() == pytest.approx(high.max())
    assert right.lines[0].get_ydata().tolist() == [4.0, 0.5]
    assert texts(left) == ["best use of the invariant feature", "always predict 0"]


def test_draw_environments_shows_points_by_label_and_signatures():
    data = spirals.draw_data(TINY, seed=0)
    picture = lab.draw_environments(data)
    *_, key = picture.axes
    assert len(picture.axes) == 2 * 3 + 1
    assert key.get_ylabel() == "its numbers"
    inputs, labels = (part[0] for part in data.train)
    for label, dots in enumerate(picture.axes[0].collections):
        np.testing.assert_allclose(dots.get_offsets(), inputs[labels == label][:, :2], rtol=1e-6)
    shown = picture.axes[3].images[0].get_array()
    np.testing.assert_allclose(shown[0], -shown[-1], rtol=1e-6)
    colours = [to_hex(dots.get_facecolor()[0]) for dots in picture.axes[0].collections]
    assert len(set(colours)) == 2


@pytest.fixture(scope="module")
def outcomes():
    rules = {"mean": cl.Mean(), "consensus": cl.Consensus()}
    return {
        name: [spirals.fit(TINY, rule, 1e-2, seed=seed, every=2) for seed in range(3)]
        for name, rule in rules.items()
    }


def test_draw_accuracies_shows_every_seed_and_the_median(outcomes):
    picture = lab.draw_accuracies(outcomes, "title")
    assert picture.title == "title"
    for column, ax in enumerate(picture.axes, start=1):
        for name, runs in outcomes.items():
            curves = np.array([[look[column] for look in run.seen] for run in runs])
            (line,) = (line for line in ax.lines if line.get_label() == name)
            np.testing.assert_allclose(line.get_ydata(), np.median(curves, axis=0))
            assert line.get_xdata().tolist() == [0, 2, 4, 6]
        assert len(ax.lines) == 2 * 4 + 1
    assert f"mean: {outcomes['mean'][0].test:.2f}" in picture.alt


def test_draw_answers_is_the_share_of_signatures_that_say_one():
    data = spirals.draw_data(TINY, seed=0)

    class RightHalf(torch.nn.Module):
        def forward(self, inputs):
            return inputs[..., :1]

    class FirstOfSignature(torch.nn.Module):
        def forward(self, inputs):
            return inputs[..., 2:3]

    picture = lab.draw_answers({"mean": RightHalf(), "consensus": FirstOfSignature()}, data)
    *panels, key = picture.axes
    assert [text.get_text() for text in key.get_yticklabels()] == ["all ●", "half", "all ▲"]
    by_place, by_signature = (ax.images[0].get_array() for ax in panels)
    side = by_place.shape[1]
    assert (by_place[:, : side // 2] == 0).all()
    assert (by_place[:, side // 2 + 1 :] == 1).all()
    share = (data.test[0][0, :16, 2] > 0).double().mean()
    np.testing.assert_allclose(by_signature, share)
    assert "test accuracy" in picture.axes[0].get_title()


def test_draw_grid_writes_the_mean_over_seeds_and_frames_the_choice():
    runs = [
        Run(rule, rate, decay, seed, "steps", 0.1, 1.0, held_out + 0.1 * seed, 0.5)
        for rule, shift in (("mean", 0.0), ("consensus", 0.2))
        for rate, decay, held_out in ((0.1, 0.0, 0.3 + shift), (0.2, 0.0, 0.4), (0.1, 1e-3, 0.1))
        for seed in (0, 1)
    ]
    picture = lab.draw_grid(runs)
    mean, consensus = picture.axes
    assert texts(mean) == ["0.35", "0.45", "0.15"]
    assert [patch.get_xy() for patch in mean.patches] == [(0.5, -0.5)]
    assert [patch.get_xy() for patch in consensus.patches] == [(-0.5, -0.5)]
    assert [label.get_text() for label in mean.get_xticklabels()] == ["0.1", "0.2"]
    assert [label.get_text() for label in mean.get_yticklabels()] == ["0", "0.001"]
