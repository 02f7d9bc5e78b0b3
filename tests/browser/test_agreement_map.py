"""The agreement map in the browser, without a kernel: counted, played, switched and touched."""

import random
import statistics

import pytest
from playwright.sync_api import expect

from course.panels.agreement_map import AgreementMap
from tests.browser.saved import fits_every_screen, saved


@pytest.fixture(scope="module")
def panel():
    panel = AgreementMap()
    panel.set(task="a9f96cdd", steps=60)
    panel.start()
    panel.wait()
    assert panel.problem is None
    return panel


@pytest.fixture
def page(browser, panel, tmp_path):
    panel.set(moment=0, without=[], touched=0, weight=-1)
    with saved(browser, panel, tmp_path) as page:
        page.locator(".cp-example").first.wait_for()
        yield page


def go_to(page, step):
    slider = page.get_by_label("step", exact=True)
    slider.fill(str(step))


def told(page):
    return page.locator('.cp > [role="img"]')


def share(value):
    return f"{100 * value:.1f} %"


def test_its_counts_are_pythons(page, panel):
    draw = random.Random(0)
    for _ in range(8):
        step, off = draw.randint(0, 60), draw.sample([1, 2, 3, 4], draw.randint(0, 3))
        go_to(page, step)
        for number in (1, 2, 3, 4):
            page.get_by_label(f"example {number} votes").set_checked(number not in off)
        panel.set(without=sorted(off))
        words = [f"step {step},"]
        for rule in ("mean", "consensus"):
            shares = panel.shares(rule, step)
            words.append(f"{rule}: agreed on {share(shares['agreed'])}")
            words.append(f"dead {share(shares['dead'])}")
        for word in words:
            assert word in told(page).get_attribute("aria-label")
        if len(off) < 3:
            for number, alone in panel.shares("mean", step)["alone"].items():
                button = page.get_by_label(f"vetoes of example {number}")
                expect(button).to_contain_text(f"vetoes {100 * alone:.0f}\u00a0%")


def test_who_is_in_the_way_is_two_clicks(page):
    go_to(page, 48)
    touch = page.get_by_label("vetoes of example 1")
    yellow = """canvas => { const pen = canvas.getContext('2d');
        const {data} = pen.getImageData(0, 0, canvas.width, canvas.height); let count = 0;
        for (let i = 0; i < data.length; i += 4) count += data[i] === 255 && data[i + 2] === 0;
        return count; }"""
    maps = page.locator(".cp-stage > canvas")
    assert maps.first.evaluate(yellow) == 0
    touch.click()
    lit = maps.first.evaluate(yellow)
    assert lit > 0
    before = told(page).get_attribute("aria-label")
    page.get_by_label("example 1 votes").click()
    assert told(page).get_attribute("aria-label") != before
    assert maps.first.evaluate(yellow) == 0


def test_a_weight_shows_its_arrows_by_mouse_and_by_keyboard(page):
    first = page.locator(".cp-stage > canvas").first
    box = first.bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 100)
    arrows = page.locator(".cp-examples svg")
    expect(arrows).to_contain_text("mean")
    expect(arrows).to_contain_text("ex. 4")
    before = arrows.text_content()
    first.press("ArrowRight")
    assert arrows.text_content() != before


def test_it_is_scrubbed_within_a_frame(page):
    slider = page.get_by_label("step", exact=True)
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.evaluate(
        """() => { window.answers = []; const slider = document.querySelector('.cp-player input');
        slider.addEventListener('input', () => { window.begin = performance.now(); }, true);
        addEventListener('input', () => answers.push(performance.now() - window.begin)); }"""
    )
    places = [(box["x"] + 10 + 5 * i, y) for i in range(80)]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    times = sorted(page.evaluate("window.answers"))
    assert len(times) > 20
    assert statistics.median(times) <= 16
    assert times[int(0.95 * len(times))] <= 50


def test_the_target_is_reached_and_a_guess_comes_first(page):
    go_to(page, 48)
    expect(page.locator(".cp-target")).to_contain_text("☑ Target reached")
    page.get_by_role("button", name="Predict first").click()
    expect(page.locator(".cp-stage > canvas").first).to_be_hidden()
    page.get_by_role("group", name="prediction").get_by_role("button").first.click()
    expect(page.locator(".cp-stage > canvas").first).to_be_visible()


def test_it_is_played(page):
    page.get_by_label("pace").select_option("fast")
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".cp-player .cp-readout")).to_have_text("step 60 of 60")


def test_all_is_seen_in_letters_large_enough(page):
    fits_every_screen(page)
