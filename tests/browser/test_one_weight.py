"""One weight in the browser: its arrows are dragged, and its numbers are the library's."""

import random
import statistics

import pytest
from playwright.sync_api import expect

from course.panels.one_weight_panel import OneWeight
from tests.browser.saved import calculator, drag_times, fits_every_screen, saved


def tip(page, number):
    return page.get_by_role("slider", name=f"optimum of example {number}")


def test_its_numbers_are_the_librarys(browser, tmp_path):
    draw = random.Random(0)
    panel = OneWeight()
    with saved(browser, panel, tmp_path) as page:
        call = calculator(page, "one_weight")
        for _ in range(60):
            count = draw.randint(2, 6)
            # Zeros and equal numbers too: they decide what an abstention is.
            g = [draw.choice([0.0, 1.0, draw.uniform(-5, 5)]) for _ in range(count)]
            rate, steps = draw.uniform(0.05, 2.0), draw.randint(1, 40)
            zeros = draw.choice(["veto", "abstain"])
            panel.set(gradients=g, learning_rate=rate, steps=steps, zeros=zeros)
            values = panel.values | {"gradients": list(panel.values["gradients"])}
            found, expected = call("pathsOf", values), panel.paths
            for rule in expected:
                assert found[rule] == pytest.approx(expected[rule], rel=1e-9, abs=1e-9)


def test_a_tip_is_dragged_by_mouse_and_by_keyboard(browser, tmp_path):
    with saved(browser, OneWeight(), tmp_path) as page:
        box = tip(page, 1).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        path = [(x + 2 * i, y) for i in range(60)] + [(x + 118 - 3 * i, y) for i in range(60)]
        times = sorted(drag_times(page, path))
        assert statistics.median(times) <= 16
        assert times[int(0.95 * len(times))] <= 50
        alternative = page.locator('.cp [role="img"]')
        assert "gradients +1, −2, +2" not in alternative.get_attribute("aria-label")

        page.get_by_role("button", name="Reset").click()
        tip(page, 1).focus()
        for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowRight"):
            page.keyboard.press(key)
        expect(tip(page, 1)).to_have_attribute("aria-valuetext", "gradient +0.2")
        assert tip(page, 1).evaluate("node => getComputedStyle(node).outlineWidth") == "3px"


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_the_target_is_reached(browser, tmp_path, way):
    with saved(browser, OneWeight(), tmp_path) as page:
        target = page.locator(".cp-target")
        expect(target).to_contain_text("☐ Target")
        page.get_by_label("preset").select_option("−1, −2, −3")
        if way == "keyboard":
            tip(page, 1).focus()
            for _ in range(5):
                page.keyboard.press("Shift+ArrowLeft")
        else:
            box = tip(page, 1).bounding_box()
            y = box["y"] + box["height"] / 2
            drag_times(page, [(box["x"] + box["width"] / 2, y), (400, y), (340, y), (290, y)])
            box = tip(page, 1).bounding_box()
            drag_times(page, [(box["x"] + box["width"] / 2, y), (300, y), (150, y)])
        expect(target).to_contain_text("☐ Target")
        for number, gradient in ((2, "-1"), (3, "-1"), (1, "4")):
            page.get_by_label(f"gradient {number}", exact=True).fill(gradient)
            page.keyboard.press("Enter")
        expect(target).to_contain_text("☑ Target reached")


def test_what_is_typed_is_what_counts_and_presets_stay_themselves(browser, tmp_path):
    with saved(browser, OneWeight(), tmp_path) as page:
        preset = page.get_by_label("preset")
        for name in OneWeight.presets:
            preset.select_option(name)
            expect(preset).to_have_value(name)
        rate = page.get_by_label("step size η, as a number")
        rate.fill("0.33")
        page.keyboard.press("Enter")
        page.get_by_label("gradient 1", exact=True).fill("5")
        page.keyboard.press("Enter")
        expect(rate).to_have_value("0.33")
        expect(page.get_by_role("status")).to_contain_text("w = −0.66")


def test_a_guess_comes_before_the_outcome(browser, tmp_path):
    with saved(browser, OneWeight(), tmp_path) as page:
        outcome, predict = page.locator(".outcome"), page.get_by_role("button", name="Predict")
        predict.click()
        assert outcome.evaluate("node => getComputedStyle(node).visibility") == "hidden"
        page.get_by_role("group", name="prediction").get_by_role("button", name="1").click()
        assert outcome.evaluate("node => getComputedStyle(node).visibility") == "visible"
        expect(page.get_by_role("group", name="prediction")).to_contain_text("Right.")
        tip(page, 1).press("ArrowLeft")
        assert outcome.evaluate("node => getComputedStyle(node).visibility") == "hidden"


def test_a_link_opens_the_state_again(browser, tmp_path):
    with saved(browser, OneWeight(), tmp_path) as page:
        page.get_by_label("preset").select_option("0, +1, +2; abstain")
        page.get_by_role("button", name="Copy link").click()
        link = page.get_by_label("copied").input_value()
        page.goto("about:blank")
        page.goto(link)
        expect(page.get_by_label("preset")).to_have_value("0, +1, +2; abstain")


def test_all_is_seen_in_letters_large_enough(browser, tmp_path):
    panel = OneWeight()
    panel.set(gradients=[0.4, 1.2, -3.0, 0.5, 2.0, -4.4], learning_rate=2.5, steps=3)
    with saved(browser, panel, tmp_path) as page:
        fits_every_screen(page)
