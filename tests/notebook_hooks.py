"""Hooks for the notebooks under nbval: a saved run is skipped, a stated run time is held to."""

import os
import re
from collections.abc import Generator
from functools import cache
from pathlib import Path

import psutil
import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from tests import refresh_notebooks

STATEMENT = "minutes to read, about N seconds to run on 2 CPU cores"

# Processor time, so that other work on the machine does not count. Generous: a slower machine,
# and a first import of torch, which weighs most where little time is stated.
FACTOR, COLD_START = 3, 10


def stated_seconds(notebook: NotebookNode) -> int | None:
    """The run time that the first cell states, None where it does not."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown":
        return None
    pattern = STATEMENT.replace("N", r"(\d+)")
    found = re.search(pattern, " ".join(first.source.split()))
    return int(found[1]) if found else None


@cache
def is_stored(path: Path) -> bool:
    """Whether a notebook is as the command stores it, read once."""
    return refresh_notebooks.is_stored(path)


def skip_unless_stored(path: Path) -> None:
    """Skip the running test where its notebook holds somebody's own run."""
    if not is_stored(path):
        pytest.skip(f"{path.name} is not as it was stored: test_is_as_it_was_stored says more")


class RunTime(pytest.Item):
    """Holds a notebook to its stated run time, once its cells have run."""

    def runtest(self) -> None:
        stated = stated_seconds(self.parent.nb)
        if stated is None:
            pytest.fail(f'The first cell must say "… {STATEMENT}".', pytrace=False)
        used = processor_seconds(self.parent.kernel.km.provisioner.pid)
        if used > FACTOR * stated + COLD_START:
            words = f"States about {stated} s, took {used:.0f} s of processor time."
            pytest.fail(words, pytrace=False)

    def reportinfo(self) -> tuple[os.PathLike[str], None, str]:
        return self.path, None, f"{self.path.name}: run time"


def processor_seconds(pid: int) -> float:
    """What a process has used so far, with those it started."""
    process = psutil.Process(pid)
    return sum(
        times.user + times.system + times.children_user + times.children_system
        for times in (p.cpu_times() for p in (process, *process.children(recursive=True)))
    )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if isinstance(collector, IPyNbFile) and report.passed:
        report.result.append(RunTime.from_parent(collector, name="run time"))
    return report


def pytest_itemcollected(item: pytest.Item) -> None:
    if isinstance(item, IPyNbCell):
        # nbval allows 5 seconds between the end of a cell and its last output, too few on a
        # busy machine, and has no option for it.
        item.output_timeout = 600


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if isinstance(item.parent, IPyNbFile):
        skip_unless_stored(item.path)  # before the setup, which starts a kernel
