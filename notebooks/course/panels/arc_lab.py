"""The ARC lab: every hyper-parameter of a run on a widget, training live, runs side by side."""

from __future__ import annotations

import base64
import math
import os
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ipywidgets as widgets

from consensus_lib.training import Diverged
from course.arc import Task, load_task
from course.figures.arc_picture import ArcPicture, draw_lab
from course.figures.arc_runs import RULES, ArcRun, Settings, export, tabulate
from course.panels.arc_controls import TABS, make_controls
from course.panels.matplotlib_panel import Panel

__all__ = ["ArcLab"]

_MOST_RUNS = 6
_DRAWING_SHARE = 0.05
_BETWEEN_WORDS = 0.1
_HARD = "a9f96cdd"
_LOOK = """<style>
.cl-panel.cl-arc { --jp-widgets-container-padding: 6px; --jp-widgets-horizontal-tab-width: 70px;
  --jp-widgets-inline-label-width: 106px; --jp-widgets-inline-width-tiny: 50px; }
.cl-arc-lines { white-space: pre-wrap; font: 15px/22px monospace; }
.cl-arc-table table { font-size: 15px; }
.cl-arc-table td, .cl-arc-table th { padding: 0 5px; line-height: 24px; }
.cl-arc a { color: #0072B2; text-decoration: underline; }
</style>"""


class ArcLab(Panel):
    """Runs of `course.arc.fit` with every setting on a widget.

    `start` runs the settings on the controls, `compare` runs them beside the same by the mean
    (or by consensus, where the rule is the mean). Runs overlay each other until `clear` or
    `reset`; a run has the settings of the moment it was started.

    Attributes:
        runs: the runs shown, at most 6; the last may be growing.
    """

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

    def __init__(self) -> None:
        self.runs: list[ArcRun] = []
        self._plan: list[Settings] = []
        self._own_tasks: dict[str, Task] = {}
        self._uploads = tempfile.TemporaryDirectory()
        self.task_field = widgets.Text(
            description="other task", placeholder="id or x.json", continuous_update=False
        )
        self.upload = widgets.FileUpload(accept=".json", description="your file")
        self.compare_button = self.button("Compare", self.compare)
        self.clear_button = self.button("Clear runs", self.clear)
        self._table, self._lines, self._links = (widgets.HTML() for _ in range(3))
        self._table.add_class("cl-arc-table")
        super().__init__(make_controls())
        self.on_change(self.controls)
        self._show_results()
        self.task_field.observe(self._on_task_field, "value")
        self.upload.observe(self._on_upload, "value")

    @property
    def settings(self) -> Settings:
        """What the controls say now, as settings of a run."""
        values = self.values
        values["seeds"] = tuple(range(values["seed"], values["seed"] + values["seeds"]))
        return Settings(**{f.name: values[f.name] for f in fields(Settings)})

    def set(self, **values: Any) -> None:
        """See `Panel.set`; `task` also takes any ARC-AGI-1 id, or a path to a JSON file.

        Raises:
            ValueError: also as `load_task`, or for a task that changes the grid size.
            FileNotFoundError: for a file that there is not.
        """
        if isinstance(values.get("task"), str):
            self._admit(values["task"])
        super().set(**values)

    def start(self) -> None:
        """Run the settings on the controls, in the worker thread."""
        self._begin([self.settings])

    def compare(self) -> None:
        """Run the same settings by the mean and by the rule on the controls, one after another.

        Where that rule is the mean, the other one is consensus.
        """
        chosen = self.settings
        other = "consensus" if chosen.rule == "mean" else "mean"
        self._begin(sorted([chosen, replace(chosen, rule=other)], key=lambda s: s.rule != "mean"))

    def clear(self) -> None:
        """Drop all runs, and leave the controls as they are."""
        if self.running:
            self.say("A run is going on. Stop it first.")
            return
        self.forget()
        self.progress.value = 0
        self.say("")
        self.redraw()

    def csv(self) -> str:
        """All runs as CSV text: a row a step and seed, with the settings of its run."""
        return export(self.runs)

    def python(self) -> str:
        """Three lines of Python that run what `start` would run."""
        return self.settings.python()

    def draw(self) -> ArcPicture:
        """See `Panel.draw`."""
        task = self.runs[-1].task if self.running and self.runs else self._chosen_task()
        return draw_lab(task, self.runs, self.controls["steps"].value, self.picture)

    def judge(self) -> str | None:
        """See `Panel.judge`."""
        for run in self.runs:
            asked = replace(run.settings, task=_HARD, rule="consensus", zeros="veto")
            short = run.settings.steps <= 200 and len(run.records) >= 3
            if run.settings == asked and short and run.ended == "done" and run.exact:
                return f"run {run.number} solves it with {run.settings.words()}"
        return None

    def forget(self) -> None:
        """See `Panel.forget`."""
        self.runs.clear()
        self._show_results()

    def on_change(self, names: Collection[str]) -> None:
        """See `Panel.on_change`."""
        rule = self.controls["rule"].value
        for name in ("zeros", "threshold", "p"):
            self.controls[name].disabled = name not in RULES[rule][1]
        self.controls["voters"].disabled = self.controls["augmentation"].value == "none"
        self._lines.value = f'<div class="cl-arc-lines">{escape(self.python())}</div>'

    def say(self, text: str) -> None:
        """See `Panel.say`; an uploaded file goes by the name that it had."""
        super().say(text.replace(f"{self._uploads.name}{os.sep}", ""))

    def after_work(self) -> None:
        """See `Panel.after_work`."""
        self._show_results()

    def work(self, stop: threading.Event) -> None:
        """See `Panel.work`."""
        pace, begun = _Pace(_DRAWING_SHARE), len(self.runs)
        self.progress.max = sum(settings.steps * len(settings.seeds) for settings in self._plan)
        try:
            for settings in self._plan:
                self.runs.append(ArcRun(settings, number=len(self.runs) + 1))
                self.runs[-1].train(stop, lambda: self._follow(self.runs[begun:], pace))
                if stop.is_set():
                    return
        except Diverged as error:
            advice = f"A smaller learning rate than {settings.learning_rate:.3g} may help."
            self.say(f"⚠ Run {len(self.runs)} diverged, {error}. {advice}")
            return
        finally:
            self.runs[:] = [run for run in self.runs if run.steps_done]
        self.progress.value = self.progress.max
        self.say(" ".join(f"Run {run.number}: {run.verdict}." for run in self.runs[begun:]))

    def _begin(self, plan: Sequence[Settings]) -> None:
        if not self.running:
            if len(self.runs) + len(plan) > _MOST_RUNS:
                self.say(f"The picture holds {_MOST_RUNS} runs. Clear them first.")
                return
            self._plan = list(plan)
        super().start()

    def _follow(self, runs: Sequence[ArcRun], pace: _Pace) -> None:
        """Show how far the runs have come, as often as the pace allows."""
        if pace.allows_words:
            with pace.speaking():
                done = sum(run.steps_done for run in runs)
                self.progress.value = done
                left = pace.elapsed * (self.progress.max / done - 1)
                self.say(f"Run {runs[-1].number}, {runs[-1].words}; about {left:.0f} s left.")
        if pace.allows_picture:
            with pace.drawing():
                self.redraw()

    def _chosen_task(self) -> Task:
        name = self.controls["task"].value
        return self._own_tasks.get(name) or load_task(name)

    def _admit(self, name: str) -> None:
        """Make a task, by id or file, one that the control takes."""
        known = [value for _, value in self.controls["task"].options]
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
            control, chosen = self.controls["task"], self.controls["task"].value
            self._quiet = True  # new options choose the first of them
            control.options += ((task.id, name),)
            control.value = chosen
            self._quiet = False

    def _on_task_field(self, change: Mapping[str, Any]) -> None:
        if change["new"].strip():
            self._choose_task(change["new"].strip())

    def _on_upload(self, change: Mapping[str, Any]) -> None:
        for file in change["new"]:
            # Kept as a file, so that the three lines of Python can load it.
            path = Path(self._uploads.name, Path(file["name"]).name)
            path.write_bytes(file["content"])
            self._choose_task(str(path))

    def _choose_task(self, name: str) -> None:
        try:
            self.set(task=name)
        except Exception as error:
            self._complain(error)

    def _show_results(self) -> None:
        seen = [run for run in self.runs if run.steps_done]
        self._table.value = tabulate(seen)._repr_html_() if seen else ""
        self._links.value = (
            _links(self.csv(), bytes(self.screen.value)) if seen else "export: after a run"
        )

    def _arranged(self, below: Sequence[widgets.Widget]) -> widgets.Widget:
        box = super()._arranged(below)
        pages = {title: [self.controls[name] for name in names] for title, names in TABS.items()}
        pages["Task"] += [self.task_field, self.upload]
        tabs = widgets.Tab(
            [widgets.VBox(page) for page in pages.values()],
            titles=[*pages],
            layout={"height": "250px"},
        )
        box.children[0].children = [
            self.preset_menu,
            widgets.HBox(
                [
                    *(self.start_button, self.stop_button, self.reset_button),
                    *(self.compare_button, self.clear_button),
                ],
                layout={"flex_flow": "row wrap"},
            ),
            self.progress,
            tabs,
            self._links,
        ]
        box.children[0].layout.flex = "1 1 260px"
        box.children[0].layout.grid_template_columns = "minmax(0, 1fr)"
        box.add_class("cl-arc")
        self._table.layout = widgets.Layout(height="170px", overflow="auto")
        self._lines.layout = widgets.Layout(height="112px", overflow="auto")
        return widgets.VBox([box, self._table, self._lines, widgets.HTML(_LOOK)])


class _Pace:
    """Lets drawing happen as often as it takes at most a share of the time, the end included."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._begin = time.perf_counter()
        self.spent = 0.0
        self._last = 0.015  # a guess for the first
        self._said = -math.inf

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._begin

    @property
    def allows_words(self) -> bool:
        """Whether it is time for the next words, which cost next to nothing."""
        return self.elapsed - self._said > _BETWEEN_WORDS

    @property
    def allows_picture(self) -> bool:
        """Whether another picture, as long as the last, and that of the end stay in the share."""
        return self.spent + 2 * self._last < self._share * self.elapsed

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Count the time within as spent on words."""
        self._said = begin = self.elapsed
        try:
            yield
        finally:
            self.spent += self.elapsed - begin

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Count the time within as spent on a picture."""
        begin = self.elapsed
        try:
            yield
        finally:
            self._last = self.elapsed - begin
            self.spent += self._last


def _links(csv: str, png: bytes) -> str:
    files = {"runs.csv": ("text/csv", csv.encode()), "runs.png": ("image/png", png)}
    links = (
        f'<a download="arc_{name}" href="data:{kind};base64,{base64.b64encode(data).decode()}">'
        f"arc_{name}</a>"
        for name, (kind, data) in files.items()
    )
    return f"export: {' &nbsp; '.join(links)}"
