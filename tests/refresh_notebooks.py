"""The command that re-executes the notebooks: python tests/refresh_notebooks.py [names...]."""

import argparse
import base64
import copy
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
FIGURES = NOTEBOOKS.parent / "data" / "figures"
FIGURE_TAG = "figure:"
DIGEST = "executed_sources"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


class NotebookError(Exception):
    """A notebook that cannot be stored as it ran; the text says why."""


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run, in order: cell [1] on the page is the first."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def digest(notebook: NotebookNode) -> str:
    """A short name for the sources of all code cells: another one after any edit."""
    sources = json.dumps([cell.source for cell in code_cells(notebook)])
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def complaints(notebook: NotebookNode) -> list[str]:
    """What a reader without a kernel should not meet in the outputs, cell by cell."""
    found = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        raises = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "error" and not raises:
                found.append(f"cell [{number}] raised {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr" and output.text.strip():
                found.append(f"cell [{number}] wrote to stderr: {output.text.strip()}")
            elif WIDGET_VIEW in data and "image/png" not in data:
                found.append(f"cell [{number}] shows a widget without an image/png beside it")
    return found


def clean(notebook: NotebookNode) -> NotebookNode:
    """A copy without what differs between two runs or two machines, or needs a kernel."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec = nbformat.from_dict(KERNEL)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [
            output
            for output in cell.outputs
            if output.output_type != "stream" or output.text.strip()  # a wiped progress bar
        ]
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return notebook


def to_text(notebook: NotebookNode) -> str:
    """The file's text as JupyterLab would save it."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def is_stored(path: Path) -> bool:
    """Whether the file is as this command stored it, up to prose: run from the top, then cleaned.

    Any other program that saves a notebook after a run leaves its traces, such as the version of
    Python.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    return (
        notebook.metadata.get(DIGEST) == digest(notebook)
        and [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
        and path.read_text(encoding="utf-8") == to_text(clean(notebook))
    )


def execute(notebook: NotebookNode, folder: Path, name: str) -> NotebookNode:
    """A copy run from the top by this interpreter, in `folder`; raises NotebookError."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    # No folders to search: a "python3" registered elsewhere could be another interpreter.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    with tqdm(total=len(code_cells(notebook)), desc=name, unit="cell") as progress:
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=None,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(folder)}},
            on_cell_executed=lambda **_: progress.update(),
        )
        try:
            client.execute(cleanup_kc=True)
        except CellExecutionError as error:
            cell = f"cell [{client.code_cells_executed}]"
            raise NotebookError(f"{cell} raised {error.ename}: {error.evalue}") from error
        except DeadKernelError as error:
            raise NotebookError(f"cell [{client.code_cells_executed}]: {error}") from error
    if found := complaints(notebook):
        raise NotebookError("\n".join(found))
    notebook.metadata[DIGEST] = digest(notebook)
    return notebook


def figures(notebook: NotebookNode) -> dict[str, bytes]:
    """{file name: PNG} of the pictures that other pages show: cells tagged figure:NAME."""
    return {
        f"{tag.removeprefix(FIGURE_TAG)}.png": base64.b64decode(output.data["image/png"])
        for cell in code_cells(notebook)
        for tag in cell.metadata.get("tags", [])
        if tag.startswith(FIGURE_TAG)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    }


def refresh(path: Path, figure_folder: Path = FIGURES) -> bool:
    """Re-execute one file and store what it says now; True where the file changed."""
    notebook = nbformat.read(path, as_version=4)
    fresh = clean(execute(notebook, path.parent, path.stem))
    for name, png in figures(fresh).items():
        figure_folder.mkdir(parents=True, exist_ok=True)
        (figure_folder / name).write_bytes(png)
    text = to_text(fresh).encode()
    if text == path.read_bytes():
        return False
    path.write_bytes(text)
    return True


def main(arguments: Sequence[str], folder: Path = NOTEBOOKS) -> int:
    """Run the command; the exit code is 1 where a notebook was left as it was for an error."""
    known = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description="Re-execute notebooks and store their outputs.")
    parser.add_argument("names", nargs="*", help="such as 01_one_weight; all where none is given")
    names = [Path(name).stem for name in parser.parse_args(arguments).names] or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no such notebook: {', '.join(unknown)} (there are: {', '.join(known)})")
    # As in the tests: the last digits of a sum depend on the number of threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    failed = False
    for name in names:
        try:
            print(f"{name}: {'changed' if refresh(known[name]) else 'as before'}")
        except NotebookError as error:
            failed = True
            print(f"{name}: left as it was\n{error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
