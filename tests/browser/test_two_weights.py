"""The two weights in JupyterLab: sliders, presses on the picture, and the map of basins."""

import re

from playwright.sync_api import expect

from course.figures.two_weights_descent import MAP

MAP_SECONDS = 120


def spot(panel, a, b):
    """Where (a, b) lies on the page."""
    panel.image.scroll_into_view_if_needed()
    box = panel.image.bounding_box()
    left, bottom, width, height = MAP
    x, y = left + width * (a + 3) / 6, 1 - bottom - height * (b + 3) / 6
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_sliders_presses_and_drags_move_the_start(open_lab):
    panel = open_lab("demo").panel(1)
    mouse = panel.root.page.mouse
    first = panel.picture()

    panel.press("start a", "ArrowRight", "ArrowRight")
    expect(panel.readout("start a")).to_have_text("−1.90")
    second = panel.new_picture(first)

    mouse.click(*spot(panel, 1.5, -1.5))
    expect(panel.readout("start a")).to_have_text("1.50")
    expect(panel.readout("start b")).to_have_text("−1.50")
    third = panel.new_picture(second)

    expect(panel.root).to_contain_text("☐ Target")
    mouse.move(*spot(panel, 1.0, -1.0))
    mouse.down()
    mouse.move(*spot(panel, 0.0, -2.0), steps=5)
    mouse.move(*spot(panel, 0.0, -2.9), steps=5)
    mouse.up()
    expect(panel.readout("start a")).to_have_text("0.00")
    expect(panel.readout("start b")).to_have_text("−2.90")
    expect(panel.root).to_contain_text("☑ Target reached")
    fourth = panel.new_picture(third)

    mouse.move(*spot(panel, 2.0, 2.0))  # no button is held down
    panel.choose("beside it", "none")
    panel.new_picture(fourth)
    expect(panel.readout("start b")).to_have_text("−2.90")

    panel.button("Reset").click()
    expect(panel.readout("start a")).to_have_text("−2.00")
    panel.picture_again(first)


def test_the_map_of_basins_is_stopped_and_made(open_lab):
    panel = open_lab("demo", width=720, height=800).panel(1)
    before = panel.root.bounding_box()["height"]
    panel.button("Map the basins").click()
    expect(panel.button("Map the basins")).to_be_disabled()
    panel.button("Stop").click()
    expect(panel.status).to_have_text("Stopped.")
    expect(panel.button("Map the basins")).to_be_enabled()

    panel.button("Map the basins").click()
    counts = re.compile(r"mean: 0\.\d+ shared, 0\.\d+ crossing\. consensus: 0")
    expect(panel.status).to_have_text(counts, timeout=1000 * MAP_SECONDS)
    assert panel.root.bounding_box()["height"] == before
    for widget in (panel.image, panel.button("Stop"), panel.status):
        box = widget.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 720
