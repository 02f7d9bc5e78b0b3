"""The study in a world of small rules: what is run. The reasons are in PLAN-WORLDS.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import pandas as pd

from course.study.networks import Architecture
from course.study.stepping import Method
from course.study.training import Budget, Row, Run, Training
from course.study.tuning import ADAM, ADAMW, SGD, Lattice, Setting
from course.study.worlds import FAMILIES, World

__all__ = ["BUDGET", "CELL", "PARTS", "TUNING_WORLDS", "Cell", "WorldJob", "accuracy", "world"]

BUDGET = Budget(
    steps=2000,
    checkpoints=(0, 50, 100, 200, 500, 1000, 2000),
    levels=(
        *(1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03),
        *(0.02, 0.015, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001),
    ),
    fitted=1e-4,
)
TUNING_WORLDS = tuple(range(1000, 1016))
FRESH, REFERENCE = 32, 16  # grids to examine a network on, and to ask what serves the rule
SIDE_BY_SIDE = 32  # training pairs of all the worlds of a job, for the processor's cache


@dataclass(frozen=True)
class Cell:
    """What the worlds and networks of a comparison have in common.

    Attributes:
        pairs: training pairs, n.
        cued: those of them with a cue, k.
        density: the share of cells that are accidents.
        width: channels of the network.
        depth: its number of 3x3 convolutions.
    """

    pairs: int = 4
    cued: int = 0
    density: float = 0.3
    width: int = 32
    depth: int = 3


CELL = Cell()


@dataclass(frozen=True)
class WorldJob:
    """One method in some worlds, trained side by side: the unit of work."""

    numbers: tuple[int, ...]
    cell: Cell
    method: Method
    budget: Budget = BUDGET

    @property
    def labels(self) -> list[Row]:
        """What tells each of its runs from all others, as it stands in the rows."""
        common = asdict(self.cell) | asdict(self.method) | {"held": int(self.method.held)}
        return [{"world": n, "family": _family(n)} | common for n in self.numbers]

    @property
    def cost(self) -> float:
        """About how long it takes, in billions of weights times cells."""
        size = Architecture(self.cell.width, self.cell.depth).size
        return len(self.numbers) * self.cell.pairs * 36 * size * self.budget.steps / 1e9

    def run(self) -> list[list[Row]]:
        """Train and return the rows of each run."""
        runs = []
        for number in self.numbers:
            own = world(number, self.cell.density)
            pairs, fresh, reference = _pairs(number, self.cell.density)
            cued = own.training_pairs(self.cell.cued, self.cell.cued) if self.cell.cued else ()
            train = (*cued, *pairs[self.cell.cued : self.cell.pairs])
            exams = {"fresh": fresh, "watched": pairs[self.cell.pairs : self.cell.pairs + 1]}
            runs.append(
                Run(self.method, number, train, exams, own.subject, own.accidents, reference)
            )
        return Training(runs, self.budget, Architecture(self.cell.width, self.cell.depth)).train()


def world(number: int, density: float = CELL.density) -> World:
    """The world of this number in the study."""
    return World(number, _family(number), density)


def _family(number: int) -> str:
    return FAMILIES[number % len(FAMILIES)]


@cache
def _pairs(number: int, density: float) -> tuple[tuple, tuple, tuple]:
    own = world(number, density)
    return own.training_pairs(13), own.fresh_pairs(FRESH), own.fresh_pairs(REFERENCE, purpose=3)


def accuracy(rows: pd.DataFrame) -> pd.Series:
    """The mean of the shares of right cells among the A that turn and those that stay."""
    return (rows["fresh_changed_accuracy"] + rows["fresh_kept_accuracy"]) / 2


@dataclass(frozen=True)
class Contender:
    """A rule as it takes part.

    Attributes:
        method: rule, optimizer, held; its rate and decay are still to choose.
        lattice: of its settings.
        start: the settings tried in any case; () takes those of consensus.
    """

    method: Method
    lattice: Lattice = ADAMW
    start: tuple[Setting, ...] = ()


Rows = Callable[[str], pd.DataFrame]
"""From the name of a part to its stored rows."""


@dataclass(frozen=True)
class WorldPart:
    """A question of the study: cells, who takes part, and in how many worlds.

    Tuning comes first, in the same file: worlds from 1000 on are for that alone.
    """

    about: str
    name: str
    worlds: int
    cells: tuple[Cell, ...] = (CELL,)
    rules: tuple[str, ...] = ("mean", "consensus")
    optimizers: tuple[str, ...] = ("adamw",)
    tunes: str = "decay"  # "rate and decay", "decay" or, at the settings of consensus, ""
    held: bool = False  # whether held consensus takes part too

    def jobs(self, rows: Rows) -> list[WorldJob]:
        """All jobs that are known by now: settings to try first, reported worlds when chosen."""
        tuning, reported = [], []
        stored = rows(self.name)
        for cell in self.cells:
            for contender in self._contenders(rows):
                tried, chosen = self._settings(contender, cell, stored, rows)
                for rate, decay in tried:
                    method = replace(contender.method, learning_rate=rate, weight_decay=decay)
                    tuning += _jobs(TUNING_WORLDS, cell, method)
                if chosen is not None:
                    rate, decay = chosen
                    method = replace(contender.method, learning_rate=rate, weight_decay=decay)
                    reported += _jobs(range(self.worlds), cell, method)
        # world by world, so that a part that is not complete has the same worlds for every rule
        reported.sort(key=lambda job: job.numbers)
        return tuning + reported

    def _contenders(self, rows: Rows) -> Iterator[Contender]:
        for optimizer in self.optimizers:
            for rule in self.rules:
                for held in (False, True) if self.held and rule == "consensus" else (False,):
                    yield self._contender(Method(rule, 0.0, 0.0, held, optimizer), rows)

    def _contender(self, method: Method, rows: Rows) -> Contender:
        if not self.tunes:
            return Contender(method)
        if self.tunes == "rate and decay":
            lattice, start = _LATTICES[method.optimizer]
            return Contender(method, lattice, start)
        like = method if method.rule in ("mean", "consensus") else replace(method, rule="consensus")
        rate = chosen_setting(rows, like)[0]
        lattice = replace(ADAMW, rates=(rate,))
        start = tuple((rate, decay) for decay in (0.0, 1.0, 3.0, 10.0))
        return Contender(method, lattice, start)

    def _settings(
        self, contender: Contender, cell: Cell, stored: pd.DataFrame, rows: Rows
    ) -> tuple[list[Setting], Setting | None]:
        """The settings to try or tried, and the one chosen once nothing is left to try."""
        if not contender.start:
            return [], chosen_setting(rows, Method("consensus", 0.0))
        scores = tuning_scores(stored, cell, contender.method)
        wanted = contender.lattice.wanted(contender.start, scores)
        return [*scores, *wanted], None if wanted else contender.lattice.best(scores)


def tuning_scores(rows: pd.DataFrame, cell: Cell, method: Method) -> dict[Setting, float]:
    """{setting: mean accuracy at the end} of the settings that all tuning worlds have tried."""
    wanted = asdict(cell) | {"rule": method.rule, "held": int(method.held)}
    wanted |= {"optimizer": method.optimizer, "at": "step"}
    own = rows[rows["world"].isin(TUNING_WORLDS)]
    for name, value in wanted.items():
        own = own[own[name] == value]
    # a run that diverged has no last step, and guesses
    last = own.assign(accuracy=accuracy(own).where(own["value"] == BUDGET.steps))
    runs = last.groupby(["learning_rate", "weight_decay", "world"])["accuracy"].max().fillna(0.5)
    by_setting = runs.groupby(level=[0, 1]).agg(["mean", "size"])
    complete = by_setting[by_setting["size"] == len(TUNING_WORLDS)]
    return {(float(rate), float(decay)): mean for (rate, decay), mean in complete["mean"].items()}


def chosen_setting(rows: Rows, method: Method) -> Setting:
    """The rate and decay chosen for a method at n = 4, k = 0.

    Raises:
        ValueError: if its tuning is not complete.
    """
    lattice, start = _LATTICES["adamw"]
    scores = tuning_scores(rows(BASE.name), CELL, method)
    if lattice.wanted(start, scores):
        raise ValueError(f"the settings of {method.rule} are not tuned yet: run {BASE.name} first")
    return lattice.best(scores)


def _jobs(numbers: range | tuple[int, ...], cell: Cell, method: Method) -> list[WorldJob]:
    size = max(1, min(8, SIDE_BY_SIDE // cell.pairs))
    blocks = [tuple(numbers[i : i + size]) for i in range(0, len(numbers), size)]
    return [WorldJob(block, cell, method) for block in blocks]


def _all(rates: tuple[float, ...], decays: tuple[float, ...]) -> tuple[Setting, ...]:
    return tuple((rate, decay) for rate in rates for decay in decays)


_LATTICES: Mapping[str, tuple[Lattice, tuple[Setting, ...]]] = MappingProxyType(
    {
        "adamw": (ADAMW, _all((1e-3, 3e-3, 1e-2), (0.0, 0.3, 1.0, 3.0, 10.0, 30.0))),
        "adam": (ADAM, _all((1e-3, 3e-3, 1e-2), (0.0, 1e-4, 1e-3, 1e-2))),
        "sgd": (SGD, _all((0.1, 0.3, 1.0, 3.0), (0.0, 1e-3, 1e-2, 3e-2))),
    }
)
BASE = WorldPart(
    "n = 4, no cues: does consensus at its best generalize better?",
    "worlds",
    200,
    tunes="rate and decay",
    held=True,
)
PARTS: tuple[WorldPart, ...] = (
    BASE,
    WorldPart(
        "controls at the settings of consensus",
        "worlds-controls",
        100,
        rules=("mean", "scaled mean", "random mask", "smallest"),
        tunes="",
    ),
    WorldPart(
        "2 to 12 training pairs",
        "worlds-pairs",
        100,
        cells=tuple(Cell(pairs=n) for n in (2, 3, 6, 8, 12)),
    ),
    WorldPart(
        "a cue in 1 to 4 of 4 pairs", "worlds-cues", 100, tuple(Cell(cued=k) for k in (1, 2, 3, 4))
    ),
    WorldPart(
        "other rules, tuned",
        "worlds-rules",
        100,
        rules=("abstain", "AND-mask", "agreement"),
    ),
    WorldPart(
        "fewer and more accidents", "worlds-density", 100, (Cell(density=0.1), Cell(density=0.4))
    ),
    WorldPart(
        "SGD, and Adam with coupled decay",
        "worlds-optimizers",
        100,
        optimizers=("sgd", "adam"),
        tunes="rate and decay",
    ),
    WorldPart(
        "other networks",
        "worlds-networks",
        40,
        (Cell(width=16), Cell(width=64), Cell(depth=2), Cell(depth=4)),
    ),
)
LABELS = ("world", "family", *Cell.__dataclass_fields__, *Method.__dataclass_fields__)
_EXAM = ("loss", "exact", "changed_accuracy", "kept_accuracy")
COLUMNS: tuple[str, ...] = (
    *LABELS,
    *("at", "value", "step", "ended", "train_loss"),
    *("consensus_ratio", "live_consensus_ratio", "update_ratio"),
    *("served_update", "accident_update", "accident_weight"),
    *(f"fresh_{name}" for name in _EXAM),
    *(f"watched_{name}" for name in _EXAM),
)


def described() -> dict[str, Any]:
    """What the rows depend on, for the configuration beside them."""
    return {
        "budget": asdict(BUDGET),
        "tuning_worlds": TUNING_WORLDS,
        "fresh_grids": FRESH,
        "parts": {part.name: asdict(part) for part in PARTS},
        "lattices": {name: asdict(lattice) for name, (lattice, _) in _LATTICES.items()},
        "start": {name: start for name, (_, start) in _LATTICES.items()},
    }
