"""How the tests are shared out: one process a core, one thread each, what takes longest first."""

import os
from pathlib import Path

import joblib
import pytest
from nbval.plugin import IPyNbFile
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.notebook_hooks import stated_seconds

BROWSER = "tests/browser"
# Each process imports torch and starts kernels of its own: more of them need memory and save
# nothing, since the longest unit below sets the end.
MOST_PROCESSES = 6


class Units(LoadScopeScheduling):
    """A file stays whole, and so do the browser tests, which share servers and pages."""

    def _split_scope(self, nodeid: str) -> str:
        return BROWSER if nodeid.startswith(BROWSER) else nodeid.split("::")[0]


def pytest_configure() -> None:
    # One thread: the last digits of a sum depend on their number, and the other cores have work
    # of their own. One process: joblib, too, would take all cores. Kernels inherit both.
    os.environ.update(OMP_NUM_THREADS="1", LOKY_MAX_CPU_COUNT="1")


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core; none beside this one where the command names a single file."""
    if len(config.args) == 1 and Path(config.args[0].split("::")[0]).is_file():
        return 0
    return min(joblib.cpu_count(), MOST_PROCESSES)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Units:
    return Units(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long units first, so that all processes end at about the same time."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[int, int]:
    if item.nodeid.startswith(BROWSER):
        return 0, 0
    if isinstance(item.parent, IPyNbFile):
        return 1, -(stated_seconds(item.parent.nb) or 0)
    return 2, 0
