"""The ARC lab in JupyterLab: train, pause, stop, compare, paint and export."""

import csv
import json

import pytest
from playwright.sync_api import expect

from course.panels.arc_lab import ArcLab
from tests.browser.live import button, panel_of, seconds_until, status_of, write_notebook
from tests.browser.saved import fits_every_screen, saved

TRAIN_SECONDS = 120
STOP_SECONDS = 0.5
MINE = {
    "train": [{"input": [[1, 0], [0, 1]], "output": [[2, 0], [0, 2]]}] * 2,
    "test": [{"input": [[1, 1], [0, 0]], "output": [[2, 2], [0, 0]]}],
}
CELL = """\
import torch
from course.panels.arc_lab import ArcLab
torch.set_num_threads(1)
panel = ArcLab()
panel"""


@pytest.fixture
def arc(open_lab, notebooks):
    return panel_of(open_lab(write_notebook(notebooks, "arc", CELL)).page)


def tab(arc, title):
    arc.get_by_role("tab", name=title, exact=True).click()


def finished(arc):
    expect(status_of(arc)).to_contain_text("test exact from", timeout=1000 * TRAIN_SECONDS)


def test_a_run_its_pictures_and_its_export(arc):
    tab(arc, "Train")
    rate = arc.get_by_label("learning rate", exact=True)
    rate.press("ArrowRight")
    expect(arc.locator("pre")).to_contain_text("learning_rate=0.005")
    arc.page.evaluate(
        """() => { window.seen = new Set(); const svg = document.querySelector('.cp-stage svg');
        new MutationObserver(() => seen.add(svg.innerHTML)).observe(svg, {childList: true}); }"""
    )
    button(arc, "Start").click()
    finished(arc)
    assert arc.page.evaluate("window.seen.size") >= 8, "200 steps are watched"
    expect(arc.locator("table")).to_contain_text("learning rate 0.005")

    with arc.page.expect_download() as first, arc.page.expect_download() as second:
        button(arc, "Export").click()
    files = {d.value.suggested_filename: d.value.path() for d in (first, second)}
    with open(files["arc_runs.csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    assert {row["learning_rate"] for row in rows} == {"0.005"}

    button(arc, "Reset").click()
    expect(arc.locator("table")).to_have_count(0)
    expect(rate).to_have_attribute("aria-valuetext", "0.003")


def test_stop_pause_and_step_answer_and_the_line_ends_in_the_truth(arc):
    tab(arc, "Train")
    arc.get_by_label("steps, as a number").fill("2000")
    arc.get_by_label("steps, as a number").press("Enter")
    answers = []
    for _ in range(5):
        button(arc, "Start").click()
        expect(status_of(arc)).to_contain_text("of 2000", timeout=1000 * TRAIN_SECONDS)
        expect(button(arc, "Compare")).to_be_disabled()
        answers.append(seconds_until(arc, "Stop", "Stopped."))
        expect(status_of(arc)).to_have_text("Stopped.")
        expect(button(arc, "Start")).to_be_enabled()
    # Other work on the machine can only make an answer later: the best are the panel's.
    assert sorted(answers)[1] <= STOP_SECONDS

    button(arc, "Start").click()
    expect(status_of(arc)).to_contain_text("of 2000", timeout=1000 * TRAIN_SECONDS)
    arc.get_by_label("first seed", exact=True).fill("3")
    expect(status_of(arc)).to_contain_text("Changed controls count for the next run.")
    assert seconds_until(arc, "Pause", "Paused.") <= 2 * STOP_SECONDS
    button(arc, "Step").click()
    expect(status_of(arc)).to_contain_text("Paused.")
    button(arc, "Stop").click()
    expect(status_of(arc)).to_have_text("Stopped.")


def test_compare_with_a_guess_and_tasks_of_ones_own(arc, tmp_path):
    button(arc, "Predict first").click()
    guess = arc.get_by_role("group", name="prediction")
    guess.get_by_role("button", name="mean").click()
    expect(guess).to_contain_text("We shall see.")
    arc.get_by_label("preset").select_option("masked weights held")
    guess.get_by_role("button", name="mean").click()
    button(arc, "Compare").click()
    finished(arc)
    expect(arc.locator("tbody tr")).to_have_count(2)
    expect(guess).to_contain_text("Right.")
    shown = arc.locator('.cp-stage > canvas[role="img"]')
    assert "1 mean: " in shown.get_attribute("aria-label")
    assert "2 consensus: " in shown.get_attribute("aria-label")

    button(arc, "Predict first").click()
    field = arc.get_by_label("other task")
    field.fill("a699fb0")
    field.press("Enter")
    expect(status_of(arc)).to_contain_text("Closest")
    field.fill("00d62c1b")
    field.press("Enter")
    expect(arc.get_by_label("task", exact=True).locator("option:checked")).to_have_text("00d62c1b")
    good = tmp_path / "mine.json"
    good.write_text(json.dumps(MINE))
    arc.get_by_label("your file").set_input_files(good)
    expect(arc.get_by_label("task", exact=True).locator("option:checked")).to_have_text("mine")

    button(arc, "Paint a task").click()
    for key in ("ArrowRight", "7"):
        shown.press(key)
    expect(arc.get_by_label("task", exact=True).locator("option:checked")).to_have_text("painted")
    button(arc, "Paint a task").click()
    button(arc, "Clear runs").click()
    button(arc, "Start").click()
    finished(arc)


def test_all_is_seen_in_letters_large_enough(browser, tmp_path):
    panel = ArcLab()
    panel.set(steps=10)
    panel.compare()
    panel.wait()
    with saved(browser, panel, tmp_path) as page:
        for name in ("Task", "Rule", "Train", "Net"):
            page.get_by_role("tab", name=name).click()
            fits_every_screen(page)
