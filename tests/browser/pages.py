"""A notebook in the browser as its reader uses it: run it, move sliders, press buttons, look."""

import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

# For what never comes: a test waits for what it expects to see, however slow the machine is.
RUN_SECONDS = 900
ANSWER_SECONDS = 180
expect.set_options(timeout=1000 * ANSWER_SECONDS)

# A cell with its code folded away has a number beside its output only.
_FINISHED = """() => [...document.querySelectorAll('.jp-CodeCell')].every(cell =>
    [...cell.querySelectorAll('.jp-InputPrompt, .jp-OutputPrompt')]
        .some(prompt => /\\d/.test(prompt.textContent))) || document.querySelector('%s')"""
_ERROR_OUTPUT = '[data-mime-type="application/vnd.jupyter.error"]'
_SECONDS_UNTIL = """([root, button, text, patience]) => new Promise(done => {
    let begin;
    setTimeout(() => done(null), 1000 * patience);
    button.addEventListener('click', () => { begin = performance.now(); }, {once: true});
    new MutationObserver((_, observer) => {
        if (begin && root.querySelector('[role="status"]')?.textContent === text) {
            observer.disconnect();
            done((performance.now() - begin) / 1000);
        }
    }).observe(root, {childList: true, subtree: true, characterData: true});
    button.click();
})"""
_TO_TEXT = """image => fetch(image.src).then(answer => answer.blob()).then(blob =>
    new Promise(done => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(blob);
    }))"""


class PanelView:
    """One panel on a page; its widgets are found by their descriptions.

    Attributes:
        root: Playwright's locator of the panel.
        image: of its picture.
        status: of its status line.
    """

    def __init__(self, root: Locator) -> None:
        self.root = root
        self.image = root.locator("img").first
        self.status = root.locator('[role="status"]')

    def widget(self, description: str) -> Locator:
        """The slider, menu, checkbox ... that is described so."""
        label = self.root.page.get_by_text(description, exact=True)
        return self.root.locator(".widget-inline-hbox", has=label)

    def press(self, description: str, *keys: str) -> None:
        """Press keys, such as "ArrowRight", on the handle of a slider."""
        handle = self.widget(description).locator(".noUi-handle")
        handle.focus()
        for key in keys:
            handle.press(key)

    def readout(self, description: str) -> Locator:
        """The number beside a slider."""
        return self.widget(description).locator(".widget-readout")

    def choose(self, description: str, option: str) -> None:
        """Choose from a menu."""
        self.widget(description).locator("select").select_option(option)

    def button(self, text: str) -> Locator:
        """The button with this text."""
        return self.root.get_by_role("button", name=text, exact=True)

    def seconds_until(self, button: str, status: str) -> float:
        """Press a button, and return after how many seconds the page shows this status."""
        handles = self.root.element_handle(), self.button(button).element_handle()
        seconds = self.root.page.evaluate(_SECONDS_UNTIL, [*handles, status, ANSWER_SECONDS])
        assert seconds is not None, f"{button} did not lead to {status!r}"
        return seconds

    def picture(self) -> str:
        """The picture's PNG, as text: another one when a pixel differs."""
        expect(self.image).to_be_visible()
        return self.image.evaluate(_TO_TEXT)

    def new_picture(self, before: str) -> str:
        """Wait for another picture than `before`, and return it."""
        return self._picture_when(lambda picture: picture != before, "it stays as it was")

    def picture_again(self, earlier: str) -> None:
        """Wait until the picture is the one that it was earlier."""
        self._picture_when(lambda picture: picture == earlier, "it stays another one")

    def _picture_when(self, fits: Callable[[str], bool], otherwise: str) -> str:
        end = time.monotonic() + ANSWER_SECONDS
        while not fits(picture := self.picture()):
            assert time.monotonic() < end, otherwise
            self.root.page.wait_for_timeout(250)  # the machine has the picture to make
        return picture


class NotebookPage:
    """A page with a notebook that has run.

    Attributes:
        page: Playwright's.
        complaints: errors of the console and of the page's scripts, since the last check.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._pictures: list[str] = []
        page.set_default_timeout(1000 * ANSWER_SECONDS)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def panel(self, number: int = 0) -> PanelView:
        """A panel of the page, counted from 0, scrolled into view."""
        root = self.page.locator(".cl-panel").nth(number)
        expect(root.locator("img").first).to_be_visible(timeout=1000 * RUN_SECONDS)
        root.scroll_into_view_if_needed()
        return PanelView(root)

    def panels(self) -> list[PanelView]:
        """All panels of the page, from the top."""
        return [self.panel(i) for i in range(self.page.locator(".cl-panel").count())]

    def run_in_lab(self, address: str) -> None:
        """Open the notebook in JupyterLab, run all cells and wait for the last one."""
        self.page.goto(address)
        # The indicator in the notebook is idle before there is a kernel, which runs nothing.
        ready = self.page.locator("#jp-main-statusbar")
        expect(ready).to_contain_text("(ipykernel) | Idle", timeout=1000 * RUN_SECONDS)
        self.page.get_by_text("Run", exact=True).first.click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.page.wait_for_function(_FINISHED % _ERROR_OUTPUT, timeout=1000 * RUN_SECONDS)
        self._pictures = [panel.picture() for panel in self.panels()]

    def run_in_voila(self, address: str) -> None:
        """Open Voila's page; its first panel says that the notebook has run."""
        self.page.goto(address, timeout=1000 * RUN_SECONDS)
        self.panel()

    def start_again(self, width: int, height: int) -> None:
        """Bring all panels of a notebook that has run back to their start."""
        self.page.set_viewport_size({"width": width, "height": height})
        for panel, picture in zip(self.panels(), self._pictures, strict=True):
            panel.button("Reset").click()
            if (tabs := panel.root.get_by_role("tab")).count():
                tabs.first.click()
            panel.picture_again(picture)

    def check(self) -> None:
        """Fail where an output or the console shows an error."""
        complaints, self.complaints = self.complaints, []
        outputs = self.page.locator(_ERROR_OUTPUT).all_inner_texts()
        assert not outputs, outputs
        assert not complaints, complaints
