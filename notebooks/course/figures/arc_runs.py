"""A run of the ARC lab without widgets: its settings, what it has seen so far, table and CSV."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import pandas as pd

import consensus_lib as cl
from course import arc, rules
from course.figures.tables import Table

__all__ = ["RULES", "ArcRun", "Settings", "export", "tabulate"]

_OF_RULES = ("zeros", "threshold", "p")
# What can be chosen: each rule's class in consensus_lib, and the settings it takes. Consensus
# whose zeros abstain is a setting here.
RULES = MappingProxyType(
    {
        name: (type(rule).__name__, tuple(f.name for f in fields(rule) if f.name in _OF_RULES))
        for name, rule in rules.RULES.items()
        if name != "abstain"
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
    augmentation: arc.Augmentation = "none"
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

    def python(self) -> str:
        """Three lines of Python that repeat the run, with what differs from the defaults."""
        imports = "import consensus_lib as cl; from course import arc"
        arguments = [f"{name}={value!r}" for name, value in self._rule_settings().items()]
        if self.rule == "random mask":
            imports = "import torch, consensus_lib as cl; from course import arc"
            arguments = ["generator=torch.Generator().manual_seed(seed)"]
        rule = f"cl.{RULES[self.rule][0]}({', '.join(arguments)})"
        changed = "".join(f", {name}={value!r}" for name, value in self._changed().items())
        call = f"arc.fit(task, {rule}, steps={self.steps}, seed=seed{changed})"
        return (
            f"{imports}\ntask = arc.load_task({self.task!r})\n"
            f"runs = [{call} for seed in {self.seeds!r}]"
        )

    def words(self) -> str:
        """What differs from the defaults, in words for a table."""
        words = []
        for name, value in self._changed().items():
            shown = f"{value:.3g}" if isinstance(value, float) else value
            words.append(name.replace("_", " ") + ("" if value is True else f" {shown}"))
        return ", ".join(words) or "defaults"

    def fit(self, task: arc.Task, seed: int, **callbacks: Any) -> arc.ArcHistory:
        """Run one seed: `arc.fit` with these settings, and its `on_step` and `stop`."""
        rule = rules.seeded(replace(rules.RULES[self.rule], **self._rule_settings()), seed)
        settings = {name: getattr(self, name) for name in _OF_FIT}
        return arc.fit(task, rule, steps=self.steps, seed=seed, **settings, **callbacks)

    def _rule_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RULES[self.rule][1]}

    def _changed(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _OF_FIT}
        return {name: value for name, value in values.items() if value != getattr(Settings, name)}


# Settings that go to `arc.fit` under their own name, and are left out where they are defaults.
_OF_FIT = tuple(
    f.name for f in fields(Settings) if f.name not in ("task", "rule", "seeds", "steps", *_OF_RULES)
)


class ArcRun:
    """The runs of one Settings, one a seed, growing step by step.

    Attributes:
        number: what the run is called in pictures and tables, from 1.
        settings: its hyper-parameters.
        task: loaded from the settings.
        records: an ArcHistory a seed begun; the last one may be growing.
        ended: "" before the end, then "done", "stopped" or "diverged", or "failed" where
            something raised.
    """

    def __init__(self, settings: Settings, number: int = 1) -> None:
        """Load the task; raises as `load_task`."""
        self.number = number
        self.settings = settings
        self.task = arc.load_task(settings.task)
        self.records: list[arc.ArcHistory] = []
        self.ended = ""

    @property
    def label(self) -> str:
        """Number and rule, for a legend."""
        return f"{self.number} {self.settings.rule_name}"

    @property
    def exact(self) -> bool:
        """Whether the test pairs are solved, as last examined, from every seed begun."""
        return bool(self.records) and all(record.examination.exact for record in self.records)

    @property
    def words(self) -> str:
        """How the seed that was begun last is doing."""
        record = self.records[-1]
        return (
            f"seed {record.seed}, step {len(record)} of {self.settings.steps}: "
            f"loss {record.loss[-1]:.3g}, changed test cells right "
            f"{record.examination.changed_cell_accuracy:.0%}, consensus ratio "
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

    def train(
        self, stop: threading.Event | None = None, on_step: Callable[[], None] | None = None
    ) -> None:
        """Run all seeds, one after another.

        Args:
            stop: ends the run before the next step, once it is set.
            on_step: called after each step is recorded.

        Raises:
            Diverged: as `arc.fit`; the steps before it stay in the records.
            ValueError: as `arc.fit`.
        """
        stop = stop or threading.Event()

        def watch(history: arc.ArcHistory) -> None:
            if len(history) == 1:
                self.records.append(history)
            if on_step is not None:
                on_step()

        try:
            for seed in self.settings.seeds:
                self.settings.fit(self.task, seed, on_step=watch, stop=lambda _: stop.is_set())
                if stop.is_set():
                    self.ended = "stopped"
                    return
        except Exception as error:
            self.ended = "diverged" if isinstance(error, cl.Diverged) else "failed"
            raise
        self.ended = "done"


def tabulate(runs: Iterable[ArcRun]) -> Table:
    """One row a run: rule, settings, steps, losses, exact or not, seconds.

    Losses are medians over the seeds, of the last step (training) and of the end (test), in
    nats a cell; "exact" counts the seeds with every test grid right, out of those begun.
    """
    return Table(
        {
            "run": run.number,
            "task": Path(run.settings.task).stem,
            "rule": run.settings.rule_name,
            "settings": run.settings.words(),
            "steps": max(map(len, run.records)),
            "ended": run.ended or "running",
            "training loss": median(record.loss[-1] for record in run.records),
            "test loss": median(record.examination.loss for record in run.records),
            "exact": f"{sum(r.examination.exact for r in run.records)} of {len(run.records)}",
            "seconds": sum(record.seconds[-1] for record in run.records),
        }
        for run in runs
        if run.steps_done
    )


def export(runs: Iterable[ArcRun]) -> str:
    """All runs as CSV text: a row a step and seed, with every setting of its run.

    The numbers are those of the weights before the step, written so that they read back the
    same; a number that does not exist, such as the score of a hidden output, is "nan".
    """
    names = [f.name for f in fields(Settings) if f.name != "seeds"]
    rows = [
        [run.number, *(getattr(run.settings, name) for name in names), record.seed, step, *numbers]
        for run in runs
        for record in run.records
        for step, numbers in enumerate(
            zip(*(getattr(record, metric) for metric in _METRICS), strict=False)
        )
    ]
    frame = pd.DataFrame(rows, columns=["run", *names, "seed", "step", *_METRICS])
    return frame.to_csv(index=False, na_rep="nan")
