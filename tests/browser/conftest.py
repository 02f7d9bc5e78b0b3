"""What the browser tests share. A test of a notebook takes one of two fixtures:

    def test_a_slider(open_lab):
        notebook = open_lab("01_one_weight")          # all cells run, all panels at their start
        panel = notebook.panel()                      # its first panel; .panel(1) the second
        before = panel.picture()
        panel.press("step size η", "ArrowRight")      # a slider by its description, by keyboard
        expect(panel.readout("step size η")).to_have_text("1.1")
        panel.new_picture(before)                     # waits for it

    def test_start(open_voila):
        panel = open_voila("demo").panel(2)           # `voila demo.ipynb`
        panel.button("Start").click()
        expect(panel.status).to_have_text("Running.")

`open_lab(name, width=720, height=800)` takes another size of window. Tests of the same notebook
follow each other on one page, whose panels are reset between them; one that fails takes the page
with it. Afterwards both fixtures check that no output and no console showed an error. pages.py
says what else a panel can do; what it cannot is done with Playwright's own locators, `panel.root`
and `notebook.page`.

The browser is Chromium: that of the environment variable CHROME, else the system's. Where there
is none the tests are skipped, and fail where CI is set.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.pages import NotebookPage
from tests.browser.servers import running
from tests.notebook_hooks import skip_unless_stored
from tests.refresh_notebooks import NOTEBOOKS

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")

# Scope package: Playwright's event loop must have ended before other tests use theirs.


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROME") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        reason = "no Chromium here: install it, or set CHROME to its path"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        # Without its sandbox, which root cannot have: that is Playwright's default.
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks' folder, without outputs: what a page shows was run on it."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in NOTEBOOKS.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.update(outputs=[], execution_count=None)
        nbformat.write(notebook, folder / path.name)
    return folder


@pytest.fixture(scope="package")
def lab(notebooks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ["jupyterlab", f"--ServerApp.root_dir={notebooks}", "--allow-root"]
    arguments += ["--ServerApp.port_retries=0", "--IdentityProvider.token="]
    with running(arguments, tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="package")
def voila(
    notebooks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """Serves a notebook by its name, and goes on doing so for the tests that follow."""
    with ExitStack() as servers:

        @cache
        def voila(name: str) -> str:
            arguments = ["voila", str(notebooks / f"{name}.ipynb"), "--Voila.port_retries=0"]
            return servers.enter_context(running(arguments, tmp_path_factory.mktemp("voila")))

        yield voila


@pytest.fixture(scope="package")
def pages(browser: Browser) -> dict[str, NotebookPage]:
    """The pages that are open, by their addresses."""
    return {}


@pytest.fixture
def open_page(
    browser: Browser, pages: dict[str, NotebookPage], request: pytest.FixtureRequest
) -> Iterator[Callable[..., NotebookPage]]:
    """Opens an address once, and checks its page after each test."""
    used: set[str] = set()
    failed_before = request.session.testsfailed

    def open_page(
        address: str, run: Callable[[NotebookPage, str], None], width: int, height: int
    ) -> NotebookPage:
        used.add(address)
        if address in pages:
            pages[address].start_again(width, height)
        else:
            page = browser.new_page(viewport={"width": width, "height": height})
            # Voila's page asks the network for a font of icons, and does without.
            page.route(lambda url: "://127.0.0.1" not in url, lambda r: r.fulfill(body=""))
            pages[address] = NotebookPage(page)
            run(pages[address], address)
        return pages[address]

    yield open_page
    for address in used:
        notebook = pages.pop(address)
        notebook.check()
        if request.session.testsfailed == failed_before:
            pages[address] = notebook
        else:
            notebook.page.close()


@pytest.fixture
def open_lab(open_page: Callable[..., NotebookPage], lab: str) -> Callable[..., NotebookPage]:
    def open_lab(name: str, width: int = 1280, height: int = 720) -> NotebookPage:
        if (path := NOTEBOOKS / f"{name}.ipynb").exists():
            skip_unless_stored(path)
        address = f"{lab}/lab/tree/{name}.ipynb?reset"
        return open_page(address, NotebookPage.run_in_lab, width, height)

    return open_lab


@pytest.fixture
def open_voila(
    open_page: Callable[..., NotebookPage], voila: Callable[[str], str]
) -> Callable[..., NotebookPage]:
    def open_voila(name: str, width: int = 1280, height: int = 720) -> NotebookPage:
        skip_unless_stored(NOTEBOOKS / f"{name}.ipynb")
        return open_page(voila(name), NotebookPage.run_in_voila, width, height)

    return open_voila
