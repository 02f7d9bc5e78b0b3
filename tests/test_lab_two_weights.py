"""Figures of two weights: what they show, read from matplotlib's objects, never from pixels."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

import consensus_lib as cl
from course.figures import style
from course.figures import two_weights as lab
from course.figures.two_weights_descent import draw_descent, where_it_ends
from course.panels.two_weights_panel import RULES
from course.toys.basins import grid_of_starts, kinds_of_ends
from course.toys.landscapes import LANDSCAPES
from course.toys.paths import side_by_side

PATCH, WAVES = LANDSCAPES["patchwork"], LANDSCAPES["waves"]
MEAN_AND_CONSENSUS = {"mean": cl.Mean(), "consensus": cl.Consensus()}
STARTS = [(-2.5, 0.5), (-2.0, 1.0), (2.5, -1.5)]


@pytest.fixture(scope="module")
def runs():
    return side_by_side(PATCH, STARTS, MEAN_AND_CONSENSUS, steps=60)


def lines(ax):
    """The points of every line of an axes, as pairs, without lines of a single point."""
    found = [np.stack(np.broadcast_arrays(*line.get_data()), axis=1) for line in ax.lines]
    return [points for points in found if len(points) > 1]


def shows(ax, points):
    return any(np.allclose(line, points) for line in lines(ax) if line.shape == points.shape)


def marks(ax):
    return {
        (round(float(line.get_xdata()[0]), 6), round(float(line.get_ydata()[0]), 6))
        for line in ax.lines
        if line.get_marker() in ("*", "X")
    }


def test_rules_are_told_apart_by_colour_and_line():
    looks = [lab.look_of(name) for name in RULES]
    assert len({look["color"] for look in looks}) == len(RULES)
    assert len({str(look["linestyle"]) for look in looks}) == len(RULES)
    assert lab.look_of("mean") == style.MEAN
    assert lab.look_of("consensus") == style.CONSENSUS


def test_draw_paths_shows_every_path_and_the_zero_points(runs):
    picture = lab.draw_paths(PATCH, runs)
    for ax, (rule, paths) in zip(picture.axes, runs.items(), strict=True):
        assert ax.get_title() == rule
        for s in range(len(STARTS)):
            assert shows(ax, paths.weights[:, s].numpy())
        assert shows(ax, paths.ends.numpy())
        assert marks(ax) == {(0.0, 0.0), (1.5, 1.5)}


@pytest.mark.parametrize("landscape", LANDSCAPES.values(), ids=list(LANDSCAPES))
def test_maps_are_darker_where_the_loss_is_higher(landscape):
    picture = lab.draw_examples(landscape)
    assert len(picture.axes) == landscape.examples + 1
    losses = landscape.losses(grid_of_starts(landscape, 240))
    wanted = [*losses.unbind(dim=-1), losses.mean(dim=-1)]
    for ax, loss in zip(picture.axes, wanted, strict=True):
        image = ax.images[0]
        assert image.get_extent() == [-3, 3, -3, 3]
        assert image.origin == "lower"
        grey = torch.as_tensor(np.asarray(image.get_array()))[..., 0]
        order = loss.flatten().argsort()
        assert (grey.flatten()[order].diff() <= 1e-12).all()
        assert grey.max() - grey.min() > 0.2


def test_draw_basins_colours_each_start_by_where_it_leads():
    starts = grid_of_starts(PATCH, 6)
    runs = side_by_side(PATCH, starts.flatten(0, 1), MEAN_AND_CONSENSUS, steps=400)
    picture = lab.draw_basins(PATCH, {n: run.ends.view_as(starts) for n, run in runs.items()})
    colours = {"shared": "#009e73", "crossing": "#cc79a7", "nowhere": "#bdbdbd"}
    for ax, (rule, paths) in zip(picture.axes, runs.items(), strict=True):
        kinds = kinds_of_ends(PATCH, paths.ends)
        shown = np.asarray(ax.images[0].get_array()).reshape(-1, 3)
        assert [to_hex(colour) for colour in shown] == [colours[kind] for kind in kinds]
        assert ax.images[0].origin == "lower"
        assert f"{kinds.count('shared')} shared" in picture.alt.split(f"{rule}: ")[1]


def test_draw_surface_lays_the_paths_on_the_pooled_loss(runs):
    ax = lab.draw_surface(PATCH, runs).axes[0]
    drawn = [np.stack(np.broadcast_arrays(*line.get_data_3d()), axis=1) for line in ax.lines]
    for paths in runs.values():
        heights = paths.losses.mean(dim=-1).numpy()
        for s in range(len(STARTS)):
            path = paths.weights[:, s].numpy()
            (found,) = [d for d in drawn if len(d) == len(path) and np.allclose(d[:, :2], path)]
            above = found[:, 2] - heights[:, s]
            assert above.min() == pytest.approx(above.max())
            assert 0 < above.max() < 0.05


def test_draw_waves_shows_waves_through_the_given_points():
    found = {"true": (1.7, 1.5), "twin": (-1.7, float(np.pi) - 1.5)}
    ax = lab.draw_waves(WAVES, found, [0.5]).axes[0]
    true, twin, given, unseen = (line.get_xydata() for line in ax.lines)
    np.testing.assert_allclose(true, twin, atol=1e-12)
    assert given[:, 0].tolist() == [-1.0, 1.0]
    for x, y in (*given, *unseen):
        assert y == pytest.approx(np.sin(1.7 * x + 1.5))


def test_draw_descent_shows_path_losses_and_who_stands_still(runs):
    picture = draw_descent(PATCH, runs)
    map_axes, *pairs = picture.axes
    for paths, losses, moves in zip(runs.values(), pairs[::2], pairs[1::2], strict=True):
        assert shows(map_axes, paths.weights[:, 0].numpy())
        for i in range(2):
            expected = np.stack([np.arange(61), paths.losses[:, 0, i].numpy()], axis=1)
            assert shows(losses, expected)
        for bar, weight in zip(moves.lines, range(2), strict=True):
            gaps = np.isnan(bar.get_ydata()).reshape(-1, 2)
            assert (gaps == paths.masked[:, 0, weight].numpy()[:, None]).all()
    assert runs["consensus"].masked[:, 0, 1].any()
    assert "mean ends at" in picture.alt


def test_where_it_ends_names_the_point_or_the_loss_that_is_left():
    def said(a, b):
        return where_it_ends(PATCH, torch.tensor([a, b], dtype=torch.float64))

    assert (said(0.0, 0.0), said(1.5, 1.5)) == ("shared", "crossing")
    for place, form in (((-2.0, 1.0), ".2f"), ((1.5, 1.52), ".0e")):
        left = PATCH.losses(torch.tensor(place, dtype=torch.float64)).mean()
        assert said(*place) == f"loss {left:{form}}"
