"""The panels of the later lessons in JupyterLab, in one notebook and without the lessons."""

import nbformat
import pytest
from playwright.sync_api import expect

from tests.refresh_notebooks import KERNEL

CELLS = """\
from course.panels.agreement_panel import FamilyOfRules; FamilyOfRules()
from course.panels.spirals_panel import Spirals; Spirals()
from course.panels.study_panel import StudyPanel; StudyPanel(Studies().rows("main"))
from course.panels.between_panel import Between; Between(Study().rates())"""
RULES, SPIRALS, STUDY, BETWEEN = range(4)
STOP_SECONDS = 0.5


@pytest.fixture(scope="module")
def panels(notebooks):
    first = nbformat.v4.new_code_cell("from course.study.studies import Studies")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.splitlines()]
    metadata = {"kernelspec": KERNEL}  # without it JupyterLab asks which kernel to take
    notebook = nbformat.v4.new_notebook(cells=[first, *cells], metadata=metadata)
    nbformat.write(notebook, notebooks / "panels.ipynb")
    return "panels"


def test_each_panel_answers(open_lab, panels):
    notebook = open_lab(panels)

    panel = notebook.panel(RULES)
    before = panel.picture()
    panel.press("voters N", "ArrowRight")
    expect(panel.readout("voters N")).to_have_text("5")
    panel.new_picture(before)

    panel = notebook.panel(STUDY)
    before = panel.picture()
    panel.choose("measure", "exact")
    panel.new_picture(before)
    panel.button("Reset").click()
    panel.picture_again(before)

    panel = notebook.panel(BETWEEN)
    before = panel.picture()
    panel.button("Start").click()
    expect(panel.status).to_contain_text("Barrier")
    panel.new_picture(before)

    panel = notebook.panel(SPIRALS)
    panel.button("Start").click()
    expect(panel.status).to_contain_text("step")
    assert panel.seconds_until("Stop", "Stopped.") < STOP_SECONDS
