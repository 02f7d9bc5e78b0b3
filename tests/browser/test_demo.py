"""The demo in Voila: up in seconds, no code in sight, training behind a button."""

from playwright.sync_api import expect

TRAIN_SECONDS = 120


def test_three_panels_to_project_and_to_play_with(open_voila):
    demo = open_voila("demo")
    expect(demo.page.locator(".cl-panel")).to_have_count(3)
    expect(demo.page.locator(".jp-InputArea-editor:visible")).to_have_count(0)
    shown = demo.page.inner_text("body")
    assert "ArcLab(" not in shown
    assert "from consensus_lib" not in shown

    for panel, slider, key in (
        (demo.panel(0), "gradient 1", "ArrowLeft"),
        (demo.panel(1), "start a", "ArrowRight"),
    ):
        before = panel.picture()
        panel.press(slider, key)
        panel.new_picture(before)

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
