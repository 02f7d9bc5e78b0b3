"""Hooks for the notebooks under nbval: patience, and a last item for the stated run time."""

import os
import re
from collections.abc import Generator

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

CELLS_SECONDS = pytest.StashKey[float]()
STATEMENT = "minutes to read, about N seconds to run on 2 CPU cores"

# Generous: another machine, other work beside the tests, and a first import of torch from a
# cold disk, which weighs most where little time is stated.
FACTOR, COLD_START = 3, 10


def stated_seconds(notebook: NotebookNode) -> int | None:
    """The run time that the first cell states, None where it does not."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown":
        return None
    pattern = STATEMENT.replace("N", r"(\d+)")
    found = re.search(pattern, " ".join(first.source.split()))
    return int(found[1]) if found else None


class RunTime(pytest.Item):
    """Holds a notebook to its stated run time, once its cells have run."""

    def runtest(self) -> None:
        measured = self.parent.stash.get(CELLS_SECONDS, None)
        if measured is None:
            pytest.skip("no cell of this notebook ran")
        stated = stated_seconds(self.parent.nb)
        if stated is None:
            pytest.fail(f'The first cell must say "… {STATEMENT}".', pytrace=False)
        if measured > FACTOR * stated + COLD_START:
            pytest.fail(f"States about {stated} s, took {measured:.0f} s.", pytrace=False)

    def reportinfo(self) -> tuple[os.PathLike[str], None, str]:
        return self.path, None, f"{self.path.name}: run time"


def pytest_configure() -> None:
    # The run times are stated for two cores, and the last digits of a sum depend on the number
    # of threads. Set before torch is imported here, and inherited by the kernels.
    os.environ.setdefault("OMP_NUM_THREADS", "2")


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
        item.output_timeout = 60


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if isinstance(item, IPyNbCell) and call.when == "call":
        before = item.parent.stash.get(CELLS_SECONDS, 0.0)
        item.parent.stash[CELLS_SECONDS] = before + call.duration
