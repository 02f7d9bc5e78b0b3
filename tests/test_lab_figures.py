"""Figures: every one is whole, readable, described and repeatable, and says what was computed."""

import re
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.text import Text

import consensus_lib as cl
from course import arc, rules
from course.figures import agreement, grids, invariance, linear_votes, style, two_weights
from course.figures.curves import draw_curves
from course.figures.one_step import draw_step, who_pays
from course.figures.one_weight import draw_losses, draw_path, draw_votes
from course.figures.two_weights_descent import draw_descent, where_it_ends
from course.toys import spirals
from course.toys.basins import count_ends, grid_of_starts
from course.toys.landscapes import LANDSCAPES
from course.toys.paths import side_by_side

PATCH, WAVES = LANDSCAPES["patchwork"], LANDSCAPES["waves"]
BOTH = {"mean": cl.Mean(), "consensus": cl.Consensus()}
ABSTAIN = cl.Consensus(zeros="abstain")
TINY = spirals.Recipe(environments=3, dimensions=2, examples=8, width=8, steps=6)
PAGE = torch.tensor([[0.4, 1.0, 0.0], [1.2, -1.0, 1.0]], dtype=torch.float64)
PAIR = arc.Pair([[0, 1, 0], [1, 0, 1]], [[0, 1, 2], [1, 2, 1]])
STEPS = np.linspace(0.0, -0.6, 31)


@cache
def paths():
    return side_by_side(PATCH, [(-2.5, 0.5), (-2.0, 1.0), (2.5, -1.5)], BOTH, steps=60)


@cache
def ends():
    starts = grid_of_starts(PATCH, 6)
    runs = side_by_side(PATCH, starts.flatten(0, 1), BOTH, steps=400)
    return {name: run.ends.view_as(starts) for name, run in runs.items()}


@cache
def outcomes():
    return {
        n: [spirals.fit(TINY, r, 1e-2, seed=s, every=2) for s in (0, 1)] for n, r in BOTH.items()
    }


def studied():
    settings = [("mean", 0.1, 0.0, 0.3), ("mean", 0.2, 0.0, 0.4), ("mean", 0.1, 1e-3, 0.1)]
    settings += [("mean", 0.2, 1e-3, 0.1)]
    settings += [("consensus", rate, decay, 0.5) for _, rate, decay, _ in settings]
    names = ["rule", "learning_rate", "weight_decay", "held_out"]
    return pd.DataFrame(settings, columns=names)


A_LAYER = (
    torch.tensor([[1.0, -2.0, 0.0], [3.0, 1.0, 2.0]]),
    torch.tensor([[0.5, -1.0], [2.0, 1.0]]),
)
CONFLICT = {"conflict": torch.tensor([[2.0, 2.0], [0.2, -1.0]], dtype=torch.float64)}
WALKS = {"SGD": [1.0, 2.0, 2.0], "Adam": [1.0, 2.0, 2.5]}
LOSSES = {"mean": torch.tensor([[0.5, 0.6, 0.7], [0.3, 0.4, 0.8]], dtype=torch.float64)}
NETWORK = spirals.make_network(TINY, seed=0)

# each figure of the lessons, and what its alternative text says among other things
PICTURES = {
    "votes": (
        lambda: draw_votes([1.0, -2.0, 2.0]),
        "example 2: g = −2; .*mean = \\+0.333; consensus = 0",
    ),
    "votes of long numbers": (lambda: draw_votes([-0.333, -0.667, -0.123]), "consensus = −0.123"),
    "votes with zeros": (lambda: draw_votes([0, 1, 2], ABSTAIN), "abstain = \\+1$"),
    "the mean's votes": (lambda: draw_votes([1, 2, 2], None), "mean = \\+1.67$"),
    "losses": (
        lambda: draw_losses([1.0, -2.0, 2.0]),
        "example 1, mean: better, consensus: as before; example 2, mean: worse",
    ),
    "losses of four": (lambda: draw_losses([1.0, -2.0, 2.0, 0.0], 2.5), "learning rate 2.5"),
    "too far": (
        lambda: draw_losses([0.4, 1.2, 0.3], 2.1),
        "example 3, mean: worse, consensus: worse",
    ),
    "path": (
        lambda: draw_path([0.4, 1.2, 0.4], STEPS, STEPS / 2),
        "ends at -0.600 by the mean, at -0.300",
    ),
    "step": (
        lambda: draw_step([1, -2, 2]),
        "mean: w = −0.333, example 2 pays. consensus: w stays, nobody",
    ),
    "step of six": (
        lambda: draw_step([1, -2, 2, -1, 2, 2]),
        "w = −0.667, examples 2 and 4 pay. .*w stays",
    ),
    "half a step": (lambda: draw_step([-1, -1, 5], 0.5), "w = −0.5, all but example 3 pay"),
    "large step": (
        lambda: draw_step([1, 1], 2.5),
        "w = −2.5, all pay. consensus: w = −2.5, all pay",
    ),
    "step with zeros": (lambda: draw_step([0, 1, 2], consensus=ABSTAIN), "w = −1, example 1 pays"),
    "family": (
        lambda: agreement.draw_family(PAGE, {"mean": cl.Mean(), "abstain": ABSTAIN}, list("abc")),
        "at a, b, c. mean: \\+0.8, 0, \\+0.5; abstain: \\+0.4, 0, \\+1",
    ),
    "power means": (lambda: agreement.draw_power_means([0.4, 1.2, 0.3]), "rises with p"),
    "shares": (
        lambda: agreement.draw_shares(
            {"coins": {2: 0.5, 4: 0.12}}, {"coins": lambda n: 2.0 ** (1 - n)}
        ),
        "coins 0.5 of 2, 0.12 of 4 voters",
    ),
    "walks": (
        lambda: agreement.draw_walks(WALKS, WALKS, 1),
        "SGD 2.00 and 2.00, Adam 2.50 and 2.50",
    ),
    "plane": (
        lambda: agreement.draw_plane(CONFLICT, {n: rule.reduce for n, rule in BOTH.items()}),
        "mean, consensus for two examples: conflict",
    ),
    "sign patterns": (
        lambda: linear_votes.draw_sign_patterns(*A_LAYER),
        "of 2 examples.*\\[\\[2, 0, 1\\], \\[0, 2, 1\\]\\]",
    ),
    "unanimous": (
        lambda: linear_votes.draw_unanimous({"mixed": {2: 0.5, 8: 0.01}}),
        "mixed 0.5 of 2, 0.01 of 8",
    ),
    "weights": (
        lambda: invariance.draw_weights({n: torch.tensor([1.0, -2.0]) for n in BOTH}, ["a", "b"]),
        "mean: 1.00, -2.00; consensus: 1.00, -2.00",
    ),
    "many environments": (
        lambda: invariance.draw_many_environments([2, 5], LOSSES, 8, 0.25),
        "mean for 2 to 5 environments",
    ),
    "environments": (
        lambda: invariance.draw_environments(spirals.draw_data(TINY, 0)),
        "environment 2, test",
    ),
    "accuracies": (
        lambda: invariance.draw_accuracies(outcomes(), "A title"),
        "at the end: mean: 0",
    ),
    "answers": (
        lambda: invariance.draw_answers(dict.fromkeys(BOTH, NETWORK), spirals.draw_data(TINY, 0)),
        "accuracy of mean: 0",
    ),
    "grid": (lambda: invariance.draw_grid(studied()), "mean: 0.2 and 0; consensus: 0.1 and 0$"),
    "paths": (lambda: two_weights.draw_paths(PATCH, paths()), "from many starts: mean, consensus"),
    "examples": (lambda: two_weights.draw_examples(PATCH), "each example alone and of all"),
    "basins": (
        lambda: two_weights.draw_basins(PATCH, ends()),
        "mean: \\d+ shared, \\d+ crossing, .*; consensus",
    ),
    "surface": (
        lambda: two_weights.draw_surface(PATCH, paths()),
        "a surface, with the paths of mean",
    ),
    "waves": (
        lambda: two_weights.draw_waves(WAVES, {"true": (1.7, 1.5)}, [0.5]),
        "2 given points: true",
    ),
    "descent": (
        lambda: draw_descent(PATCH, paths()),
        "from \\(-2.50, 0.50\\): mean ends at .*; consensus ends",
    ),
    "task": (lambda: grids.draw_task(arc.load_task("a699fb00")), "a699fb00: 3 training and 1 test"),
    "wide task": (
        lambda: grids.draw_task(arc.load_task("794b24be")),
        "794b24be: 10 training and 2 test",
    ),
    "hidden task": (lambda: grids.draw_task(arc.load_task("4258a5f9"), hide_test=True), "4258a5f9"),
    "prediction": (
        lambda: grids.draw_prediction(PAIR, [[0, 1, 2], [0, 2, 3]]),
        "2 of 6 cells wrong",
    ),
    "right prediction": (lambda: grids.draw_prediction(PAIR, PAIR.output), "all 6 cells right"),
    "curves": (
        lambda: draw_curves({n: [o.history for o in of] for n, of in outcomes().items()}, ["loss"]),
        "Curves of training loss for mean, consensus",
    ),
}


TICKS = {"−3", "−2", "−1", "0", "1", "2", "3"}


def png_size(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


def written(picture):
    """Every text that is drawn; ticks beyond the ends of an axis are not."""
    beyond = set()
    for ax in picture.axes:
        for axis, ends_ in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not ax.axison or not min(ends_) <= tick.get_loc() <= max(ends_):
                    beyond |= {tick.label1, tick.label2}
    shown = [t for t in picture.findobj(Text) if t.get_text().strip() and t.get_visible()]
    return [text for text in shown if text not in beyond]


@pytest.mark.parametrize(("draw", "words"), PICTURES.values(), ids=PICTURES)
def test_a_picture_is_described_the_same_again_readable_and_whole(draw, words):
    picture = draw()
    assert re.search(words, picture.alt), picture.alt
    data, metadata = picture._repr_png_()
    assert metadata == {"alt": picture.alt}
    assert data == draw().png()
    assert "\n" not in repr(picture) == str(picture)
    width, height = png_size(data)
    assert (width, height) == pytest.approx(picture.get_size_inches() * 100, abs=1)
    texts = written(picture)
    assert min(text.get_fontsize() for text in texts) >= 12
    if any(ax.name == "3d" for ax in picture.axes):  # its labels are placed while it is drawn
        return
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for number, (text, box) in enumerate(boxes):
        assert -1 <= box.x0 < box.x1 <= width + 1, text
        assert -1 <= box.y0 < box.y1 <= height + 1, text
        for other_text, other in boxes[:number]:
            both_ticks = {text, other_text} <= TICKS  # of neighbouring axes they may touch
            assert both_ticks or not box.padded(-4).overlaps(other), (text, other_text)


def test_user_settings_stay_and_do_not_matter():
    plain = PICTURES["losses"][0]().png()
    with mpl.rc_context({"font.size": 5, "figure.dpi": 37, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        assert PICTURES["losses"][0]().png() == plain
        assert dict(mpl.rcParams) == before


def test_threads_draw_the_same_pictures():
    tasks = [arc.load_task(task_id) for task_id in arc.task_ids()[:4]]

    def png(task):
        return grids.draw_task(task).png()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(png, tasks)) == [png(task) for task in tasks]


def test_basins_say_how_many_starts_lead_where():
    alt = two_weights.draw_basins(PATCH, ends()).alt
    for rule, where in ends().items():
        counts = count_ends(PATCH, where)
        assert f"{rule}: {', '.join(f'{n} {kind}' for kind, n in counts.items())}" in alt


def test_where_a_path_ends_is_a_point_or_the_loss_that_is_left():
    def said(a, b):
        return where_it_ends(PATCH, torch.tensor([a, b], dtype=torch.float64))

    assert (said(0.0, 0.0), said(1.5, 1.5)) == ("shared", "crossing")
    for place, form in (((-2.0, 1.0), ".2f"), ((1.5, 1.52), ".0e")):
        left = PATCH.losses(torch.tensor(place, dtype=torch.float64)).mean()
        assert said(*place) == f"loss {left:{form}}"


def test_who_lands_on_the_far_end_of_the_band_does_not_pay():
    assert who_pays([1.0, -1.0, 0.0], -2.0) == [2, 3]
    assert who_pays([1.0, -1.0, 0.0], -2.0001) == [1, 2, 3]
    assert who_pays([1.0, -1.0, 0.0], 0.0) == []


@pytest.mark.parametrize("draw", [draw_votes, draw_losses, draw_step])
@pytest.mark.parametrize("gradients", [[], [[1.0, 2.0]], 1.0])
def test_what_is_no_list_of_numbers_is_refused(draw, gradients):
    with pytest.raises(ValueError, match="list of numbers"):
        draw(gradients)


@pytest.mark.parametrize(
    ("pair", "prediction", "words"),
    [(arc.Pair([[1]]), [[1]], "hidden"), (PAIR, [[1]], "shape"), (PAIR, [[11]], "11 is no colour")],
)
def test_a_prediction_that_cannot_be_judged_is_refused(pair, prediction, words):
    with pytest.raises(ValueError, match=words):
        grids.draw_prediction(pair, np.array(prediction))


def test_cells_have_the_official_colours_whichever_occur():
    official = ["#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00"]
    official += ["#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25"]
    picture, ax = style.new_figure(size=(2, 1))
    ax.set_position((0, 0, 1, 1))
    for grid in (np.arange(10).reshape(2, 5), np.array([[8, 8], [8, 9]])):
        ax.clear()
        grids.draw_grid(ax, grid)
        style.hold_still(picture, left=0, right=1, bottom=0, top=1)
        picture.canvas.draw()
        pixels = np.asarray(picture.canvas.buffer_rgba())[..., :3]
        height, width = grid.shape
        box = ax.get_window_extent()
        for (row, column), colour in np.ndenumerate(grid):
            x = int(box.x0 + box.width * (column + 0.5) / width)
            y = int(100 - box.y1 + box.height * (row + 0.5) / height)
            wanted = [round(255 * part) for part in to_rgb(official[colour])]
            assert pixels[y, x].tolist() == wanted


def test_every_rule_has_a_look_of_its_own_in_any_company():
    names = [*rules.RULES, "scaled mean", "slow mean"]
    looks = style.looks_of(names)
    told = {(look["color"], str(look["linestyle"])) for look in looks.values()}
    assert len(told) == len(names)
    for name, look in looks.items():
        assert look == style.look_of(name)
        assert np.dot(to_rgb(look["color"]), (0.2126, 0.7152, 0.0722)) < 0.7, "visible on white"
    # Blue against orange-red: every kind of colour blindness tells them apart.
    mean, consensus = (np.array(to_rgb(looks[name]["color"])) for name in BOTH)
    assert mean[2] - mean[0] > 0.4
    assert consensus[0] - consensus[2] > 0.4


def test_what_is_no_rule_takes_a_look_that_is_left():
    looks = style.looks_of(["mean", "AND-mask", "MGDA", "UPGrad"])
    assert len({look["color"] for look in looks.values()}) == 4
    assert looks["MGDA"] != style.looks_of(["mean", "UPGrad", "MGDA"])["MGDA"]


def test_an_untitled_picture_has_a_stable_name_and_a_titled_one_its_title():
    assert repr(style.new_figure()[0]) == "<Picture: untitled>"
    picture, _ = style.new_figure(size=(6, 3), title="Two valleys")
    assert repr(picture) == "<Picture: Two valleys>"
    assert picture._repr_png_()[1] == {"alt": "Two valleys"}
    assert png_size(picture.png()) == (600, 300)
