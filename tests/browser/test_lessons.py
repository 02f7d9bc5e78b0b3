"""Panels with a kernel in JupyterLab, in one notebook and without the lessons."""

import pytest
from playwright.sync_api import expect

from tests.browser.live import button, panel_of, seconds_until, status_of, write_notebook

CELLS = """\
from course.study.running import Study
from course.panels.study_panel import StudyPanel; StudyPanel(Study().results("main"))
from course.panels.between_panel import Between; Between(Study().rates())
from course.panels.spirals_panel import Spirals; Spirals()"""
LIVE = """\
from pathlib import Path
from course.panels.one_weight_panel import OneWeight
from course.panels.two_weights_panel import TwoWeights
def write(change):
    Path("seen.txt").write_text(f"{one!r}\\n{two!r}")
one, two = OneWeight(), TwoWeights()
for panel in (one, two):
    panel.observe(write, "values")
one"""
STUDY, BETWEEN, SPIRALS = range(3)
STOP_SECONDS = 0.5


def new_source(image, before):
    expect(image).not_to_have_attribute("src", before)
    return image.get_attribute("src")


def test_python_sees_what_a_hand_does(open_lab, notebooks):
    page = open_lab(write_notebook(notebooks, "live", LIVE, "two")).page

    def seen():
        file = notebooks / "seen.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def until(words):
        for _ in range(200):
            if words in seen():
                return
            page.wait_for_timeout(100)
        pytest.fail(f"{words!r} not in {seen()!r}")

    one, two = panel_of(page, 0), panel_of(page, 1)
    one.get_by_role("slider", name="optimum of example 2").press("ArrowLeft")
    until("OneWeight(gradients=(1.0, -1.9, 2.0)")
    start = two.get_by_role("slider", name="start", exact=True)
    start.scroll_into_view_if_needed()
    box = start.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 60, steps=10)
    page.mouse.up()
    shown = start.get_attribute("aria-valuetext")
    a, b = (float(part.split("=")[1]) for part in shown.split(", "))
    until(f"a={a}, b={b}")
    button(two, "Copy set(…)").click()
    assert two.get_by_label("copied").input_value() == f"set(a={a}, b={b})".replace(".0,", ",")


def test_panels_that_python_draws(open_lab, notebooks):
    page = open_lab(write_notebook(notebooks, "panels", *CELLS.splitlines())).page

    panel = panel_of(page, STUDY)
    image = panel.locator("img")
    first = image.get_attribute("src")
    panel.get_by_label("measure").select_option("exact")
    new_source(image, first)
    panel.get_by_label("preset").select_option("primary, equal loss")
    expect(panel.get_by_label("moment").locator("option:checked")).to_contain_text("0.1")

    panel = panel_of(page, BETWEEN)
    image = panel.locator("img")
    before = image.get_attribute("src")
    button(panel, "Start").click()
    expect(status_of(panel)).to_contain_text("Barrier", timeout=60_000)
    new_source(image, before)

    panel = panel_of(page, SPIRALS)
    button(panel, "Start").click()
    expect(status_of(panel)).to_contain_text("step", timeout=60_000)
    answers = [seconds_until(panel, "Stop", "Stopped.")]
    while min(answers) > STOP_SECONDS and len(answers) < 3:
        button(panel, "Start").click()
        expect(status_of(panel)).to_contain_text("step", timeout=60_000)
        answers.append(seconds_until(panel, "Stop", "Stopped."))
    assert min(answers) <= STOP_SECONDS
