"""Running the study: jobs over processes, stored as they end, and only those still missing."""

from __future__ import annotations

import json
import platform
import random
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from course.arc import Task, augment_pairs, generate_pairs, load_task
from course.study.flatness import run_flatness
from course.study.plan import PARTS, SETTINGS, Budget, Job, study_tasks, tuning_tasks
from course.study.rules import SCALED_MEAN
from course.study.store import Columns, Store
from course.study.trials import Row, Trial, run_trial

__all__ = ["FOLDER", "Study", "run_job"]

FOLDER = Path(__file__).resolve().parents[3] / "data" / "study"

_JOB = ("task", "setting", "rule", "learning_rate", "weight_decay", "voters")
_EXAM = ("loss", "exact", "changed_accuracy", "cell_accuracy")
_COLUMNS = (
    *(*_JOB, "seed", "at", "value", "step", "ended", "train_loss"),
    *("consensus_ratio", "live_consensus_ratio", "update_ratio"),
    *(f"layer_{number}_ratio" for number in range(1, 6)),
    *(f"test_{name}" for name in _EXAM),
)
_COLUMNS_OF = {
    "fresh": (*_COLUMNS, *(f"fresh_{name}" for name in _EXAM)),
    "flatness": (*_JOB, "seed", "ended", "train_loss", "radius", "rise"),
}
FRESH_PAIRS, FRESH_SEED = 200, 0


def run_job(job: Job, part: str) -> list[Row]:
    """Run one job of a part, in one thread so that its numbers do not depend on the others."""
    torch.set_num_threads(1)
    task = load_task(job.task)
    fresh = generate_pairs(task.id, FRESH_PAIRS, FRESH_SEED) if part == "fresh" else ()
    setting = replace(SETTINGS[job.setting], weight_decay=job.weight_decay)
    trial = Trial(
        _with_voters(task, job.voters),
        job.rule,
        setting,
        job.learning_rate,
        job.seeds,
        job.budget,
        fresh,
    )
    rows = run_flatness(trial) if part == "flatness" else run_trial(trial)
    return [dict(zip(_JOB, job.key, strict=True)) | row for row in rows]


def _with_voters(task: Task, voters: int) -> Task:
    """The task with so many copies of its training pairs, each a voter; 0: with the pairs."""
    if not voters:
        return task
    copies, _ = augment_pairs(task.train, "both")
    return replace(task, train=tuple(random.Random(0).sample(copies, len(copies))[:voters]))


class Study:
    """The stored results of the study in a folder, and what is still missing.

    Args:
        folder: of the results; made when the first come.
        budget: another budget for every run, to try the study out.
        tasks: only the jobs of the first so many tasks of each part, to try the study out.

    Raises:
        ValueError: if the folder has results of another plan or of damaged files.
    """

    def __init__(
        self, folder: Path = FOLDER, budget: Budget | None = None, tasks: int | None = None
    ) -> None:
        self.folder = folder
        self._budget = budget
        self._tasks = tasks
        self._require_same_plan()

    def store(self, part: str) -> Store:
        """The stored rows of a part."""
        path = self.folder / f"{part.replace(' ', '-')}.csv.gz"
        return Store(path, _COLUMNS_OF.get(part, _COLUMNS))

    def results(self, part: str) -> Columns:
        """The rows of a part as columns; data/study/README.md says what they mean."""
        return self.store(part).columns()

    def jobs(self, part: str) -> list[Job]:
        """All jobs of a part.

        Raises:
            ValueError: if the learning rates that it needs are not chosen yet.
        """
        return self._jobs(part, {} if PARTS[part].tunes else self.rates())

    def missing(self, part: str) -> list[Job]:
        """The jobs of a part without stored rows."""
        return self._missing(part, self.jobs(part))

    def rates(self) -> dict[tuple[str, str], float]:
        """{(setting, rule): learning rate}, as far as the tuning parts are complete.

        Chosen is the rate with the highest mean accuracy on the changed cells of the tuning
        tasks' test pairs at the last step; of equals the smaller.
        """
        rates: dict[tuple[str, str], float] = {}
        for part in (name for name, p in PARTS.items() if p.tunes):
            if self._missing(part, self._jobs(part, {})):
                continue
            found = self.results(part).where(at="step")
            last = found.where(value=found["value"].max())
            for setting, rule in sorted(set(zip(last["setting"], last["rule"], strict=True))):
                own = last.where(setting=setting, rule=rule)
                scores = {
                    rate: own.where(learning_rate=rate)["test_changed_accuracy"].mean()
                    for rate in sorted(set(own["learning_rate"].tolist()))
                }
                rates[str(setting), str(rule)] = max(scores, key=scores.__getitem__)
                if rule == "consensus":
                    rates[str(setting), SCALED_MEAN] = rates[str(setting), "consensus"]
        return rates

    def run(self, part: str, processes: int = -1, backend: str = "loky", **of_backend: Any) -> None:
        """Run what a part lacks, with progress; a kill loses at most the jobs in flight.

        Args:
            part: a name of `PARTS`.
            processes: how many at a time; -1 is one a core.
            backend: joblib's name of what runs them: "loky" (processes here), or "dask".
            of_backend: what the backend is made with, such as dask's scheduler_host.
        """
        missing = self.missing(part)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._describe()
        store = self.store(part)
        total = sum(job.cost for job in missing)
        with (
            parallel_config(backend=backend, n_jobs=processes, **of_backend),
            tqdm(total=round(total / 1e9), desc=part, unit="Gop", disable=not missing) as progress,
        ):
            runs = Parallel(return_as="generator_unordered")(
                delayed(_run_numbered)(number, job, part) for number, job in enumerate(missing)
            )
            done = 0.0
            for number, rows in runs:
                store.add(rows)
                done += missing[number].cost
                progress.update(round(done / 1e9) - progress.n)
        if missing:
            store.tidy()

    def again(self, part: str, **of_job: Any) -> dict[Job, list[tuple[dict[str, str], ...]]]:
        """Run jobs of a part once more.

        Args:
            part: a name of `PARTS`.
            of_job: attributes of the jobs wanted, such as task and rule.

        Returns:
            {job: its rows, each as (stored, now)}, as text; stored is {} where there is none.
        """
        store = self.store(part)
        stored = {_identity(row): row for row in store.rows()}
        found = {}
        for job in self.jobs(part):
            if all(getattr(job, name) == value for name, value in of_job.items()):
                rows = map(store.as_text, run_job(job, part))
                found[job] = [(stored.get(_identity(row), {}), row) for row in rows]
        return found

    def _jobs(self, part: str, rates: Mapping[tuple[str, str], float]) -> list[Job]:
        try:
            jobs = PARTS[part].jobs(rates)
        except KeyError as error:
            setting, rule = error.args[0]
            raise ValueError(
                f"'{part}' needs the learning rate of '{rule}' with {setting}: run the tuning "
                f"parts first ({', '.join(name for name, p in PARTS.items() if p.tunes)})"
            ) from None
        if self._tasks is not None:
            chosen = list(dict.fromkeys(job.task for job in jobs))[: self._tasks]
            jobs = [job for job in jobs if job.task in chosen]
        return jobs if self._budget is None else [replace(j, budget=self._budget) for j in jobs]

    def _missing(self, part: str, jobs: list[Job]) -> list[Job]:
        done = {tuple(row[name] for name in _JOB) for row in self.store(part).rows()}
        return [job for job in jobs if job.key not in done]

    def _plan(self) -> dict[str, Any]:
        return {
            "settings": {name: asdict(setting) for name, setting in SETTINGS.items()},
            "budget": asdict(self._budget or Budget()),
            "study_tasks": study_tasks(),
            "tuning_tasks": tuning_tasks(),
        }

    def _require_same_plan(self) -> None:
        path = self.folder / "configuration.json"
        if not path.exists():
            return
        stored = json.loads(path.read_text(encoding="utf-8"))["plan"]
        if stored != json.loads(json.dumps(self._plan())):
            raise ValueError(
                f"{self.folder} has results of another plan (see configuration.json there): "
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
        (self.folder / "configuration.json").write_text(text, encoding="utf-8")


def _identity(row: Mapping[str, str]) -> tuple[str, ...]:
    moment = ("seed", "at", "value", "radius")
    return tuple(row.get(name, "") for name in (*_JOB, *moment))


def _run_numbered(number: int, job: Job, part: str) -> tuple[int, list[Row]]:
    return number, run_job(job, part)
