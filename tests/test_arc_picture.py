"""The picture of the ARC lab: curves of the runs' numbers, and the prediction beside the target."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from course import arc
from course.figures import style
from course.figures.arc_picture import draw_lab
from course.figures.arc_runs import ArcRun, Settings

QUICK = Settings(task="3618c87e", steps=4)
TASK = arc.load_task("3618c87e")


@pytest.fixture(scope="module")
def runs():
    settings = [
        replace(QUICK, rule="mean"),
        replace(QUICK, seeds=(0, 1, 2)),
        replace(QUICK, zeros="abstain"),
        replace(QUICK, rule="AND-mask", threshold=0.6),
    ]
    made = [ArcRun(s, number) for number, s in enumerate(settings, start=1)]
    for run in made:
        run.train()
    return made


def axes_of(picture):
    return {ax.get_title(): ax for ax in picture.axes}


def curves(ax):
    """The lines of runs in an axes; the floor's are dotted in grey."""
    return [line for line in ax.lines if line.get_color() != style.NEUTRAL]


def cells(ax):
    return next(a for a in ax.collections if isinstance(a, QuadMesh)).get_array()


def test_each_curve_is_the_run_s(runs):
    picture = axes_of(draw_lab(TASK, runs, 4))
    for title, name in (("loss, nats per cell", "loss"), ("consensus ratio", "consensus_ratio")):
        drawn = [list(line.get_ydata()) for line in curves(picture[title])]
        for run in runs:
            for record in run.records:
                assert getattr(record, name) in drawn
        seeds = [getattr(record, name) for record in runs[1].records]
        assert np.median(seeds, axis=0).tolist() in drawn


def test_rules_keep_their_colours_and_no_two_runs_look_alike(runs):
    picture = draw_lab(TASK, [*runs, runs[1]], 4)
    (legend,) = picture.legends
    looks = [
        (line.get_color(), str(line.get_linestyle()), line.get_marker())
        for line in legend.get_lines()
    ]
    assert [look[0] for look in looks[:3]] == [
        style.MEAN["color"],
        style.CONSENSUS["color"],
        style.CONSENSUS["color"],
    ]
    assert len(set(looks)) == 5
    names = [text.get_text() for text in legend.get_texts()]
    assert names[:3] == ["1 mean", "2 consensus", "3 consensus abstain"]


def test_the_floor_is_that_of_the_voters(runs):
    ratio = axes_of(draw_lab(TASK, runs, 4))["consensus ratio"]
    (floor,) = (line for line in ratio.lines if line.get_color() == style.NEUTRAL)
    assert floor.get_ydata()[0] == 2.0 ** (1 - len(TASK.train))


def test_the_newest_prediction_stands_beside_the_target(runs):
    empty = axes_of(draw_lab(TASK, [], 4))
    assert np.array_equal(cells(empty["prediction"]), TASK.test[0].input)
    shown = axes_of(draw_lab(TASK, runs, 4))
    prediction = runs[-1].records[-1].examination.predictions[0]
    assert np.array_equal(cells(shown["prediction"]), prediction)
    assert np.array_equal(cells(shown["target"]), TASK.test[0].output)


def test_a_prediction_for_another_task_is_not_shown(runs):
    other = arc.load_task("a699fb00")
    picture = axes_of(draw_lab(other, runs, 4))
    assert np.array_equal(cells(picture["prediction"]), other.test[0].input)


def test_a_hidden_target_is_a_question_mark(runs):
    target = axes_of(draw_lab(TASK.hidden(), [], 4))["target"]
    assert [text.get_text() for text in target.texts] == ["?"]


def test_drawing_on_the_picture_before_shows_the_same(runs):
    before = draw_lab(TASK, runs[:2], 4)
    before.png()
    again = draw_lab(TASK, runs, 4, before)
    assert again is before
    assert again.png() == draw_lab(TASK, runs, 4).png()
    assert draw_lab(TASK, runs, 5, before) is not before
    assert draw_lab(arc.load_task("a699fb00"), runs, 4, before) is not before


def test_the_axes_hold_every_step_and_loss_of_ended_runs():
    long = ArcRun(replace(QUICK, steps=6))
    long.train()
    long.records[0].loss[2:4] = 60.0, 2e-6
    ax = axes_of(draw_lab(TASK, [long], 4))["loss, nats per cell"]
    assert ax.get_xlim() == (0, 6)
    assert ax.get_ylim()[0] <= min(long.records[0].loss)
    assert max(long.records[0].loss) <= ax.get_ylim()[1]


def test_axes_stand_still_while_a_run_grows():
    ended, growing = ArcRun(replace(QUICK, rule="mean")), ArcRun(QUICK, 2)
    ended.train()
    before = draw_lab(TASK, [], 4)
    ended.records[0].loss[-1] = 1e-7
    assert draw_lab(TASK, [ended, growing], 4, before) is before
    growing.train()
    assert draw_lab(TASK, [ended, growing], 4, before).frame[2][0] <= 1e-7


def test_a_loss_that_diverged_leaves_room_for_the_others(runs):
    wild = ArcRun(QUICK)
    wild.train()
    wild.records[0].loss[2] = 1e30
    assert axes_of(draw_lab(TASK, [*runs, wild], 4))["loss, nats per cell"].get_ylim()[1] == 1e4


def test_every_picture_has_one_size_and_nothing_is_cut(runs):
    sizes = set()
    long = ArcRun(replace(QUICK, seeds=(9999,)))
    long.train()
    for metric in ("loss", "consensus_ratio", "test_changed_cell_accuracy"):
        getattr(long.records[0], metric).extend([0.5] * 1996)
    for shown in ([], runs, runs + runs[2:], [*runs, long]):
        picture = draw_lab(TASK, shown, 4)
        png = picture.png()
        width, height = struct.unpack(">II", png[16:24])
        sizes.add((width, height))
        boxes = [text.get_window_extent() for ax in picture.axes for text in ax.texts]
        boxes += [ax.title.get_window_extent() for ax in picture.axes]
        boxes += [t.get_window_extent() for t in (*tick_labels(picture), *picture.texts)]
        boxes += [legend.get_window_extent() for legend in picture.legends]
        for box in boxes:
            assert -1 <= box.x0 <= box.x1 <= width + 1
            assert -1 <= box.y0 <= box.y1 <= height + 1
    assert len(sizes) == 1


def tick_labels(picture):
    """The tick labels that show; matplotlib also keeps some for ticks outside of the axes."""
    for ax in picture.axes:
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            yield from (
                tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
            )
