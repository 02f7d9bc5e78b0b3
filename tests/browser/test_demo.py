"""The demo in Voila: up in seconds, no code in sight, a bar, a link that opens a state again."""

import time

from playwright.sync_api import expect

from tests.browser.live import button, in_voila, status_of

TRAIN_SECONDS = 120
UP_SECONDS = 40  # of a page asked for again, beside the other tests
PANELS = {
    "One weight": "OneWeight",
    "Two weights": "TwoWeights",
    "The agreement map": "AgreementMap",
    "Family of rules": "FamilyOfRules",
    "The ARC lab": "ArcLab",
}


def turn_to(page, name):
    page.get_by_role("tab", name=name, exact=True).click()
    return there(page, PANELS[name])


def there(page, panel):
    found = page.locator(f'.cp[aria-label="{panel}"]')
    found.wait_for(timeout=60_000)
    return found


def seen_at_once(page, panel):
    box = panel.bounding_box()
    return box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


def test_five_panels_to_project_and_to_play_with(new_page, voila):
    in_voila(new_page, voila, "demo")
    begin = time.monotonic()
    page = in_voila(new_page, voila, "demo")
    assert time.monotonic() - begin < UP_SECONDS
    shown = page.inner_text("body")
    assert "Demo(" not in shown
    assert "from course" not in shown
    for name in PANELS:
        panel = turn_to(page, name)
        expect(button(panel, "Reset")).to_be_visible()
        page.wait_for_timeout(300)
        assert seen_at_once(page, panel), name

    arc = turn_to(page, "The ARC lab")
    arc.get_by_role("tab", name="Train").click()
    arc.get_by_label("steps", exact=True).press("End")
    button(arc, "Start").click()
    expect(status_of(arc)).to_contain_text("of 2000", timeout=1000 * TRAIN_SECONDS)
    turn_to(page, "One weight")
    arc = turn_to(page, "The ARC lab")
    button(arc, "Stop").click()
    expect(status_of(arc)).to_have_text("Stopped.")


def test_a_link_opens_the_panel_and_its_state(new_page, voila):
    page = in_voila(new_page, voila, "demo")
    panel = turn_to(page, "Two weights")
    panel.get_by_label("preset").select_option("a wave")
    button(panel, "Copy link").click()
    link = panel.get_by_label("copied").input_value()
    assert "#TwoWeights=" in link
    page.goto("about:blank")
    page.goto(link, timeout=120_000)
    panel = there(page, "TwoWeights")
    expect(panel.get_by_label("preset")).to_have_value("a wave")
