"""One weight in JupyterLab: the panel answers the keyboard."""

from playwright.sync_api import expect


def test_the_panel_follows_its_sliders(open_lab):
    panel = open_lab("01_one_weight").panel()
    first = panel.picture()

    expect(panel.readout("gradient 2")).to_have_text("−2.0")
    panel.press("gradient 2", "ArrowRight")
    expect(panel.readout("gradient 2")).to_have_text("−1.9")
    second = panel.new_picture(first)

    panel.press("step size η", "ArrowLeft", "ArrowLeft")
    expect(panel.readout("step size η")).to_have_text("0.8")
    panel.new_picture(second)

    panel.button("Reset").click()
    expect(panel.readout("gradient 2")).to_have_text("−2.0")
    panel.picture_again(first)


def test_presets_and_the_target(open_lab):
    panel = open_lab("demo", width=720, height=800).panel()
    before = panel.picture()
    panel.choose("preset", "−1, −2, −3")
    expect(panel.readout("gradient 3")).to_have_text("−3.0")
    panel.new_picture(before)
    expect(panel.root).to_contain_text("☐ Target")
    panel.choose("preset", "+1, +2, +2")
    panel.press("gradient 1", "Home")
    expect(panel.readout("gradient 1")).to_have_text("−3.0")
    for gradient in ("gradient 2", "gradient 3"):
        panel.press(gradient, *["ArrowLeft"] * 10)
    expect(panel.root).to_contain_text("☑ Target reached")
