"""The spirals at every learning rate and weight decay: python -m course.toys.spirals_study.

Each rule meets the same grid from the same seeds. A rule's settings are *chosen* by its mean
accuracy on held-out environments, and only then is its test accuracy looked at. Runs that are
stored already are not run again, so a study that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import torch
from tqdm import tqdm

import consensus_lib as cl
from course import DATA, rules
from course.toys.spirals import Recipe, fit

__all__ = ["STORE", "Job", "choose", "load", "make_rule", "make_run", "plan", "store_missing"]

STORE = DATA / "toys" / "spirals.csv"

Job = tuple[str, float, float, int]
"""A rule, a learning rate, a weight decay and a seed."""

_RATES, _DECAYS, _SEEDS = (3e-3, 1e-2, 3e-2), (0.0, 1e-4, 1e-3), (0, 1, 2)
_JOB = ["rule", "learning_rate", "weight_decay", "seed"]
_FOUND = ["ended", "loss", "train", "held_out", "test"]
_RULES: Mapping[str, cl.Rule] = MappingProxyType(
    {name: rules.RULES[name] for name in ("mean", "consensus", "AND-mask", "random mask")}
    | {"AND-mask": cl.AndMask(rescale=True)}  # as in the paper's code
)


def plan() -> Iterator[Job]:
    """Every job of the grid."""
    return itertools.product(_RULES, _RATES, _DECAYS, _SEEDS)


def make_rule(name: str, seed: int) -> cl.Rule:
    """The rule of the study by its name; a random mask draws its lots from the seed."""
    return rules.seeded(_RULES[name], seed)


def make_run(
    rule: str, learning_rate: float, weight_decay: float, seed: int, recipe: Recipe | None = None
) -> dict[str, object]:
    """Train once, by default with the default recipe; the run as a row of `load`."""
    recipe = recipe or Recipe()
    outcome = fit(
        recipe, make_rule(rule, seed), learning_rate, weight_decay, seed, every=recipe.steps
    )
    found = outcome.history.stopped, outcome.history.loss[-1]
    job = dict(zip(_JOB, (rule, learning_rate, weight_decay, seed), strict=True))
    accuracies = outcome.train, outcome.held_out, outcome.test
    return job | dict(zip(_FOUND, found + accuracies, strict=True))


def load(path: Path = STORE) -> pd.DataFrame:
    """The stored runs, a row each; none where there is no file.

    Columns: those of a job, then ended (as `History.stopped`), loss (in training, before the last
    step), and the accuracies train, held_out and test at the end.
    """
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=[*_JOB, *_FOUND])


def store_missing(jobs: Iterable[Job], path: Path = STORE) -> None:
    """Run what is not stored yet; each run is on the disk before the next begins."""
    known = set(load(path)[_JOB].itertuples(index=False, name=None))
    path.parent.mkdir(parents=True, exist_ok=True)
    for job in tqdm([job for job in jobs if job not in known], unit="run"):
        row = pd.DataFrame([make_run(*job)])
        row.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.6g")


def choose(runs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """{rule: (learning rate, weight decay)} of the best mean held-out accuracy over the seeds.

    Of equal ones the first in the order of the runs.
    """
    means = runs.groupby(_JOB[:3], sort=False)["held_out"].mean()
    best = means.groupby("rule", sort=False).idxmax()
    return {rule: (rate, decay) for rule, rate, decay in best}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run what the stored study of the spirals lacks.")
    parser.add_argument("--store", type=Path, default=STORE, help="a CSV file")
    torch.set_num_threads(1)
    store_missing(plan(), parser.parse_args().store)
