"""The demo in Voila: up in seconds, no code in sight, training behind a button."""

import pytest
from playwright.sync_api import expect

TRAIN_SECONDS = 120


@pytest.fixture
def demo(open_voila):
    return open_voila("demo")


def test_three_panels_and_no_code(demo):
    for number in range(3):
        demo.panel(number)
    expect(demo.page.locator(".cl-panel")).to_have_count(3)
    expect(demo.page.locator(".jp-InputArea-editor:visible")).to_have_count(0)
    shown = demo.page.inner_text("body")
    assert "ArcLab(" not in shown
    assert "from consensus_lib" not in shown


def test_a_slider_answers(demo):
    panel = demo.panel()
    before = panel.picture()
    panel.press("gradient 1", "ArrowLeft")
    panel.new_picture(before)


def test_training_starts_and_stops(demo):
    arc = demo.panel(2)
    before = arc.picture()
    arc.root.get_by_role("tab", name="Train", exact=True).click()
    arc.press("steps", "End")
    arc.button("Start").click()
    expect(arc.status).to_contain_text("left", timeout=1000 * TRAIN_SECONDS)
    arc.new_picture(arc.new_picture(before))
    arc.button("Stop").click()
    expect(arc.status).to_have_text("Stopped.")
    expect(arc.button("Start")).to_be_enabled()
