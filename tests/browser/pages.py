"""A notebook in the browser as its reader uses it: open it, run it, and hear its complaints."""

from playwright.sync_api import Page, expect

# For what never comes: a test waits for what it expects to see, however slow the machine is.
RUN_SECONDS = 900
ANSWER_SECONDS = 180
expect.set_options(timeout=1000 * ANSWER_SECONDS)

# A cell with its code folded away has a number beside its output only.
_FINISHED = """() => [...document.querySelectorAll('.jp-CodeCell')].every(cell =>
    [...cell.querySelectorAll('.jp-InputPrompt, .jp-OutputPrompt')]
        .some(prompt => /\\d/.test(prompt.textContent))) || document.querySelector('%s')"""
_ERROR_OUTPUT = '[data-mime-type="application/vnd.jupyter.error"]'


class NotebookPage:
    """A page with a notebook that has run.

    Attributes:
        page: Playwright's.
        complaints: errors of the console and of the page's scripts, since the last check.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(1000 * ANSWER_SECONDS)
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def run_in_lab(self, address: str) -> None:
        """Open the notebook in JupyterLab, run all cells and wait for the last one."""
        self.page.goto(address)
        # The indicator in the notebook is idle before there is a kernel, which runs nothing.
        ready = self.page.locator("#jp-main-statusbar")
        expect(ready).to_contain_text("(ipykernel) | Idle", timeout=1000 * RUN_SECONDS)
        self.page.get_by_text("Run", exact=True).first.click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.page.wait_for_function(_FINISHED % _ERROR_OUTPUT, timeout=1000 * RUN_SECONDS)

    def check(self) -> None:
        """Fail where an output or the console shows an error."""
        complaints, self.complaints = self.complaints, []
        outputs = self.page.locator(_ERROR_OUTPUT).all_inner_texts()
        assert not outputs, outputs
        assert not complaints, complaints
