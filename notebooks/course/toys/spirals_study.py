"""The spirals at every learning rate and weight decay: python -m course.toys.spirals_study.

Each rule meets the same grid from the same seeds. A rule's settings are *chosen* by its mean
accuracy on held-out environments, and only then is its test accuracy looked at. Runs that are
stored already are not run again, so a study that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import mean
from types import MappingProxyType

import torch
from tqdm import tqdm

from consensus_lib.rules import AndMask, Consensus, Mean, RandomMask, Rule
from course.toys.spirals import Recipe, fit

__all__ = [
    "LEARNING_RATES",
    "RULES",
    "SEEDS",
    "STORE",
    "WEIGHT_DECAYS",
    "Run",
    "choose",
    "load",
    "make_run",
    "plan",
    "settings",
    "store_missing",
]

STORE = Path(__file__).resolve().parents[3] / "data" / "toys" / "spirals.csv"

LEARNING_RATES = (3e-3, 1e-2, 3e-2)
WEIGHT_DECAYS = (0.0, 1e-4, 1e-3)
SEEDS = (0, 1, 2)
# From a seed, since the random mask draws lots. The AND-mask is rescaled as in the paper's code.
RULES: Mapping[str, Callable[[int], Rule]] = MappingProxyType(
    {
        "mean": lambda seed: Mean(),
        "consensus": lambda seed: Consensus(),
        "AND-mask": lambda seed: AndMask(rescale=True),
        "random mask": lambda seed: RandomMask(generator=torch.Generator().manual_seed(seed)),
    }
)


@dataclass(frozen=True)
class Run:
    """One row of the store.

    Attributes:
        rule, learning_rate, weight_decay, seed: the settings.
        ended: why the run ended, as `History.stopped`.
        loss: the training loss before the last step.
        train, held_out, test: accuracies at the end.
    """

    rule: str
    learning_rate: float
    weight_decay: float
    seed: int
    ended: str
    loss: float
    train: float
    held_out: float
    test: float


Settings = tuple[float, float]


def settings(run: Run) -> Settings:
    """What is chosen: (learning rate, weight decay)."""
    return run.learning_rate, run.weight_decay


def plan() -> Iterator[tuple[str, float, float, int]]:
    """Every (rule, learning rate, weight decay, seed) of the grid."""
    return itertools.product(RULES, LEARNING_RATES, WEIGHT_DECAYS, SEEDS)


def make_run(
    rule: str, learning_rate: float, weight_decay: float, seed: int, recipe: Recipe | None = None
) -> Run:
    """Train once; of the default recipe unless another is given."""
    recipe = recipe or Recipe()
    outcome = fit(recipe, RULES[rule](seed), learning_rate, weight_decay, seed, every=recipe.steps)
    history = outcome.history
    found = (history.stopped, history.loss[-1], outcome.train, outcome.held_out, outcome.test)
    return Run(rule, learning_rate, weight_decay, seed, *found)


def load(path: Path = STORE) -> list[Run]:
    """The stored runs, none where there is no file."""
    if not path.exists():
        return []
    kinds = {"str": str, "int": int, "float": float}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Run(*(kinds[field.type](row[field.name]) for field in fields(Run)))
            for row in csv.DictReader(file)
        ]


def store_missing(jobs: Iterable[tuple[str, float, float, int]], path: Path = STORE) -> None:
    """Run what is not stored yet; each run is on the disk before the next begins."""
    known = {(run.rule, run.learning_rate, run.weight_decay, run.seed) for run in load(path)}
    missing = [job for job in jobs if job not in known]
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(field.name for field in fields(Run))
        for job in tqdm(missing, unit="run"):
            numbers = (f"{x:.6g}" if isinstance(x, float) else x for x in astuple(make_run(*job)))
            writer.writerow(numbers)
            file.flush()


def choose(runs: Sequence[Run]) -> dict[str, Settings]:
    """For each rule the settings with the best mean held-out accuracy over its seeds.

    Of equal ones the first in the order of the runs.
    """
    chosen: dict[str, Settings] = {}
    for rule in dict.fromkeys(run.rule for run in runs):
        found: dict[Settings, list[float]] = {}
        for run in runs:
            if run.rule == rule:
                found.setdefault(settings(run), []).append(run.held_out)
        chosen[rule] = max(found, key=lambda key: mean(found[key]))
    return chosen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run what the stored study of the spirals lacks.")
    parser.add_argument("--store", type=Path, default=STORE, help="a CSV file")
    torch.set_num_threads(1)
    store_missing(plan(), parser.parse_args().store)
