"""Running the three studies: jobs over processes, stored as they end, and only those still missing."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from course.study import arc_folds, first_study, small_worlds
from course.study.store import Store, read
from course.study.training import Row

__all__ = ["FOLDER", "PARTS", "Studies"]

FOLDER = Path(__file__).resolve().parents[3] / "data" / "study"

Job = arc_folds.ArcJob | small_worlds.WorldJob | first_study.FirstJob

_ARC = {part.name: part for part in arc_folds.PARTS}
_WORLDS = {part.name: part for part in small_worlds.PARTS}
# What the verdicts rest on comes first, then what explains them.
_FIRST = ("worlds", "arc-tuning", "arc", "worlds-controls", "worlds-pairs", "worlds-cues")
PARTS: Mapping[str, Any] = {
    name: (_ARC | _WORLDS)[name] for name in dict.fromkeys((*_FIRST, *_ARC, *_WORLDS))
} | {part.name: part for part in first_study.PARTS}
_COLUMNS: Mapping[str, tuple[str, ...]] = (
    dict.fromkeys(_ARC, arc_folds.COLUMNS)
    | dict.fromkeys(_WORLDS, small_worlds.COLUMNS)
    | dict(first_study.COLUMNS)
)


def run_job(job: Job) -> list[Row]:
    """Run one job in one thread, so that its numbers do not depend on what runs beside it."""
    torch.set_num_threads(1)
    return [label | row for label, rows in zip(job.labels, job.run(), strict=True) for row in rows]


class Studies:
    """The stored rows of the studies in a folder, and what is still missing.

    Args:
        folder: of the rows; made when the first come.

    Raises:
        ValueError: if the folder has rows of another plan or of damaged files.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self._frames: dict[str, pd.DataFrame] = {}
        self._require_same_plan()

    def store(self, part: str) -> Store:
        """The stored rows of a part."""
        return Store(self.folder / f"{part}.csv.gz", _COLUMNS[part])

    def rows(self, part: str) -> pd.DataFrame:
        """The rows of a part; data/study/README.md says what they mean."""
        if part not in self._frames:
            columns = list(_COLUMNS.get(part, ()))
            found = read(self.folder / f"{part}.csv.gz")
            self._frames[part] = found if len(found) else pd.DataFrame(columns=columns)
        return self._frames[part]

    def jobs(self, part: str) -> list[Job]:
        """All jobs of a part that are known by now; what tuning asks for next comes later.

        Raises:
            ValueError: if it needs settings that are not chosen yet.
        """
        return PARTS[part].jobs(self.rows)

    def missing(self, part: str) -> list[Job]:
        """The jobs of a part without stored rows."""
        jobs, store = self.jobs(part), self.store(part)
        if not jobs:
            return []
        labels = list(jobs[0].labels[0])
        stored = store.text()
        done = set(stored[labels].itertuples(index=False, name=None)) if len(stored) else set()
        return [job for job in jobs if _key(store, job) not in done]

    def run(self, part: str, processes: int = -1, backend: str = "loky", **of_backend: Any) -> None:
        """Run what a part lacks, with progress; a kill loses at most the jobs in flight.

        Args:
            part: a name of `PARTS`.
            processes: how many at a time; -1 is one a core.
            backend: joblib's name of what runs them: "loky" (processes here), or "dask".
            of_backend: what the backend is made with, such as dask's scheduler_host.
        """
        store = self.store(part)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._describe()
        while missing := self.missing(part):  # tuning may ask for more once these are done
            with (
                parallel_config(backend=backend, n_jobs=processes, **of_backend),
                tqdm(total=round(sum(job.cost for job in missing)), desc=part) as progress,
            ):
                runs = Parallel(return_as="generator_unordered")(
                    delayed(_numbered)(number, job) for number, job in enumerate(missing)
                )
                done = 0.0
                for number, rows in runs:
                    store.add(rows)
                    done += missing[number].cost
                    progress.update(round(done) - progress.n)
            self._frames.clear()

    def tidy(self, part: str) -> None:
        """Write the rows of a part sorted and as one, which takes less room."""
        self.store(part).tidy()

    def again(self, part: str, **of_run: Any) -> list[tuple[dict[str, str], dict[str, str]]]:
        """Run the jobs with such runs once more; each row of these runs as (stored, now), as text.

        Compared are the columns that a run fills now.

        Args:
            part: a name of `PARTS`.
            of_run: columns that tell the runs wanted, such as task="a699fb00" or world=3.
        """
        store = self.store(part)
        wanted = store.as_text(of_run)
        stored = {
            tuple(row[name] for name in _IDENTITY if name in row): row
            for row in store.text().to_dict("records")
        }
        found = []
        for job in self.jobs(part):
            labels = [store.as_text(label) for label in job.labels]
            if any(all(label[name] == wanted[name] for name in of_run) for label in labels):
                for row in map(store.as_text, run_job(job)):
                    if all(row[name] == wanted[name] for name in of_run):
                        kept = stored.get(tuple(row[n] for n in _IDENTITY if n in row), {})
                        now = {name: value for name, value in row.items() if value}
                        found.append(({name: kept.get(name, "") for name in now}, now))
        return found

    def _plan(self) -> dict[str, Any]:
        plan = {"arc": arc_folds.described(), "worlds": small_worlds.described()}
        return json.loads(json.dumps(plan))

    def _require_same_plan(self) -> None:
        path = self.folder / "configuration-2.json"
        if path.exists() and json.loads(path.read_text(encoding="utf-8"))["plan"] != self._plan():
            raise ValueError(
                f"{self.folder} has results of another plan (see {path.name} there): "
                "move them away, or take another --folder"
            )

    def _describe(self) -> None:
        description = {
            "plan": self._plan(),
            "machine": platform.processor() or platform.machine(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
        }
        text = json.dumps(description, indent=1) + "\n"
        (self.folder / "configuration-2.json").write_text(text, encoding="utf-8")


_IDENTITY = (
    *dict.fromkeys((*arc_folds.LABELS, *small_worlds.LABELS, "setting", "voters")),
    *("at", "value", "radius"),
)


def _key(store: Store, job: Job) -> tuple[str, ...]:
    label = job.labels[0]
    text = store.as_text(label)
    return tuple(text[name] for name in label)


def _numbered(number: int, job: Job) -> tuple[int, list[Row]]:
    return number, run_job(job)
