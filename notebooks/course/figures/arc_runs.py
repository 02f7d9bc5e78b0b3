"""A run of the ARC lab without widgets: its settings, what it has seen so far, table and CSV."""

from __future__ import annotations

import csv
import io
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import torch

import consensus_lib as cl
from consensus_lib.report import Report
from consensus_lib.rules import Rule
from consensus_lib.training import Diverged, History
from course.arc import ArcHistory, Augmentation, Examination, Task, fit, load_task
from course.figures.tables import Table

__all__ = ["RULES", "ArcRun", "Record", "Settings", "export", "tabulate"]

# What a rule is called on a panel, its class in consensus_lib, and the settings it takes.
RULES = MappingProxyType(
    {
        "mean": ("Mean", ()),
        "consensus": ("Consensus", ("zeros",)),
        "AND-mask": ("AndMask", ("threshold",)),
        "power mean": ("PowerMean", ("p", "threshold")),
        "weighted mean": ("AgreementWeighted", ()),
        "sign vote": ("SignVote", ()),
        "random mask": ("RandomMask", ()),
        "smallest magnitude": ("SmallestMagnitude", ()),
    }
)
_ROSE_FAR = 3  # times the first loss; runs that rise by less may end well
_METRICS = (
    *("loss", "test_loss", "test_cell_accuracy", "test_changed_cell_accuracy", "test_exact"),
    *("consensus_ratio", "live_consensus_ratio", "update_ratio", "floor", "seconds"),
)


@dataclass(frozen=True)
class Settings:
    """All hyper-parameters of a run; what they mean is said by `course.arc.fit`.

    Attributes:
        task: an ARC-AGI-1 id, or a path to a JSON file.
        rule: a name of `RULES`, to which zeros, threshold and p belong.
        seeds: the run is repeated from each of these first weights.
    """

    task: str = "a699fb00"
    rule: str = "consensus"
    zeros: str = "veto"
    threshold: float = 1.0
    p: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    hold_masked: bool = False
    width: int = 32
    depth: int = 3
    steps: int = 200
    seeds: tuple[int, ...] = (0,)
    augmentation: Augmentation = "none"
    voters: str = "copies"
    zero_unseen: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"rule is one of {', '.join(RULES)}, not {self.rule!r}")

    @property
    def rule_name(self) -> str:
        """The rule with its settings in a few words, such as "consensus abstain"."""
        parts, settings = [self.rule], self._rule_settings()
        if settings.get("zeros", "veto") != "veto":
            parts.append(settings["zeros"])
        if "p" in settings:
            parts.append(f"p={settings['p']:g}")
        if settings.get("threshold", 1.0) != 1.0:
            parts.append(f"≥{settings['threshold']:g}")
        return " ".join(parts)

    def make_rule(self, seed: int) -> Rule:
        """The rule; a random mask draws its lots from `seed`, so that a run can be repeated."""
        settings = self._rule_settings()
        if self.rule == "random mask":
            settings["generator"] = torch.Generator().manual_seed(seed)
        return getattr(cl, RULES[self.rule][0])(**settings)

    def python(self) -> str:
        """A few lines of Python that repeat the run, with what differs from the defaults."""
        imports, settings = "import consensus_lib as cl", self._rule_settings()
        arguments = [f"{name}={value!r}" for name, value in settings.items()]
        if self.rule == "random mask":
            imports = "import torch, consensus_lib as cl"
            arguments = ["generator=torch.Generator().manual_seed(seed)"]
        rule = f"cl.{RULES[self.rule][0]}({', '.join(arguments)})"
        changed = "".join(f", {name}={value!r}" for name, value in self._changed().items())
        call = f"arc.fit(task, {rule}, steps={self.steps}, seed=seed{changed})"
        return "\n".join(
            [
                imports,
                "from course import arc",
                f"task = arc.load_task({self.task!r})",
                f"runs = [{call} for seed in {self.seeds!r}]",
            ]
        )

    def words(self) -> str:
        """What differs from the defaults, in words for a table."""
        words = []
        for name, value in self._changed().items():
            name = name.replace("_", " ")
            words.append(name if value is True else f"{name} {_short(value)}")
        return ", ".join(words) or "defaults"

    def fit(self, task: Task, seed: int, **callbacks: Any) -> ArcHistory:
        """Run one seed: `fit` with these settings, and its `on_step` and `stop`."""
        same_for_all = {name: getattr(self, name) for name in _FIT_SETTINGS}
        return fit(
            task, self.make_rule(seed), steps=self.steps, seed=seed, **same_for_all, **callbacks
        )

    def _rule_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RULES[self.rule][1]}

    def _changed(self) -> dict[str, Any]:
        return {
            name: getattr(self, name)
            for name in _FIT_SETTINGS
            if getattr(self, name) != getattr(Settings, name)
        }


# Settings that go to `fit` under their own name.
_FIT_SETTINGS = tuple(
    f.name
    for f in fields(Settings)
    if f.name not in ("task", "rule", "zeros", "threshold", "p", "seeds", "steps")
)


@dataclass(repr=False)
class Record(History):
    """What the run of one seed has seen so far: a History, and the test pairs at each step.

    Attributes:
        seed: of the first weights.
        examination: the last one made of the test pairs; after the last step, of the end.
    """

    seed: int = 0
    test_loss: list[float] = field(default_factory=list)
    test_exact: list[bool] = field(default_factory=list)
    test_cell_accuracy: list[float] = field(default_factory=list)
    test_changed_cell_accuracy: list[float] = field(default_factory=list)
    examination: Examination | None = None

    def examine(self, examination: Examination) -> None:
        """Add an examination of the test pairs."""
        self.examination = examination
        self.test_loss.append(examination.loss)
        self.test_exact.append(examination.exact)
        self.test_cell_accuracy.append(examination.cell_accuracy)
        self.test_changed_cell_accuracy.append(examination.changed_cell_accuracy)


class ArcRun:
    """The runs of one Settings, one a seed, growing step by step.

    Attributes:
        number: what the run is called in pictures and tables, from 1.
        settings: its hyper-parameters.
        task: loaded from the settings.
        records: one Record a seed begun; the last one may be growing.
        ended: "" before the end, then "done", "stopped" or "diverged", or "failed" where
            something raised.
    """

    def __init__(self, settings: Settings, number: int = 1) -> None:
        """Load the task; raises as `load_task`."""
        self.number = number
        self.settings = settings
        self.task = load_task(settings.task)
        self.records: list[Record] = []
        self.ended = ""

    @property
    def label(self) -> str:
        """Number and rule, for a legend."""
        return f"{self.number} {self.settings.rule_name}"

    @property
    def exact(self) -> bool:
        """Whether the test pairs are solved, as last examined, from every seed begun."""
        seen = [record.examination for record in self.records if record.examination]
        return bool(seen) and all(examination.exact for examination in seen)

    @property
    def words(self) -> str:
        """How the seed that was begun last is doing."""
        record = self.records[-1]
        return (
            f"seed {record.seed}, step {len(record)} of {self.settings.steps}: "
            f"loss {record.loss[-1]:.3g}, changed test cells right "
            f"{record.test_changed_cell_accuracy[-1]:.0%}, consensus ratio "
            f"{record.consensus_ratio[-1]:.2f} (floor {record.floor[-1]:.2g})"
        )

    @property
    def verdict(self) -> str:
        """How the run ended; a loss that rose far on the way, or ended above its first, is said."""
        loss = median(record.loss[-1] for record in self.records)
        exact = sum(record.examination.exact for record in self.records)
        text = f"loss {loss:.3g}, test exact from {exact} of {len(self.records)} seeds"
        first, peak = self.records[0].loss[0], max(max(record.loss) for record in self.records)
        if loss <= first and peak <= _ROSE_FAR * first:
            return text
        how = "it diverged" if loss > first else f"the loss had risen to {peak:.2g}"
        return f"{text}: {how}, try a smaller learning rate"

    @property
    def steps_done(self) -> int:
        """Steps over all seeds so far."""
        return sum(map(len, self.records))

    @property
    def steps_in_all(self) -> int:
        """Steps over all seeds at the end."""
        return self.settings.steps * len(self.settings.seeds)

    def train(
        self, stop: threading.Event | None = None, on_step: Callable[[], None] | None = None
    ) -> None:
        """Run all seeds, one after another.

        Args:
            stop: ends the run before the next step, once it is set.
            on_step: called after each step is recorded.

        Raises:
            Diverged: as `fit`; the steps before it stay in the records.
            ValueError: as `fit`.
        """
        try:
            for seed in self.settings.seeds:
                self._train_one(seed, stop or threading.Event(), on_step or (lambda: None))
                if stop is not None and stop.is_set():
                    self.ended = "stopped"
                    return
        except Exception as error:
            self.ended = "diverged" if isinstance(error, Diverged) else "failed"
            raise
        self.ended = "done"

    def _train_one(self, seed: int, stop: threading.Event, on_step: Callable[[], None]) -> None:
        record = Record(seed=seed)
        self.records.append(record)
        begin = time.perf_counter()

        def watch(step: int, report: Report, examination: Examination) -> None:
            record.append(report, time.perf_counter() - begin)
            record.examine(examination)
            on_step()

        history = self.settings.fit(
            self.task, seed, on_step=watch, stop=lambda history: stop.is_set()
        )
        record.stopped = history.stopped
        record.examination = history.final


def tabulate(runs: Iterable[ArcRun]) -> Table:
    """One row a run: rule, settings, steps, losses, exact or not, seconds.

    Losses are medians over the seeds, of the last step (training) and of the end (test), in
    nats a cell; "exact" counts the seeds with every test grid right, out of those begun.
    """
    return Table(_row(run) for run in runs if run.steps_done)


def export(runs: Iterable[ArcRun]) -> str:
    """All runs as CSV text: a row a step and seed, with every setting of its run.

    The numbers are those of the weights before the step, written so that they read back the
    same; a number that does not exist, such as the score of a hidden output, is "nan".
    """
    lines = io.StringIO()
    names = [f.name for f in fields(Settings) if f.name != "seeds"]
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["run", *names, "seed", "step", *_METRICS])
    for run in runs:
        settings = [getattr(run.settings, name) for name in names]
        for record in run.records:
            curves = zip(*(getattr(record, metric) for metric in _METRICS), strict=False)
            for step, numbers in enumerate(curves):
                writer.writerow([run.number, *settings, record.seed, step, *numbers])
    return lines.getvalue()


def _row(run: ArcRun) -> dict[str, Any]:
    seen = [record for record in run.records if len(record)]
    exact = sum(record.examination.exact for record in seen)
    return {
        "run": run.number,
        "task": Path(run.settings.task).stem,
        "rule": run.settings.rule_name,
        "settings": run.settings.words(),
        "steps": max(map(len, seen)),
        "ended": run.ended or "running",
        "training loss": median(record.loss[-1] for record in seen),
        "test loss": median(record.examination.loss for record in seen),
        "exact": f"{exact} of {len(seen)}",
        "seconds": sum(record.seconds[-1] for record in seen),
    }


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
