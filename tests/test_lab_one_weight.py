"""The figures of notebook 01: what they say and show, read from matplotlib's objects."""

import struct

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.text import Text

from consensus_lib import Consensus
from course.figures import style
from course.figures.one_step import draw_step, who_pays
from course.figures.one_weight import draw_losses, draw_path, draw_votes

ABSTAIN = Consensus(zeros="abstain")
STEPS = np.linspace(0.0, -0.6, 31)
PICTURES = {
    "votes": lambda: draw_votes([+1.0, -2.0, +2.0]),
    "votes of long numbers": lambda: draw_votes([-0.333, -0.667, -0.123]),
    "votes of eight": lambda: draw_votes([1, 2, 3, 4, 5, 6, 7, -8]),
    "the mean's votes": lambda: draw_votes([1, 2, 2], consensus=None),
    "losses": lambda: draw_losses([+1.0, -2.0, +2.0]),
    "small losses": lambda: draw_losses([+0.04, +0.12, +0.03]),
    "losses of four": lambda: draw_losses([+1.0, -2.0, +2.0, 0.0], learning_rate=2.5),
    "step": lambda: draw_step([+1.0, -2.0, +2.0]),
    "step of two": lambda: draw_step([+0.5, 0.0], learning_rate=0.1),
    "large step of six": lambda: draw_step([3.0, 3.0, 3.0, 3.0, 3.0, -3.0], learning_rate=2.5),
    "path": lambda: draw_path([0.4, 1.2, 0.3], STEPS, STEPS / 2),
    "path with one optimum": lambda: draw_path([0.4, 0.4, 0.4], STEPS, STEPS),
}


@pytest.fixture(params=PICTURES)
def picture(request):
    return PICTURES[request.param]()


def png_size(picture):
    return struct.unpack(">II", picture.png()[16:24])


def written(picture):
    """Every text that is drawn; ticks beyond the ends of an axis are not."""
    beyond = set()
    for ax in picture.axes:
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, sorted(ax.get_ylim()))):
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    beyond |= {tick.label1, tick.label2}
    shown = [t for t in picture.findobj(Text) if t.get_text().strip() and t.get_visible()]
    return [text for text in shown if text not in beyond]


def row_of(ax, start):
    """The height of the row whose label starts so."""
    labels = {t.get_text(): y for t, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    return next(y for name, y in labels.items() if name.startswith(start))


def arrow(ax, start):
    """(end, has a head pointing right, head pointing left, line style) of a row."""
    height = row_of(ax, start)
    artists = [a for a in ax.lines if len(a.get_ydata()) and np.all(a.get_ydata() == height)]
    head = next(a for a in artists if a.get_marker() not in ("", "None", None))
    line = next((a for a in artists if len(a.get_xdata()) == 2), None)
    return head.get_xdata()[0], head.get_marker(), line and line.get_linestyle(), head.get_color()


def points(ax):
    return {line.get_label(): (*line.get_xdata(), *line.get_ydata()) for line in ax.lines[1:]}


def test_votes_point_against_the_gradient():
    ax = draw_votes([+1.0, -2.0, +2.0]).axes[0]
    ends = [arrow(ax, f"example {i}")[0] for i in (1, 2, 3)]
    assert ends == [-1, +2, -2]
    left, right = (arrow(ax, f"example {i}")[1] for i in (1, 2))
    assert left != right
    assert arrow(ax, "example 3")[1] == left


def test_updates_are_told_apart_twice():
    ax = draw_votes([+0.4, +1.2, +0.3]).axes[0]
    mean, consensus = arrow(ax, "mean"), arrow(ax, "consensus")
    assert mean[0] == pytest.approx(-1.9 / 3)
    assert consensus[0] == pytest.approx(-0.3)
    assert mean[2:] == (style.MEAN["linestyle"], style.MEAN["color"])
    assert consensus[2:] == (style.CONSENSUS["linestyle"], style.CONSENSUS["color"])
    assert [t.get_text() for t in ax.get_yticklabels()][-2:] == [
        "mean = +0.633",
        "consensus = +0.3",
    ]


def test_zero_is_a_dot():
    ax = draw_votes([0.0, 1.0, 2.0]).axes[0]
    for name in ("example 1", "consensus"):
        end, marker, linestyle, _ = arrow(ax, name)
        assert (end, marker, linestyle) == (0, "D", None)
    assert arrow(draw_votes([0.0, 1.0, 2.0], consensus=ABSTAIN).axes[0], "abstain")[0] == -1


def test_votes_start_at_the_weight():
    ax = draw_votes([0.5, 0.5], weight=-1.0).axes[0]
    assert arrow(ax, "example 1")[0] == arrow(ax, "mean")[0] == -1.5


@pytest.mark.parametrize("draw", [draw_votes, draw_losses])
def test_axes_stand_still_under_small_changes(draw):
    one, other = draw([+1.0, -1.8, +1.7]), draw([+1.1, -1.9, +1.8])
    assert [ax.get_xlim() for ax in one.axes] == [ax.get_xlim() for ax in other.axes]
    assert [ax.get_ylim() for ax in one.axes] == [ax.get_ylim() for ax in other.axes]
    one.png(), other.png()
    assert one.axes[0].get_position().bounds == other.axes[0].get_position().bounds


def test_limits_can_be_given():
    assert draw_votes([1.0], limit=5).axes[0].get_xlim() == (-5, 5)
    ax = draw_losses([1.0], limit=5, top=7).axes[0]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-5, 5), (0, 7))
    assert draw_path([1.0], STEPS, STEPS, limits=(-2, 2)).axes[0].get_ylim() == (-2, 2)


def test_losses_before_and_after():
    picture = draw_losses([+1.0, -2.0, +2.0])
    seen = [points(ax) for ax in picture.axes]
    for found, before, after in zip(seen, (0.5, 2.0, 2.0), (2 / 9, 49 / 18, 25 / 18), strict=True):
        assert found["before the step"] == (0, before)
        assert found["after the mean step"] == pytest.approx((-1 / 3, after))
        assert found["after the consensus step"] == (0, before)
    assert [ax.get_title() for ax in picture.axes] == [
        "example 1\nmean: better\nconsensus: as before",
        "example 2\nmean: worse\nconsensus: as before",
        "example 3\nmean: better\nconsensus: as before",
    ]


def test_losses_at_a_learning_rate_that_breaks_the_promise():
    picture = draw_losses([+0.4, +1.2, +0.3], learning_rate=2.1)
    verdicts = [ax.get_title().splitlines()[-1] for ax in picture.axes]
    assert verdicts == ["consensus: better", "consensus: better", "consensus: worse"]


def table(picture):
    """{column: texts from top to bottom} of the losses of a step."""
    columns = {}
    for text in sorted(picture.axes[0].texts, key=lambda t: t.get_position()[1]):
        columns.setdefault(text.get_position()[0], []).append(text)
    return {column[0].get_text(): column[1:] for column in columns.values()}


def test_a_step_lists_every_loss_and_marks_who_pays():
    g = [+0.4, +1.2, +0.3]
    columns = table(draw_step(g))
    places = {"before": 0.0, "mean": -1.9 / 3, "consensus": -0.3}
    assert set(columns) == set(places)
    for name, w in places.items():
        losses = [(w + x) ** 2 / 2 for x in g]
        losses.append(sum(losses) / 3)
        shown = [t.get_text() for t in columns[name]]
        assert [text[:5] for text in shown] == [f"{loss:.3f}" for loss in losses]
        signs = {"before": "", "mean": "▼▼▲▼", "consensus": "▼▼▼▼"}[name]
        assert "".join(text[6:] for text in shown) == signs
    marked = [t for texts in columns.values() for t in texts if t.get_bbox_patch()]
    assert [t.get_text() for t in marked] == ["0.056 ▲"]


def test_a_step_lands_on_every_row():
    ax = draw_step([+1.0, -2.0, +2.0], learning_rate=0.6).axes[0]
    for marker, place in (("o", -0.2), ("s", 0.0)):
        points = [a for a in ax.lines if a.get_marker() == marker]
        assert [a.get_xdata()[0] for a in points] == pytest.approx([place] * 3)
        assert [a.get_ydata()[0] for a in points] == [row_of(ax, f"example {i}") for i in (1, 2, 3)]
    assert arrow(ax, "mean")[0] == pytest.approx(-0.2)
    bands = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches]
    assert [sorted(band) for band in bands] == [[-2, 0], [0, 3.3], [-3.3, 0]]


@pytest.mark.parametrize(
    ("gradients", "learning_rate", "sentences"),
    [
        ([+1, -2, +2], 1.0, ["mean: w = −0.333, example 2 pays", "w stays, nobody pays"]),
        ([-1, -1, +5], 0.5, ["mean: w = −0.5, all but example 3 pay", "w stays, nobody pays"]),
        ([1, 1], 2.5, ["mean: w = −2.5, all pay", "consensus: w = −2.5, all pay"]),
        ([1, -2, 2, -1, 2, 2], 1.0, ["w = −0.667, examples 2 and 4 pay", "w stays"]),
    ],
)
def test_a_step_says_who_pays(gradients, learning_rate, sentences):
    alt = draw_step(gradients, learning_rate).alt
    for sentence in sentences:
        assert sentence in alt


def test_who_lands_on_the_far_end_of_the_band_does_not_pay():
    assert who_pays([1.0, -1.0, 0.0], -2.0) == [2, 3]
    assert who_pays([1.0, -1.0, 0.0], -2.0001) == [1, 2, 3]
    assert who_pays([1.0, -1.0, 0.0], 0.0) == []


def test_zeros_may_abstain_from_a_step():
    assert "consensus: w stays" in draw_step([0.0, 1.0, 2.0]).alt
    assert "consensus: w = −1, example 1 pays" in draw_step([0, 1, 2], consensus=ABSTAIN).alt


def test_the_mean_alone():
    assert len(draw_votes([1.0, 2.0], consensus=None).axes[0].get_yticks()) == 3
    picture = draw_losses([1.0, 2.0], consensus=None)
    assert list(points(picture.axes[0])) == ["before the step", "after the mean step"]
    assert "consensus" not in picture.alt


def test_path_shows_both_rules_and_every_optimum():
    ax = draw_path([0.4, 1.2, 0.3], torch.tensor(STEPS), STEPS / 2).axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["mean"].get_ydata(), STEPS)
    np.testing.assert_allclose(lines["consensus"].get_ydata(), STEPS / 2)
    assert lines["mean"].get_color() == style.MEAN["color"]
    assert lines["consensus"].get_linestyle() == style.CONSENSUS["linestyle"]
    heights = {t.get_text(): t.get_position()[1] for t in ax.texts}
    assert heights == {"optimum of 1": -0.4, "optimum of 2": -1.2, "optimum of 3": -0.3}


def test_optima_in_one_place_share_a_name():
    ax = draw_path([0.4, 1.2, 0.4], STEPS, STEPS).axes[0]
    assert {t.get_text() for t in ax.texts} == {"optimum of 1, 3", "optimum of 2"}


def test_texts_are_large_whole_and_apart(picture):
    width, height = png_size(picture)
    assert min(text.get_fontsize() for text in written(picture)) >= 12
    boxes = [(t.get_text(), t.get_window_extent()) for t in written(picture)]
    for number, (name, box) in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width, name
        assert 0 <= box.y0 < box.y1 <= height, name
        for other_name, other in boxes[:number]:
            assert not box.overlaps(other), (name, other_name)


def test_pictures_keep_their_size():
    assert png_size(PICTURES["votes"]()) == png_size(PICTURES["votes of eight"]()) == (900, 400)
    assert png_size(PICTURES["losses"]()) == png_size(PICTURES["losses of four"]()) == (900, 500)
    assert png_size(PICTURES["path"]()) == (900, 450)
    assert {png_size(PICTURES[p]()) for p in PICTURES if "step" in p} == {(560, 440)}


def test_pictures_are_described_and_reproducible(picture):
    assert len(picture.alt) > 20
    assert "\n" not in repr(picture)
    assert picture.png() == picture.png()


@pytest.mark.parametrize("draw", [draw_votes, draw_losses, draw_step])
@pytest.mark.parametrize("gradients", [[], [[1.0, 2.0]], 1.0])
def test_what_is_no_list_of_numbers_is_refused(draw, gradients):
    with pytest.raises(ValueError, match="list of numbers"):
        draw(gradients)


def test_no_global_settings():
    plain = PICTURES["losses"]().png()
    with mpl.rc_context({"font.size": 5, "figure.dpi": 37, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        assert png_size(PICTURES["losses"]()) == (900, 500)
        assert dict(mpl.rcParams) == before
    assert PICTURES["losses"]().png() == plain
