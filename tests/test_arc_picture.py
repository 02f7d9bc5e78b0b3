"""The picture of the ARC lab: it says what is newest, and keeps its axes while runs grow."""

import struct
from dataclasses import replace

import pytest

from course import arc
from course.figures.arc_picture import draw_lab
from course.figures.arc_runs import ArcRun, Settings

QUICK = Settings(task="3618c87e", steps=4)
TASK, OTHER = arc.load_task("3618c87e"), arc.load_task("a699fb00")


def trained(number=1, **changes):
    run = ArcRun(replace(QUICK, **changes), number)
    run.train()
    return run


@pytest.fixture(scope="module")
def runs():
    settings = ({"rule": "mean"}, {"seeds": (0, 1, 2)}, {"zeros": "abstain"}, {"rule": "AND-mask"})
    return [trained(number, **changes) for number, changes in enumerate(settings, start=1)]


def test_it_says_how_many_cells_the_newest_prediction_has_wrong(runs):
    pair = TASK.test[0]
    prediction = runs[-1].records[-1].final.predictions[0]
    wrong = int((prediction != pair.output).sum())
    said = f"test pair 1, seed 0, step 4: {wrong} of {pair.input.size} wrong"
    assert draw_lab(TASK, runs, 4).alt == f"ARC task 3618c87e, {said}"
    for task, shown in ((TASK, []), (OTHER, runs)):  # these are runs on another task
        assert "so far the input itself" in draw_lab(task, shown, 4).alt


def test_a_growing_run_has_a_thin_line_a_seed_and_an_ended_one_a_thick_median(runs):
    before = draw_lab(TASK, runs, 4).png()
    runs[1].ended, ended = "", runs[1].ended
    assert draw_lab(TASK, runs, 4).png() != before
    runs[1].ended = ended
    assert draw_lab(TASK, runs, 4).png() == before


def test_drawing_on_the_picture_before_shows_the_same(runs):
    before = draw_lab(TASK, runs[:2], 4)
    before.png()
    again = draw_lab(TASK, runs, 4, before)
    assert again is before
    assert again.png() == draw_lab(TASK, runs, 4).png()
    assert draw_lab(TASK, runs, 5, before) is not before
    assert draw_lab(OTHER, runs, 4, before) is not before


def test_axes_hold_every_loss_of_ended_runs_and_stand_still_while_one_grows():
    ended, growing = trained(rule="mean"), ArcRun(QUICK, 2)
    before = draw_lab(TASK, [], 4)
    ended.records[0].loss[1:] = 1e-7, 60.0, 1.0
    assert draw_lab(TASK, [ended, growing], 4, before) is before
    growing.train()
    task, steps, (least, most) = draw_lab(TASK, [ended, growing], 4, before).frame
    assert (task, steps) == (TASK, 4)
    assert least <= 1e-7
    assert most >= 60
    ended.records[0].loss[2] = 1e30
    assert draw_lab(TASK, [ended], 4).frame[2][1] == 1e4, "others can still be read"


def test_every_picture_has_one_size_and_no_text_is_cut(runs):
    sizes = set()
    for shown in ([], runs, runs + runs[2:], [*runs, trained(seeds=(9999,))]):
        picture = draw_lab(TASK, shown, 4)
        width, height = struct.unpack(">II", picture.png()[16:24])
        sizes.add((width, height))
        texts = [*picture.texts, *picture.legends]
        for ax in picture.axes:
            texts += [ax.title, *ax.texts]
        for box in (text.get_window_extent() for text in texts):
            assert -1 <= box.x0 <= box.x1 <= width + 1
            assert -1 <= box.y0 <= box.y1 <= height + 1
    assert len(sizes) == 1
