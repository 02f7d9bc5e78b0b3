"""The command that re-executes notebooks, on small notebooks made here."""

import base64
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests import refresh_notebooks
from tests.refresh_notebooks import WIDGET_VIEW, NotebookError, clean, complaints, main, refresh

FIGURE = """\
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(1, 1))
axes.plot([1, 2])
plt.show()"""

PANEL = """\
import base64
import ipywidgets

class Panel(ipywidgets.IntSlider):
    def _repr_mimebundle_(self, **kwargs):
        picture = {"image/png": base64.b64encode(b"a picture").decode()}
        return super()._repr_mimebundle_(**kwargs) | picture

Panel()"""


@pytest.fixture
def write(tmp_path):
    """Writes a notebook of the given code cells and returns its path."""

    def write(*sources, name="toy", tags=()):
        cells = [new_code_cell(source, metadata={"tags": list(tags)}) for source in sources]
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=[new_markdown_cell("# Toy"), *cells]), path)
        return path

    return write


def outputs(path):
    return [
        output
        for cell in refresh_notebooks.code_cells(nbformat.read(path, as_version=4))
        for output in cell.outputs
    ]


def test_second_run_leaves_the_file_alone(write):
    path = write("print('one')\nprint('two', flush=True)", FIGURE, PANEL)
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert refresh(path)
    text, written = path.read_bytes(), path.stat().st_mtime_ns

    assert not refresh(path)

    assert path.read_bytes() == text
    assert path.stat().st_mtime_ns == written
    stored = nbformat.read(path, as_version=4)
    assert [cell.id for cell in stored.cells] == ids
    assert [cell.execution_count for cell in stored.cells[1:]] == [1, 2, 3]
    printed, figure, panel = outputs(path)
    assert printed.text == "one\ntwo\n"
    assert "image/png" in figure.data
    assert set(panel.data) == {"text/plain", "image/png"}
    assert "widgets" not in stored.metadata
    assert "version" not in stored.metadata.language_info
    assert clean(stored) == stored


def test_stored_as_jupyterlab_would(write):
    path = write("1 + 1")
    refresh(path)
    text = path.read_text()
    assert text.startswith('{\n "cells": [\n')
    assert text.endswith("\n}\n")


def test_kernel_is_this_interpreter_beside_the_notebook(write):
    path = write("import os, sys\nprint(sys.prefix, os.getcwd(), sep='|')")
    refresh(path)
    prefix, folder = outputs(path)[0].text.strip().split("|")
    assert prefix == sys.prefix
    assert folder == str(path.parent.resolve())


def test_forgotten_cell_changes_the_digest(write):
    path = write("1 + 1", "2 + 2")
    refresh(path)
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata[refresh_notebooks.DIGEST] == refresh_notebooks.digest(notebook)
    notebook.cells[0].source = "# Prose does not count"
    notebook.cells[2].source = "2 + 3"
    assert notebook.metadata[refresh_notebooks.DIGEST] != refresh_notebooks.digest(notebook)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("1 / 0", r"cell \[2\] raised ZeroDivisionError: division by zero"),
        ("import os\nos._exit(1)", r"cell \[2\]: Kernel died"),
        ("import sys\nprint('oh', file=sys.stderr)", r"cell \[2\] wrote to stderr: oh"),
        (
            "import ipywidgets\nipywidgets.IntSlider()",
            r"cell \[2\] shows a widget without an image",
        ),
    ],
)
def test_refuses_and_leaves_the_file(write, source, complaint):
    path = write("x = 1", source, "x")
    text = path.read_bytes()
    with pytest.raises(NotebookError, match=complaint):
        refresh(path)
    assert path.read_bytes() == text


def test_an_exception_that_is_meant_is_stored(write):
    path = write("1 / 0", tags=["raises-exception"])
    assert refresh(path)
    assert outputs(path)[0].ename == "ZeroDivisionError"


def test_a_progress_bar_that_wiped_itself_is_not_stored(write):
    bar = "list(tqdm(range(9), file=sys.stdout, leave=False))"
    path = write(f"import sys\nfrom tqdm import tqdm\nnumbers = {bar}\nprint(len(numbers))")
    refresh(path)
    assert [output.text.strip() for output in outputs(path)] == ["9"]


def test_a_tagged_picture_is_also_stored_for_other_pages(write, tmp_path):
    path = write(FIGURE, tags=["figure:cover"])
    refresh(path, tmp_path / "figures")
    stored = (tmp_path / "figures" / "cover.png").read_bytes()
    assert stored == base64.b64decode(outputs(path)[0].data["image/png"])


def test_empty_stderr_is_dropped():
    cell = new_code_cell("pass", outputs=[new_output("stream", name="stderr", text="\n")])
    notebook = new_notebook(cells=[cell])
    assert complaints(notebook) == []
    assert clean(notebook).cells[0].outputs == []
    assert len(notebook.cells[0].outputs) == 1


def test_what_jupyterlab_leaves_is_cleaned():
    view = new_output("display_data", data={WIDGET_VIEW: {}, "image/png": "", "text/plain": ""})
    cell = new_code_cell("pass", metadata={"execution": {}, "tags": ["keep"]}, outputs=[view])
    metadata = {"widgets": {}, "language_info": {"name": "python", "version": "3.11.7"}}
    cleaned = clean(new_notebook(cells=[cell], metadata=metadata))
    assert cleaned.metadata == {
        "kernelspec": refresh_notebooks.KERNEL,
        "language_info": {"name": "python"},
    }
    assert cleaned.cells[0].metadata == {"tags": ["keep"]}
    assert set(cleaned.cells[0].outputs[0].data) == {"image/png", "text/plain"}


def test_command_goes_on_after_an_error_and_says_so(write, capsys):
    folder = write("1 / 0", name="broken").parent
    write("1 + 1", name="fine")
    assert main([], folder) == 1
    printed = capsys.readouterr()
    assert "fine: changed" in printed.out
    assert "broken: left as it was\ncell [1] raised ZeroDivisionError" in printed.err
    assert main(["notebooks/fine.ipynb"], folder) == 0
    assert capsys.readouterr().out == "fine: as before\n"


def test_command_refuses_an_unknown_name(write, capsys):
    folder = write("1", name="fine").parent
    with pytest.raises(SystemExit):
        main(["fin"], folder)
    assert "no such notebook: fin (there are: fine)" in capsys.readouterr().err
