"""The shape of every panel: values that Python and a page share, and long work in one thread."""

from __future__ import annotations

import base64
import json
import math
import re
import threading
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import anywidget
from traitlets import Dict

from course.figures import style
from course.panels.controls import Control
from course.panels.still import beside

__all__ = ["Leash", "Panel", "front_end"]

_FRONT = Path(__file__).parent / "front"
_PATIENCE = 5.0
_ORDERS = ("start", "pause", "step", "stop", "reset")  # that a page may give


_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:(?:async )?function|const) (?:(\w+)|\[([\w, ]+)\])", re.MULTILINE)


@cache
def front_end(name: str) -> str:
    """One module of JavaScript: `front/NAME.js`, and before it each module that it imports.

    A widget carries its source as one text, so that a saved page needs no server. Each imported
    module becomes a function that returns what it exports.
    """
    modules: dict[str, str] = {}

    def add(module: str) -> str:
        source = (_FRONT / f"{module}.js").read_text(encoding="utf-8")
        for _, neighbour in _IMPORT.findall(source):
            if neighbour not in modules:
                inner = add(neighbour)
                names = ", ".join(
                    filter(None, (n for pair in _EXPORT.findall(inner) for n in pair))
                )
                inner = re.sub(r"^export ", "", inner, flags=re.MULTILINE)
                modules[neighbour] = (
                    f"const ${neighbour} = (() => {{\n{inner}\nreturn {{ {names} }};\n}})();"
                )
        return _IMPORT.sub(lambda m: f"const {{{m[1].replace(' as ', ': ')}}} = ${m[2]};", source)

    own = add(name)
    return "\n".join([*modules.values(), own])


class Leash(threading.Event):
    """What the work asks after each of its steps: shall it end? The answer waits in a pause."""

    def __init__(self) -> None:
        super().__init__()
        self._go = threading.Event()
        self._go.set()
        self._once = False

    @property
    def pulled(self) -> bool:
        """Whether the work shall end, without waiting."""
        return super().is_set()

    def is_set(self) -> bool:
        """Whether the work shall end; asked by the work."""
        self._go.wait()
        if self._once and not self.pulled:
            self._once = False
            self._go.clear()
        return self.pulled

    def set(self) -> None:
        """End the work, also out of a pause."""
        super().set()
        self._go.set()

    def hold(self, once: bool = False) -> None:
        """Pause when asked next; with `once` when asked after that."""
        self._once = once
        (self._go.set if once else self._go.clear)()

    def let_go(self) -> None:
        """Go on."""
        self._once = False
        self._go.set()


class Panel(anywidget.AnyWidget):
    """Values with controls, presets, a target, a picture, and long work in one thread.

    A subclass sets `_esm`, `controls` and `draw`, and where it needs them `judge`, `work`,
    `forget` and `on_change`. What these raise is said in the status line, and the panel lives on.

    Attributes:
        values: {name: value} of every control, the same here and on the page.
        target: what to race for, in words; "" where there is nothing. Of the class.
        presets: {name: values}; what a preset does not name takes its first value. Of the class.
        told: what Python tells the page: phase ("idle", "running", "paused" or "stopping"),
            words, progress and what a subclass adds.
        problem: the exception that the status line tells of, None where there is none.
    """

    _css = (_FRONT / "panel.css").read_text(encoding="utf-8")
    target: ClassVar[str] = ""
    controls: Mapping[str, Control] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    values = Dict().tag(
        sync=True,
        to_json=lambda values, _: _to_page(values),
        from_json=lambda values, panel: panel.from_page(values),
    )
    about = Dict().tag(sync=True)
    told = Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._turn = threading.RLock()
        self._worker: threading.Thread | None = None
        self._leash = Leash()
        self.problem: Exception | None = None
        self.first = {name: control.first for name, control in self.controls.items()}
        told = {"phase": "idle", "words": "", "progress": 0.0}
        super().__init__(values=self.first, told=told, **traits)
        self.describe()
        self.observe(self._on_values, "values")
        self.on_msg(self._on_message)

    def draw(self) -> style.Picture:
        """Return a picture of the state, for readers without a page that can move."""
        raise NotImplementedError

    def still(self) -> style.Picture:
        """The picture that stands beside the controls where no page can move."""
        return self.draw()

    def judge(self) -> str | None:
        """Return in a few words how the target is reached, None where it is not."""
        return None

    def work(self, stop: Leash) -> str | None:
        """Do what takes long, in the worker thread, and return how it ended.

        It ends soon after `stop` is set, asks `stop.is_set()` after each step, and returns None
        where it was stopped before its end. It may call `say` and `tell`.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Drop all results: part of `reset`, when no worker runs."""

    def on_change(self, names: Collection[str]) -> None:
        """Drop or make what depends on the values of these names."""

    @property
    def reached(self) -> str | None:
        """How the target is reached, None where it is not."""
        return self.judge()

    @property
    def running(self) -> bool:
        """Whether the worker thread is at work, or paused."""
        return self._worker is not None

    @property
    def status(self) -> str:
        """The status line."""
        before = {"paused": "Paused. ", "stopping": "Stopping."}.get(self.told["phase"], "")
        return before + ("" if self.told["phase"] == "stopping" else self.told["words"])

    def set(self, **values: Any) -> None:
        """Set several controls at once.

        Raises:
            ValueError: for a control that there is not, or a value that it does not take; all
                controls are then as before.
        """
        if unknown := [name for name in values if name not in self.controls]:
            raise ValueError(f"no control {unknown[0]!r}; there are: {', '.join(self.controls)}")
        checked = {name: self.controls[name].checked(name, v) for name, v in values.items()}
        self.values = {**self.values, **checked}

    def choose(self, preset: str) -> None:
        """Set every control as a preset says; raises ValueError for a name that there is not."""
        if preset not in self.presets:
            raise ValueError(f"no preset {preset!r}; there are: {', '.join(self.presets)}")
        self.set(**{**self.first, **self.presets[preset]})

    def start(self) -> None:
        """Begin `work` in the worker thread, or go on after a pause."""
        with self._turn:
            if self._stands("paused"):
                self._leash.let_go()
                self.tell(phase="running")
            elif self.running:
                self.tell(words="Already running. Stop it first.")
            else:
                self._begin()

    def pause(self) -> None:
        """Hold the work before its next step; `start` goes on."""
        with self._turn:
            if self._stands("running"):
                self._leash.hold()
                self.tell(phase="paused")

    def step(self) -> None:
        """Do one step of the work, and pause."""
        with self._turn:
            if not self.running:
                self._begin(once=True)
            elif not self._stands("stopping"):
                self._leash.hold(once=True)
                self.tell(phase="paused")

    def stop(self) -> None:
        """Ask the worker to end; `wait` for it to have ended."""
        with self._turn:
            self._leash.set()
            self.tell(
                **({"phase": "stopping"} if self.running else {"words": "Nothing is running."})
            )

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the worker to end, at most `timeout` seconds; return whether it has."""
        worker = self._worker
        if worker is not None:
            worker.join(timeout)
        return not self.running

    def reset(self) -> None:
        """Stop the worker, drop all results, and set every control to its first value."""
        if self.running:
            self.stop()
        if not self.wait(_PATIENCE):
            self.say("Still stopping. Reset again in a moment.")
            return
        self.forget()
        self.tell(words="", progress=0.0)
        self.problem = None
        self.values = self.first
        self.redraw()

    def say(self, text: str) -> None:
        """Write the status line; the worker's words count while it is not asked to stop."""
        with self._turn:
            late = threading.current_thread() is self._worker and self._leash.pulled
            if not late:
                self.problem = None
                self.tell(words=text)

    def tell(self, **news: Any) -> None:
        """Tell the page, all of it at once."""
        with self._turn:
            self.told = {**self.told, **news}

    def redraw(self) -> None:
        """Show results as they are now, where a page cannot draw them by itself."""

    def facts(self) -> dict[str, Any]:
        """What else a page needs to know, and never changes."""
        return {}

    def describe(self) -> None:
        """Tell the page what can be set."""
        self.about = {
            **self.facts(),
            "name": type(self).__name__,
            "target": self.target,
            "controls": {name: control.spec() for name, control in self.controls.items()},
            "presets": {n: _to_page({**self.first, **v}) for n, v in self.presets.items()},
            "works": type(self).work is not Panel.work,
        }

    def from_page(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a page sent, checked; raises ValueError as `set`."""
        values = {n: -math.inf if v == "-inf" else v for n, v in values.items()}
        return {n: control.checked(n, values[n]) for n, control in self.controls.items()}

    def png(self) -> bytes:
        """The picture with the controls beside it, as PNG bytes."""
        lines = {c.label: c.words(self.values[name]) for name, c in self.controls.items()}
        return beside(self.still(), lines, self.target, self.reached, self.status)

    def html(self) -> str:
        """A piece of a page that shows this panel as it is now and needs no kernel.

        What the page computes by itself goes on working there.
        """
        state = {name: getattr(self, name) for name in self.keys if not name.startswith("_")}
        for name, value in state.items():
            if isinstance(value, bytes):
                state[name] = {"base64": base64.b64encode(value).decode()}
        state |= {"values": _to_page(self.values), "layout": None, "kernel": False}
        parts = (_CARRIER, self._esm, json.dumps(self._css), json.dumps(state))
        script = "\n".join(str(part) for part in parts[:2])
        script = script.replace("export default", "const panel =")
        script += f"\nshowSaved(panel, {parts[2]}, {parts[3]});".replace("</", "<\\/")
        return f'<div class="saved-panel"></div><script type="module">{script}</script>'

    def complain(self, failure: Exception) -> None:
        """Say in the status line what was raised."""
        name = type(failure).__name__
        with self._turn:
            self.tell(words=f"⚠ That did not work: {failure} ({name})" if str(failure) else name)
            self.problem = failure

    def _stands(self, phase: str) -> bool:
        return self.running and self.told["phase"] == phase

    def _begin(self, once: bool = False) -> None:
        self._leash = Leash()
        if once:
            self._leash.hold()
        self.problem = None
        phase = "paused" if once else "running"
        asked = _to_page(self.values)
        self.tell(phase=phase, words="Running." if not once else "", progress=0.0, asked=asked)
        self._worker = threading.Thread(target=self._run, daemon=True)
        self._worker.start()

    def _run(self) -> None:
        outcome: list[str | None] = []
        failure = _failure(lambda: outcome.append(self.work(self._leash)))
        failure = _failure(self.redraw) or failure
        with self._turn:
            self._worker = None
            if failure:
                self.complain(failure)
            else:
                ended = "Stopped." if self._leash.pulled else "Done."
                self.tell(words=outcome[0] or ended)
            self.tell(phase="idle", progress=1.0 if outcome and outcome[0] else 0.0)

    def _on_values(self, change: Mapping[str, Any]) -> None:
        before, now = change["old"], change["new"]
        names = {name for name in now if before.get(name) != now[name]}
        failure = _failure(lambda: (self.on_change(names), self.redraw()))
        if failure:
            self.complain(failure)
        elif self.problem and not self.running:
            self.say("")

    def _on_message(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        if failure := _failure(lambda: self.obey(content)):
            self.complain(failure)

    def obey(self, order: Mapping[str, Any]) -> None:
        """Do what a page asks for."""
        if order.get("do") in _ORDERS:
            getattr(self, order["do"])()

    def _repr_mimebundle_(self, **kw: Any) -> Any:
        view, metadata = super()._repr_mimebundle_(**kw)
        picture = base64.b64encode(self.png()).decode()
        return {**view, "text/plain": repr(self), "image/png": picture}, metadata

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{type(self).__name__}({values})"


# What a widget's model is to a panel, on a page without a kernel.
_CARRIER = front_end("saved").replace("export ", "")


def _to_page(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: "-inf" if isinstance(v, float) and v == -math.inf else v for n, v in values.items()}


def _failure(action: Callable[[], object]) -> Exception | None:
    try:
        action()
    except Exception as error:
        return error
    return None
