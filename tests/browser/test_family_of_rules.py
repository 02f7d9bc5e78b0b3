"""The family of rules in the browser, without a kernel: its numbers are the library's."""

import random

import pytest
from playwright.sync_api import expect

from course.panels.agreement_panel import FamilyOfRules, gains
from course.panels.panel import front_end
from tests.browser.saved import fits_every_screen, saved

# What the panel's script finds, with the panel's own draws.
FOUND = """([source, values, floats]) => {
    const noise = new Float32Array(floats);
    const script = source + '\\nreturn rulesOn(noise, values);';
    return new Function('noise', 'values', script)(noise, values);
}"""


def test_its_rules_are_the_librarys(browser, tmp_path):
    draw = random.Random(0)
    panel = FamilyOfRules()
    source = front_end("family_of_rules").replace("export default", "const panel =")
    source = source.replace("\nexport ", "\n")
    floats = memoryview(panel.noise).cast("f").tolist()
    powers = [value for _, value in panel.controls["p"].options]
    with saved(browser, panel, tmp_path) as page:
        for number in range(12):
            panel.set(
                voters=draw.randint(2, 12),
                correlation=draw.choice([0.0, 0.35, 1.0]),
                opponents=draw.randint(0, 3),
                zeros=draw.choice([0.0, 0.3, 0.9]),
                threshold=draw.choice([0.0, 0.5, 0.75, 1.0]),
                p=powers[number % len(powers)],
                draw=draw.randint(0, 9),
            )
            values = panel.get_state()["values"]
            found = page.evaluate(FOUND, [source, values, floats])
            g = panel.gradients
            for name, rule in panel.rules.items():
                update = rule.reduce(g)
                assert found[name]["update"] == pytest.approx(update.tolist(), rel=1e-9, abs=1e-9)
                cosines = gains(update, g).tolist()
                assert found[name]["gains"] == pytest.approx(cosines, rel=1e-9, abs=1e-9)


def test_the_target_is_reached_by_keyboard_and_by_typing(browser, tmp_path):
    with saved(browser, FamilyOfRules(), tmp_path) as page:
        for _ in range(4):
            page.get_by_label("voters N", exact=True).press("ArrowRight")
        for _ in range(3):
            page.get_by_label("opponents", exact=True).press("ArrowRight")
        for label in ("correlation", "threshold"):
            field = page.get_by_label(f"{label}, as a number")
            field.fill("0.5")
            field.press("Enter")
        expect(page.locator(".cp-target")).to_contain_text(
            "☑ Target reached: the mask moves 24.0 %"
        )
        page.get_by_role("button", name="Predict first").click()
        expect(page.locator(".outcome")).to_be_hidden()
        group = page.get_by_role("group", name="prediction")
        group.get_by_role("button", name="6").click()
        expect(group).to_contain_text("Right.")
        preset = page.get_by_label("preset")
        for name in FamilyOfRules.presets:
            preset.select_option(name)
            expect(preset).to_have_value(name)
        fits_every_screen(page)
