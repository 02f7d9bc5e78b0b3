"""The agreement map: which weights do all examples agree on, at each step of a run?"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from matplotlib.colors import ListedColormap
from traitlets import Bytes, Dict

from consensus_lib.rules import Consensus, Mean, Rule
from course.arc import Task, load_task
from course.figures import style
from course.panels.controls import choice, ladder, number, numbers, tick
from course.panels.panel import Leash, Panel, front_end
from course.panels.recording import (
    Recipe,
    Recording,
    examine,
    layers,
    packed,
    record,
    votes,
)

__all__ = ["AgreementMap"]

_TASKS = {
    "a699fb00": "gaps",
    "3618c87e": "drop",
    "a9f96cdd": "corners",
    "67385a82": "shapes",
    "aedd82e4": "lone cells",
}
_COLUMNS = 120
_TIMES = 3
# As on the page: up, down, contested, dead.
_COLORS = ListedColormap(["#7B3294", "#D9D9D9", "#008837", "#FFFFFF"])
_OF_THE_RUN = frozenset({"task", "zeros", *(f.name for f in fields(Recipe))} - {"width", "depth"})


class AgreementMap(Panel):
    """A run by the mean and one by consensus, recorded, and the votes on every weight.

    Controls: `task`, `zeros`, `optimizer`, `learning_rate`, `hold_masked`, `steps` and `seed` of
    the runs, which `start` makes; `moment` (a step), `without` (numbers of examples that are
    switched off), `touched` (an example whose vetoes light up, 0 for none), and `weight` (the
    number of a weight whose arrows are shown, -1 for none).

    Attributes:
        recordings: {"mean": what its run did, "consensus": ...}, empty before the first run.
        made: the values of the run that is recorded.
    """

    _esm = front_end("agreement_map")
    target = (
        f"find a step at which one example alone stands in the way of {_TIMES} times as many "
        "weights as all agree on."
    )
    run = Dict().tag(sync=True)
    recording = Bytes().tag(sync=True)
    controls: ClassVar = {
        "task": choice("task", [(f"{name} {words}", name) for name, words in _TASKS.items()]),
        "zeros": choice("zeros", ["veto", "abstain"]),
        "optimizer": choice("optimizer", ["adam", "sgd"]),
        "learning_rate": ladder(
            "learning rate", [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0], first=3e-3
        ),
        "hold_masked": tick("hold masked weights", True),
        "steps": number("steps", 10, 400, 10, first=200),
        "seed": number("seed", 0, 99, 1, first=0),
        "moment": number("step", 0, 400, 1, first=0).on("hidden"),
        "without": numbers("switched off", 1, 12, 1, (), fewest=0, most=12).on("hidden"),
        "touched": number("vetoes of example", 0, 12, 1, first=0).on("hidden"),
        "weight": number("weight", -1, 1_000_000, 1, first=-1).on("hidden"),
    }
    presets: ClassVar = {
        "the lesson's task": {},
        "corners: who is in the way?": {"task": "a9f96cdd"},
        "plain SGD": {"optimizer": "sgd", "learning_rate": 0.3},
        "zeros abstain": {"zeros": "abstain"},
    }

    def __init__(self) -> None:
        self.recordings: dict[str, Recording] = {}
        self.made: dict[str, Any] = {}
        super().__init__()

    def work(self, stop: Leash) -> str | None:
        """Train by both rules, and then work out who agrees at each step."""
        values = dict(self.values)
        task = load_task(values["task"])
        names = {f.name for f in fields(Recipe)} & set(values)
        recipe = Recipe(**{name: values[name] for name in names})
        rules: dict[str, Rule] = {"mean": Mean(), "consensus": Consensus(values["zeros"])}
        found = {}
        for name, rule in rules.items():
            self.say(f"Training by the {name}.")
            found[name] = record(task, rule, recipe, stop.is_set)
            if stop.pulled:
                return None
        done, total = 0, 2 * (recipe.steps + 1)

        def ask(step: int) -> bool:
            nonlocal done
            done += 1
            if done % 10 == 0:
                self.tell(progress=done / total)
            return stop.is_set()

        for name, recording in found.items():
            self.say(f"The examples' gradients on the way of the {name}.")
            examine(task, recording, recipe, ask)
            if stop.pulled:
                return None
        self.recordings, self.made = found, values
        with self.hold_sync():
            self.recording = packed([*found.values()])
            self.run = self._facts_of(task, recipe)
        return f"Recorded {recipe.steps} steps."

    def forget(self) -> None:
        """Drop the recording."""
        self.recordings, self.made = {}, {}
        self.recording, self.run = b"", {}

    def shares(self, rule: str, step: int) -> dict[str, Any]:
        """What the votes of the examples that are on say of all weights at a step.

        Returns:
            {"agreed": share of weights with all up or all down, "dead": share at which every
            gradient is 0, "alone": {number of an example: share that it alone vetoes}}.
        """
        codes = self.recordings[rule].codes[step]
        heard = [i for i in range(len(codes)) if i + 1 not in self.values["without"]]
        found = votes(codes[heard])
        agreed = np.abs(found) == 1
        alone = {}
        for i in heard:
            others = [k for k in heard if k != i]
            free = np.abs(votes(codes[others])) == 1 if others else np.zeros_like(agreed)
            alone[i + 1] = float((free & ~agreed).mean())
        return {"agreed": agreed.mean(), "dead": (found == 2).mean(), "alone": alone}

    def judge(self) -> str | None:
        """Return the example and the shares at this step, where it is in the way so often."""
        for rule, recording in self.recordings.items():
            shares = self.shares(rule, min(self.values["moment"], len(recording.losses) - 1))
            if not shares["alone"] or self.values["without"]:
                continue
            worst = max(shares["alone"], key=shares["alone"].get)
            most = shares["alone"][worst]
            if most >= _TIMES * shares["agreed"] > 0:
                return (
                    f"{rule}, step {self.values['moment']}: example {worst} alone vetoes "
                    f"{most:.1%}, all agree on {shares['agreed']:.1%}."
                )
        return None

    def draw(self) -> style.Picture:
        """Return both maps at this step."""
        picture, axes = style.new_figure(1, 2, size=(8.4, 4.6))
        for ax, rule in zip(axes, ("mean", "consensus"), strict=True):
            ax.set_axis_off()
            if rule not in self.recordings:
                style.label(ax, f"{rule}: not recorded yet, press Start")
                continue
            codes = self.recordings[rule].codes
            step = min(self.values["moment"], len(codes) - 1)
            found = votes(codes[step]).astype(float)
            rows = -(-len(found) // _COLUMNS)
            cells = np.full(rows * _COLUMNS, 2.0)
            cells[: len(found)] = found
            ax.imshow(cells.reshape(rows, _COLUMNS), cmap=_COLORS, vmin=-1, vmax=2)
            agreed = self.shares(rule, step)["agreed"]
            style.label(ax, f"{rule}, step {step}: agreed on {agreed:.1%}")
        picture.suptitle(
            "Each cell a weight: green up, purple down, grey contested, white dead",
            fontsize=style.TEXT_SIZE,
        )
        return picture

    def _facts_of(self, task: Task, recipe: Recipe) -> dict[str, Any]:
        """What a page needs to know of the runs beside the codes."""
        test = task.test[0]
        return {
            "values": {name: self.made[name] for name in _OF_THE_RUN if name in self.made},
            "steps": recipe.steps,
            "layers": layers(recipe),
            "pairs": [[p.input.tolist(), p.output.tolist()] for p in task.train],
            "input": test.input.tolist(),
            "target": None if test.output is None else test.output.tolist(),
            "losses": {name: r.losses for name, r in self.recordings.items()},
            "predictions": {name: r.predictions for name, r in self.recordings.items()},
        }
