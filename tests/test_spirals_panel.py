"""The spirals panel, driven as a teacher's script drives it: no browser, no event loop."""

import base64
import threading
import time

import pytest

import consensus_lib as cl
from course.panels.spirals_panel import RULES, Spirals
from course.toys import spirals

PATIENCE = 60
CHANGES = {
    "environments": 3,
    "dimensions": 4,
    "rule": "AND-mask",
    "learning_rate": 3e-3,
    "weight_decay": 1e-3,
    "hold_masked": True,
    "steps": 300,
    "seed": 2,
}


@pytest.fixture
def panel():
    panel = Spirals()
    panel.set(environments=3, dimensions=2, steps=100)
    yield panel
    panel.stop()
    assert panel.wait(PATIENCE)


def run(panel):
    panel.start()
    assert panel.wait(PATIENCE)
    assert panel.problem is None, panel.status


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_new_panel_waits_with_the_recipe_of_the_lesson():
    panel = Spirals()
    assert panel.recipe == spirals.Recipe()
    assert not panel.running
    assert panel.problem is None
    assert panel.reached is None
    assert "not trained" in panel.picture.alt
    assert set(CHANGES) == set(panel.controls)


@pytest.mark.parametrize("rule", RULES)
def test_panel_and_fit_have_the_same_numbers(panel, rule):
    panel.set(rule=rule, hold_masked=True, seed=1, weight_decay=1e-3, learning_rate=3e-3)
    run(panel)
    for course, reduce in zip(panel.courses, (cl.Mean(), RULES[rule]), strict=True):
        own = spirals.fit(panel.recipe, reduce, 3e-3, 1e-3, 1, hold_masked=True, every=20)
        assert course.seen == own.seen
    assert [course.rule for course in panel.courses] == ["mean", rule]
    alike = spirals.alike_everywhere(spirals.draw_data(panel.recipe, 1))
    assert f"{panel.courses[1].test:.2f}" in panel.status
    assert f"{alike} of 2" in panel.status
    assert panel.told["progress"] == 1.0


@pytest.fixture(scope="module")
def first():
    panel = Spirals()
    panel.set(environments=4, dimensions=2, steps=100)
    run(panel)
    return [course.seen for course in panel.courses]


@pytest.mark.parametrize("name", CHANGES)
def test_every_control_changes_the_run(panel, first, name):
    panel.set(**{"environments": 4, name: CHANGES[name]})
    run(panel)
    assert [course.seen for course in panel.courses] != first


@pytest.mark.parametrize("preset", Spirals.presets)
def test_every_preset_can_be_chosen(panel, preset):
    panel.choose(preset)
    assert {**panel.first, **panel.presets[preset]} == panel.values
    assert panel.problem is None


def test_the_picture_moves_while_it_trains_and_stop_answers(panel):
    panel.set(steps=2000)
    frames = {panel.screen}
    panel.start()
    for count in (2, 3):
        until(lambda: panel.screen not in frames)
        frames.add(panel.screen)
        assert len(frames) == count
    threads = threading.active_count()
    panel.start()
    assert threading.active_count() == threads
    panel.stop()
    begin = time.monotonic()
    assert panel.wait(PATIENCE)
    assert time.monotonic() - begin < 5
    assert panel.status == "Stopped."
    assert panel.reached is None


def test_reset_while_running(panel):
    panel.set(steps=2000)
    panel.start()
    until(lambda: panel.courses)
    panel.reset()
    assert not panel.running
    assert panel.courses == []
    assert panel.recipe == spirals.Recipe()


def reached(panel, mean, other, rule="consensus", **asked):
    panel._asked.update(asked)
    panel.courses[1].rule = rule
    for course, test in zip(panel.courses, (mean, other), strict=True):
        course.seen[-1] = (100, 1.0, test)
    panel.redraw()
    return panel.reached


def test_the_target_asks_for_few_environments_and_a_long_signature(panel):
    run(panel)
    good = {"mean": 0.55, "other": 0.95, "environments": 4, "dimensions": 4}
    assert "4 environments" in reached(panel, **good)
    assert reached(panel, **good | {"environments": 5}) is None
    assert reached(panel, **good | {"dimensions": 3}) is None
    assert reached(panel, **good | {"mean": 0.7}) is None
    assert reached(panel, **good | {"other": 0.8}) is None
    assert reached(panel, **good, rule="AND-mask") is None
    panel.courses[1].done = False
    assert reached(panel, **good) is None


def test_a_page_without_a_kernel_keeps_the_picture(panel):
    run(panel)
    bundle, _ = panel._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == panel.png()
    assert "spirals" in panel.picture.alt.lower()


def test_a_changed_control_drops_what_it_does_not_stand_for(panel):
    run(panel)
    trained = panel.screen
    panel.set(environments=4)
    assert panel.courses == []
    assert panel.screen != trained
    assert "not trained" in panel.picture.alt
