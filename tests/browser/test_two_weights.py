"""Two weights in the browser: dragged, played and mapped, with the library's numbers."""

import random
import statistics

import pytest
from playwright.sync_api import expect

from course.panels.two_weights_panel import RULES, TwoWeights
from course.toys.basins import count_ends, grid_of_starts
from course.toys.landscapes import LANDSCAPES
from course.toys.paths import OPTIMIZERS, descend
from tests.browser.saved import calculator, drag_times, fits_every_screen, saved

MAP_SECONDS = 60


def start(page):
    return page.get_by_role("slider", name="start", exact=True)


def centre(node):
    box = node.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_its_paths_are_the_librarys(browser, tmp_path):
    draw = random.Random(0)
    panel = TwoWeights()
    with saved(browser, panel, tmp_path) as page:
        call = calculator(page, "two_weights")
        for _ in range(40):
            rule, beside = draw.sample([*RULES], 2)
            panel.set(
                landscape=draw.choice([*LANDSCAPES]),
                rule=rule,
                beside=beside,
                optimizer=draw.choice([*OPTIMIZERS]),
                learning_rate=draw.choice([0.01, 0.05, 0.1, 0.3]),
                steps=draw.choice([10, 200]),
                a=draw.uniform(-3, 3),
                b=draw.uniform(-3, 3),
            )
            # Adam divides by sizes near 0, which enlarges the last bit of a number.
            close = 1e-7 if panel.values["optimizer"] == "Adam" else 1e-9
            facts = panel.about["landscapes"][panel.values["landscape"]]
            found, expected = call("runsOf", facts, panel.values), panel.runs
            for name in (rule, beside):
                places = expected[name].weights[:, 0].tolist()
                assert len(found[name]["places"]) == len(places)
                for ours, theirs in zip(found[name]["places"], places, strict=True):
                    assert ours == pytest.approx(theirs, rel=close, abs=close)


def test_the_start_is_dragged_by_mouse_and_by_keyboard(browser, tmp_path):
    with saved(browser, TwoWeights(), tmp_path) as page:
        x, y = centre(start(page))
        path = [(x + 2 * i, y + i) for i in range(80)] + [(x + 160 - i, y + 80) for i in range(80)]
        times = sorted(drag_times(page, path))
        assert statistics.median(times) <= 16
        assert times[int(0.95 * len(times))] <= 50
        assert "start a = -2," not in page.locator('.cp [role="img"]').get_attribute("aria-label")
        page.get_by_role("button", name="Reset").click()
        for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
            start(page).press(key)
        expect(start(page)).to_have_attribute("aria-valuetext", "a = -1.9, b = 0.5")


@pytest.mark.parametrize("way", ["mouse", "keyboard"])
def test_the_target_is_reached(browser, tmp_path, way):
    with saved(browser, TwoWeights(), tmp_path) as page:
        if way == "mouse":  # from (-2, 1) to (-0.4, -2.8): the map shows 6 by 6
            side = page.locator(".cp-stage rect").first.bounding_box()["width"]
            x, y = centre(start(page))
            drag_times(page, [(x, y), (x + 1.6 * side / 6, y + 3.8 * side / 6)])
        else:
            for _ in range(32):
                start(page).press("ArrowRight")
            for _ in range(7):
                start(page).press("Shift+ArrowDown")
            for _ in range(6):
                start(page).press("ArrowDown")
        expect(page.locator(".cp-target")).to_contain_text("☑ Target reached: from (−0.40, −2.80)")


def test_the_map_counts_as_the_library_does(browser, tmp_path):
    panel = TwoWeights()
    panel.set(basins="of the rule", beside="consensus")
    with saved(browser, panel, tmp_path) as page:
        status = page.get_by_role("status")
        expect(status).to_contain_text("of all starts", timeout=1000 * MAP_SECONDS)
        patch = LANDSCAPES["patchwork"]
        starts = grid_of_starts(patch, 60).flatten(0, 1)
        for rule in ("mean", "consensus"):
            counts = count_ends(patch, descend(patch, starts, RULES[rule]).ends)
            told = ", ".join(f"{counts[kind] / 3600:.2f} {kind}" for kind in ("shared", "crossing"))
            expect(status).to_contain_text(f"(of all starts {told})")


def test_the_descent_is_played_stepped_and_scrubbed(browser, tmp_path):
    with saved(browser, TwoWeights(), tmp_path) as page:
        readout = page.locator(".cp-player .cp-readout")
        page.get_by_role("button", name="one step").click()
        expect(readout).to_have_text("step 1 of 200")
        page.get_by_label("step", exact=True).press("End")
        expect(readout).to_have_text("step 200 of 200")
        page.get_by_label("pace").select_option("fast")
        page.get_by_role("button", name="Play").click()
        page.get_by_role("button", name="Pause").click()
        expect(readout).not_to_have_text("step 200 of 200")
        start(page).press("ArrowRight")
        expect(readout).to_have_text("step 0 of 200")


def test_presets_stay_themselves_and_a_guess_comes_first(browser, tmp_path):
    with saved(browser, TwoWeights(), tmp_path) as page:
        preset = page.get_by_label("preset")
        for name in TwoWeights.presets:
            preset.select_option(name)
            expect(preset).to_have_value(name)
        page.get_by_label("preset").select_option("only consensus finds it")
        page.get_by_role("button", name="Predict first").click()
        expect(page.locator(".outcome")).to_be_hidden()
        group = page.get_by_role("group", name="prediction")
        group.get_by_role("button", name="crossing").click()
        expect(group).to_contain_text("Not so.")
        expect(page.locator(".outcome")).to_be_visible()


def test_all_is_seen_in_letters_large_enough(browser, tmp_path):
    panel = TwoWeights()
    panel.choose("a wave, by the AND-mask")
    with saved(browser, panel, tmp_path) as page:
        fits_every_screen(page)
