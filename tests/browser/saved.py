"""Panels on pages without a kernel, in the browser: what they compute, and how fast they answer."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from course.panels.panel import Panel, front_end

PAGE = "<!doctype html><meta charset='utf-8'><title>panel</title><body style='margin: 8px'>"
# Times from a hand's event to the end of the drawing that answers it, without the hand's own.
_WATCH = """() => { window.answers = [];
    addEventListener('pointermove', () => { window.begin = performance.now(); }, true);
    addEventListener('pointermove', () => window.answers.push(performance.now() - window.begin));
}"""


@contextmanager
def saved(
    browser: Browser, panel: Panel, folder: Path, width: int = 1280, height: int = 720
) -> Iterator[Page]:
    """Open the panel's own page, and fail where its script complained."""
    path = folder / "panel.html"
    path.write_text(PAGE + panel.html(), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    page.locator(".cp-bar").wait_for()
    try:
        yield page
        assert not complaints, complaints
    finally:
        page.close()


def calculator(page: Page, name: str) -> Callable[..., Any]:
    """Call the functions of a panel's script: `call("function", argument)`."""
    source = front_end(name).replace("export default", "const panel =").replace("\nexport ", "\n")

    def call(function: str, *arguments: Any) -> Any:
        body = f"(() => {{ {source}\nreturn {function}(...{json.dumps(arguments)}); }})()"
        return page.evaluate(body)

    return call


def drag_times(page: Page, places: list[tuple[float, float]]) -> list[float]:
    """Drag through places of the page; return the milliseconds of each answer."""
    page.evaluate(_WATCH)
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.mouse.up()
    return page.evaluate("window.answers")


def fits_every_screen(page: Page) -> None:
    """A projector, a large one, half a screen, and a projector at 150 %: all is seen and read."""
    for width, height in ((1280, 720), (1920, 1080), (800, 900), (853, 480)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(100)
        outside = page.evaluate(_OUTSIDE)
        assert not outside, (width, height, outside)
        assert page.evaluate(_SMALLEST) >= 18, (width, height)
        sides = page.evaluate(
            "[0, 1].map(i => document.documentElement[['scrollWidth', 'scrollHeight'][i]])"
        )
        assert sides[0] <= width
        assert sides[1] <= height or width < 900


# What of a panel is seen outside of the page, or cut at a column's end.
_OUTSIDE = """() => [...document.querySelectorAll('.cp text, .cp button, .cp label, .cp select')]
    .filter(node => node.getClientRects().length).filter(node => {
        const box = node.getBoundingClientRect();
        return box.left < -1 || box.top < -1 || box.right > innerWidth + 1
            || box.bottom > document.documentElement.scrollHeight + 1;
    }).map(node => node.textContent).concat([...document.querySelectorAll('.cp-left')]
        .filter(node => node.scrollHeight > node.clientHeight + 1).map(() => 'controls'))"""
_SMALLEST = """() => Math.min(...[...document.querySelectorAll(
    '.cp text, .cp button, .cp label, .cp select, .cp input[type=number], .cp-line')]
    .filter(node => node.getClientRects().length)
    .map(node => parseFloat(getComputedStyle(node).fontSize)))"""
