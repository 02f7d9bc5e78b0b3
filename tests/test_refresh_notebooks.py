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


BAR = """\
import sys
from tqdm import tqdm
print(len(list(tqdm(range(9), file=sys.stdout, leave=False))))"""

CELLS = [
    new_code_cell("print('one')\nprint('two', flush=True)"),
    new_code_cell(FIGURE, metadata={"tags": ["figure:cover"]}),
    new_code_cell(PANEL),
    new_code_cell("import os\nprint(sys.prefix, os.getcwd(), sep='|')"),
    new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
]


def written(folder, *cells, name="toy"):
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Toy"), *cells]), path)
    return path


@pytest.fixture
def write(tmp_path):
    """Writes a notebook of the given code cells and returns its path."""
    return lambda *sources, name="toy": written(tmp_path, *map(new_code_cell, sources), name=name)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A notebook that the command has run and stored, its pictures in `figures` beside it."""
    path = written(tmp_path_factory.mktemp("stored"), new_code_cell(BAR), *CELLS)
    assert refresh(path, path.parent / "figures")
    return path


def outputs(path):
    return [
        output
        for cell in refresh_notebooks.code_cells(nbformat.read(path, as_version=4))
        for output in cell.outputs
    ]


def test_what_is_stored(stored):
    notebook = nbformat.read(stored, as_version=4)
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3, 4, 5, 6]
    bar, printed, figure, panel, kernel, error = outputs(stored)
    assert bar.text.strip() == "9", "a progress bar that wiped itself is not stored"
    assert printed.text == "one\ntwo\n"
    assert set(panel.data) == {"text/plain", "image/png"}
    prefix, folder = kernel.text.strip().split("|")
    assert prefix == sys.prefix
    assert folder == str(stored.parent.resolve())
    assert error.ename == "ZeroDivisionError"
    cover = (stored.parent / "figures" / "cover.png").read_bytes()
    assert cover == base64.b64decode(figure.data["image/png"])
    assert "widgets" not in notebook.metadata
    assert "version" not in notebook.metadata.language_info
    text = stored.read_text()
    assert text.startswith('{\n "cells": [\n'), "as JupyterLab would write it"
    assert text.endswith("\n}\n")


def test_second_run_leaves_the_file_alone(stored):
    text, written_at = stored.read_bytes(), stored.stat().st_mtime_ns
    assert not refresh(stored, stored.parent / "figures")
    assert stored.read_bytes() == text
    assert stored.stat().st_mtime_ns == written_at


def run_in_another_program(notebook):
    notebook.metadata.language_info["version"] = "3.11.7"


def run_again(notebook):
    notebook.cells[1].execution_count = 7


def edit(notebook):
    notebook.cells[2].source = "2 + 3"


def show_a_widget(notebook):
    notebook.cells[3].outputs[0].data[WIDGET_VIEW] = {}


@pytest.mark.parametrize("change", [run_in_another_program, run_again, edit, show_a_widget])
def test_what_somebody_saved_is_not_what_was_stored(stored, tmp_path, change):
    notebook = nbformat.read(stored, as_version=4)
    notebook.cells[0].source = "# Prose does not count"
    path = tmp_path / "own.ipynb"
    path.write_text(refresh_notebooks.to_text(notebook))
    assert refresh_notebooks.is_stored(path)
    change(notebook)
    path.write_text(refresh_notebooks.to_text(notebook))
    assert not refresh_notebooks.is_stored(path)


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
