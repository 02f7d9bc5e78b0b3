"""Many training runs at once: one process a core, a progress bar, nothing lost to one bad run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from consensus_lib import Diverged
from course.arc.fitting import ArcHistory, fit

__all__ = ["fit_all"]


def fit_all(jobs: Iterable[Mapping[str, Any]]) -> list[ArcHistory]:
    """Run `fit(**job)` for every job, as many at a time as there are cores.

    Each run has one thread, so that its numbers do not depend on how many run beside it. A run
    that diverges gives the history it had (`stopped` is "diverged").
    """
    jobs = list(jobs)
    with parallel_config(backend="loky", n_jobs=-1, inner_max_num_threads=1):
        runs = Parallel(return_as="generator")(delayed(_fit)(job) for job in jobs)
        # stdout, since a notebook shows stderr as if something had gone wrong
        return list(tqdm(runs, total=len(jobs), unit="run", file=sys.stdout, leave=False))


def _fit(job: Mapping[str, Any]) -> ArcHistory:
    try:
        return fit(**job)
    except Diverged as error:
        return error.history
