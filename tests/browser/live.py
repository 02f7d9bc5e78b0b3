"""Panels with a kernel, in JupyterLab or Voila."""

from collections.abc import Callable
from pathlib import Path

import nbformat
from playwright.sync_api import Locator, Page

from tests.browser.pages import RUN_SECONDS
from tests.refresh_notebooks import KERNEL

_SECONDS_UNTIL = """([root, name, text]) => new Promise(done => {
    const line = root.querySelector('[role="status"]');
    const button = [...root.querySelectorAll('button')].find(b => b.textContent === name);
    const begin = performance.now();
    new MutationObserver((_, observer) => {
        if (line.textContent.startsWith(text)) {
            observer.disconnect();
            done((performance.now() - begin) / 1000);
        }
    }).observe(line, {childList: true, characterData: true, subtree: true});
    button.click();
})"""


def write_notebook(folder: Path, name: str, *cells: str) -> str:
    """Write a notebook of these cells where the servers see it; returns its name."""
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    metadata = {"kernelspec": KERNEL}  # without it JupyterLab asks which kernel to take
    nbformat.write(
        nbformat.v4.new_notebook(cells=code, metadata=metadata), folder / f"{name}.ipynb"
    )
    return name


def panel_of(page: Page, number: int = 0) -> Locator:
    """A panel of a page, counted from 0, once it is there."""
    panel = page.locator(".cp").nth(number)
    panel.wait_for(timeout=1000 * RUN_SECONDS)
    panel.scroll_into_view_if_needed()
    return panel


def in_voila(new_page: Callable, voila: Callable, name: str, width: int = 1280, height: int = 720):
    """Open a notebook in Voila, and return the page once its first panel is there."""
    notebook = new_page(width, height)
    notebook.page.goto(voila(name), timeout=1000 * RUN_SECONDS)
    panel_of(notebook.page)
    return notebook.page


def status_of(panel: Locator) -> Locator:
    """The status line of a panel."""
    return panel.locator('[role="status"]')


def button(panel: Locator, name: str) -> Locator:
    """A button of a panel."""
    return panel.get_by_role("button", name=name, exact=True)


def seconds_until(panel: Locator, name: str, words: str) -> float:
    """Press a button; after how many seconds does the status line begin with these words?"""
    return panel.page.evaluate(_SECONDS_UNTIL, [panel.element_handle(), name, words])
