"""The ARC lab: every hyper-parameter of a run on a control, training live, runs side by side."""

from __future__ import annotations

import base64
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from traitlets import Dict

from consensus_lib.training import Diverged
from course.arc import Task, load_task
from course.figures.arc_picture import draw_lab
from course.figures.arc_runs import ArcRun, Record, Settings, export, tabulate
from course.figures.style import Picture
from course.panels.arc_controls import make_controls
from course.panels.panel import Leash, Panel, front_end

__all__ = ["ArcLab"]

_MOST_RUNS = 6
_POINTS = 240  # of a curve on a page
_SHARE = 0.05  # of the time that showing may take
_BETWEEN = 0.06  # seconds between two pictures of a run
_HARD = "a9f96cdd"
_CURVES = {"loss": "loss", "ratio": "consensus_ratio", "right": "test_changed_cell_accuracy"}


class ArcLab(Panel):
    """Runs of `course.arc.fit` with every setting on a control.

    `start` runs the settings on the controls, `compare` runs them beside the same by the mean
    (or by consensus, where the rule is the mean). Runs overlay each other until `clear` or
    `reset`; a run has the settings of the moment it was started.

    Attributes:
        runs: the runs shown, at most 6; the last may be growing.
    """

    _esm = front_end("arc_lab")
    target = f"{_HARD}, solved by consensus with veto from three seeds, in 200 steps"
    presets: Mapping[str, Mapping[str, Any]] = MappingProxyType(
        {
            "the headline": {},
            "masked weights held": {"hold_masked": True},
            "plain SGD": {"optimizer": "sgd", "learning_rate": 0.3},
            "three seeds": {"hold_masked": True, "seeds": 3},
            "consensus stalls": {"task": _HARD, "hold_masked": True},
            "zeros abstain": {"task": _HARD, "hold_masked": True, "zeros": "abstain"},
            "softer: AND-mask": {"rule": "AND-mask", "threshold": 0.6},
            "more voters": {"task": "6f8cd79b", "augmentation": "symmetries"},
            "colours never seen": {"task": "dc1df850", "zero_unseen": True},
            "far too fast": {"learning_rate": 10.0},
        }
    )
    task = Dict().tag(sync=True)
    board = Dict().tag(sync=True)

    def __init__(self) -> None:
        self.controls = make_controls()
        self.runs: list[ArcRun] = []
        self._plan: list[Settings] = []
        self._own_tasks: dict[str, Task] = {}
        self._uploads = tempfile.TemporaryDirectory()
        super().__init__()
        self.redraw()

    @property
    def settings(self) -> Settings:
        """What the controls say now, as settings of a run."""
        values = dict(self.values)
        values["seeds"] = tuple(range(values["seed"], values["seed"] + values["seeds"]))
        return Settings(**{f.name: values[f.name] for f in fields(Settings)})

    def set(self, **values: Any) -> None:
        """Set several controls at once; `task` also takes any ARC-AGI-1 id, or a JSON file's path.

        Raises:
            ValueError: as `Panel.set` and `load_task`, or for a task that changes the grid size.
            FileNotFoundError: for a file that there is not.
        """
        if isinstance(values.get("task"), str):
            self._admit(values["task"])
        super().set(**values)
        if "task" in values:
            self.redraw()  # a file of the same name may say something else now

    def start(self) -> None:
        """Run the settings on the controls, in the worker thread; or go on after a pause."""
        self._plan_for([self.settings], super().start)

    def step(self) -> None:
        """Do one step of a run, and pause."""
        self._plan_for([self.settings], super().step)

    def compare(self) -> None:
        """Run the same settings by the mean and by the rule on the controls, one after another.

        Where that rule is the mean, the other one is consensus.
        """
        chosen = self.settings
        other = "consensus" if chosen.rule == "mean" else "mean"
        both = sorted([chosen, replace(chosen, rule=other)], key=lambda s: s.rule != "mean")
        self._plan_for(both, super().start)

    def clear(self) -> None:
        """Drop all runs, and leave the controls as they are."""
        if self.running:
            self.say("A run is going on. Stop it first.")
            return
        self.forget()
        self.say("")
        self.redraw()

    def csv(self) -> str:
        """All runs as CSV text: a row a step and seed, with the settings of its run."""
        return export(self.runs)

    def python(self) -> str:
        """Lines of Python that run what `start` would run."""
        return self.settings.python()

    def draw(self) -> Picture:
        """Return the curves of all runs, and the prediction beside its target."""
        return draw_lab(self._shown_task(), self.runs, self.values["steps"])

    def judge(self) -> str | None:
        """Return which run solves the hard task by consensus from three seeds."""
        for run in self.runs:
            asked = replace(run.settings, task=_HARD, rule="consensus", zeros="veto")
            short = run.settings.steps <= 200 and len(run.records) >= 3
            if run.settings == asked and short and run.ended == "done" and run.exact:
                return f"run {run.number} solves it with {run.settings.words()}"
        return None

    def forget(self) -> None:
        """Drop all runs."""
        self.runs.clear()

    def work(self, stop: Leash) -> str | None:
        """Train what was planned, one run after another."""
        begun = len(self.runs)
        total = sum(settings.steps * len(settings.seeds) for settings in self._plan)
        pace = _Pace()

        def follow() -> None:
            if pace.allows:
                with pace:
                    self._follow(self.runs[begun:], total, pace)

        try:
            for settings in self._plan:
                self.runs.append(ArcRun(settings, number=len(self.runs) + 1))
                self.runs[-1].train(stop, follow)
                if stop.pulled:
                    return None
        except Diverged as error:
            advice = f"A smaller learning rate than {settings.learning_rate:.3g} may help."
            return f"⚠ Run {len(self.runs)} diverged, {error}. {advice}"
        finally:
            self.runs[:] = [run for run in self.runs if run.steps_done]
        return " ".join(f"Run {run.number}: {_verdict(run)}." for run in self.runs[begun:])

    def redraw(self) -> None:
        """Tell the page of the task, of all runs, and of the lines of Python."""
        task = self._shown_task()
        shown = {"id": task.id, "train": [], "test": []}
        for part, pairs in (("train", task.train), ("test", task.test[:1])):
            for pair in pairs:
                output = None if pair.output is None else pair.output.tolist()
                shown[part].append([pair.input.tolist(), output])
        if shown != self.task:
            self.task = shown
        seen = [run for run in self.runs if run.steps_done]
        self.board = {
            "runs": [_facts(run) for run in seen],
            "python": self.python(),
            # A number that does not exist is that of a hidden answer.
            "table": tabulate(seen)._repr_html_().replace(">nan<", ">hidden<") if seen else "",
        }
        self.tell(reached=self.reached)

    def obey(self, order: Mapping[str, Any]) -> None:
        """Do what a page asks for: also compare, clear, export, and tasks of one's own."""
        kind = order.get("do")
        if kind in ("compare", "clear"):
            getattr(self, kind)()
        elif kind == "task":
            self.set(task=order["name"].strip())
        elif kind == "upload":
            # Kept as a file, so that the three lines of Python can load it.
            path = Path(self._uploads.name, Path(order["name"]).name)
            text = order.get("text")
            path.write_text(json.dumps(order["task"]) if text is None else text, encoding="utf-8")
            self.set(task=str(path))
        elif kind == "export":
            picture = base64.b64encode(self.draw().png()).decode()
            self.send({"arc_runs.csv": self.csv(), "arc_runs.png": picture})
        else:
            super().obey(order)

    def complain(self, failure: Exception) -> None:
        """Say what was raised; an uploaded file goes by the name that it had."""
        super().complain(failure)
        self.tell(words=self.told["words"].replace(f"{self._uploads.name}/", ""))

    def _plan_for(self, plan: Sequence[Settings], begin: Any) -> None:
        if not self.running:
            if len(self.runs) + len(plan) > _MOST_RUNS:
                self.say(f"The picture holds {_MOST_RUNS} runs. Clear them first.")
                return
            self._plan = list(plan)
        begin()

    def _follow(self, runs: Sequence[ArcRun], total: int, pace: _Pace) -> None:
        """Show how far the runs have come."""
        run, done = runs[-1], sum(run.steps_done for run in runs)
        left = pace.left(done, total)
        words = f"Run {run.number}, {run.words if _known(run) else _blind(run)}"
        self.say(words + (f"; about {left:.0f} s left." if left else "."))
        self.tell(progress=done / total)
        self.redraw()

    def _shown_task(self) -> Task:
        if self.running and self.runs:
            return self.runs[-1].task
        name = self.values["task"]
        return self._own_tasks.get(name) or load_task(name)

    def _admit(self, name: str) -> None:
        """Make a task, by id or file, one that the control takes."""
        control = self.controls["task"]
        known = [value for _, value in control.options]
        if name in known and name not in self._own_tasks:
            return
        task = load_task(name)
        if not task.same_size:
            raise ValueError(
                f"task {task.id} changes the size of a grid, and the network here keeps it; "
                "take another"
            )
        self._own_tasks[name] = task  # a file may have changed since it was last read
        if name not in known:
            options = (*control.options, (task.id, name))
            self.controls = {**self.controls, "task": replace(control, options=options)}
            self.describe()


class _Pace:
    """Lets showing happen as often as it takes at most a share of the time; a context for it."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._spent = self._last = 0.0
        self._first: tuple[float, int] | None = None

    @property
    def allows(self) -> bool:
        """Whether it is time for the next picture."""
        now = time.perf_counter() - self._begin
        return now - self._last > _BETWEEN and self._spent <= _SHARE * now

    def left(self, done: int, total: int) -> float:
        """Seconds until the end, by the pace since the first picture; 0 where none is known."""
        now = time.perf_counter()
        self._first = self._first or (now, done)
        begin, at = self._first
        return (now - begin) * (total - done) / (done - at) if done > at else 0.0

    def __enter__(self) -> None:
        self._last = time.perf_counter() - self._begin

    def __exit__(self, *_: object) -> None:
        self._spent += time.perf_counter() - self._begin - self._last
        self._last = time.perf_counter() - self._begin


def _facts(run: ArcRun) -> dict[str, Any]:
    """What a page needs to draw a run."""
    records = [record for record in run.records if len(record)]
    last = records[-1]
    return {
        "number": run.number,
        "rule": run.settings.rule,
        "label": run.label,
        "task": run.task.id,
        "steps": run.settings.steps,
        "ended": run.ended,
        "floor": last.floor[0],
        "curves": [{k: _thinned(r, name) for k, name in _CURVES.items()} for r in records],
        "prediction": last.examination.predictions[0].tolist(),
        "seed": last.seed,
        "step": len(last),
    }


def _thinned(record: Record, name: str) -> list[list[float]]:
    """Points (step, value) of a curve, few enough for a page; the last is always there."""
    curve = getattr(record, name)
    steps = range(0, len(curve), max(1, len(curve) // _POINTS))
    points = [[step, curve[step]] for step in steps] + [[len(curve) - 1, curve[-1]]]
    return [[step, value] for step, value in points if math.isfinite(value)]


def _known(run: ArcRun) -> bool:
    return run.task.test[0].output is not None


def _blind(run: ArcRun) -> str:
    """How the seed that was begun last is doing, where the test answer is hidden."""
    record = run.records[-1]
    return f"seed {record.seed}, step {len(record)}: loss {record.loss[-1]:.3g}"


def _verdict(run: ArcRun) -> str:
    return run.verdict if _known(run) else f"loss {run.records[-1].loss[-1]:.3g}, answer hidden"
