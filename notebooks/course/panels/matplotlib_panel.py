"""The shape of every panel: controls beside a picture that follows them, and one worker thread."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from numbers import Real
from typing import Any, ClassVar

import ipywidgets as widgets
from traitlets import TraitError

from course.figures import style

__all__ = ["Panel"]

# One picture at a time in the whole process: callbacks run in several threads, and matplotlib's
# figures share state, such as the parser of mathematical text.
_PEN = threading.RLock()

_NO_PRESET = "your own"
_RUNNING, _STOPPING = "Running.", "Stopping."
_PATIENCE = 5.0
GRID = {"grid_template_columns": "repeat(auto-fill, minmax(270px, 1fr))"}
_MARGIN = 2  # of ipywidgets, around every widget
_LOOK = """<style>
.cl-panel { --jp-widgets-font-size: 15px; --jp-widgets-inline-label-width: 100px;
  --jp-widgets-inline-width: calc(100% - 4px); }
.cl-panel select { padding-left: 4px !important; padding-right: 14px !important; }
.cl-panel .cl-line { font-size: 15px; line-height: 22px; }
.cl-panel .cl-alt { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; }
</style>"""


class Panel:
    """Controls, a picture that follows them, presets, a target, and long work in one thread.

    A subclass writes `draw`, and where it needs them `judge`, `work`, `forget` and `on_change`.
    What these raise is said in the status line, and the panel lives on. A subclass sets its own
    fields before it calls `super().__init__`, which draws for the first time.

    Args:
        controls: {name: widget with a `value`}, in the order in which they are shown. Those that
            answer fast have `continuous_update=True`, the others answer on release.
        screen: what shows the picture, a widget whose `value` takes PNG bytes; None for an Image.
        below: widgets under the picture.

    Attributes:
        target: what to race for, in words; "" where there is nothing. Of the class.
        presets: {name: values}; a control that a preset does not name takes its first value.
            Of the class.
        controls: as given.
        picture: the last one drawn, None where none could be.
        status: the status line.
        problem: the exception that the status line tells of, None after the next good redraw.
        reached: what `judge` last said, None while the target is not reached.
        screen, progress, preset_menu, start_button, stop_button, reset_button: widgets.
        widget: all of them, arranged.
    """

    target: str = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(
        self,
        controls: Mapping[str, widgets.Widget],
        screen: widgets.DOMWidget | None = None,
        below: Sequence[widgets.Widget] = (),
    ) -> None:
        self.controls = dict(controls)
        self.picture: style.Picture | None = None
        self.status = ""
        self.problem: Exception | None = None
        self.reached: str | None = None
        self._first = self.values
        self._quiet = self._stale = False
        self._worker: threading.Thread | None = None
        self._stop = threading.Event()
        self._turn = threading.Lock()  # to start, to stop or to end: one at a time

        self.screen = screen or widgets.Image(format="png")
        self.progress = widgets.IntProgress()
        self.preset_menu = widgets.Dropdown(
            options=[_NO_PRESET, *self.presets],
            description="preset",
            style={"description_width": "50px"},
        )
        self.start_button = self.button("Start", self.start)
        self.stop_button = self.button("Stop", self.stop)
        self.reset_button = self.button("Reset", self.reset)
        self._target_line, self._status_line, self._alt = (widgets.HTML() for _ in range(3))
        self.widget = self._arranged(below)

        for name, control in self.controls.items():
            control.observe(lambda _, name=name: self._changed([name]), "value")
        self.preset_menu.observe(self._on_preset, "value")
        self._show_running(False)
        self._show_preset()
        self.redraw()

    def draw(self) -> style.Picture:
        """Return the picture of `values` and of the results so far, always of the same size."""
        raise NotImplementedError

    def judge(self) -> str | None:
        """Return in a few words how the target is reached, None where it is not."""
        return None

    def work(self, stop: threading.Event) -> None:
        """Do what takes long, in the worker thread; return soon after `stop` is set.

        It may call `say` and `redraw`, and set `progress.value` and `progress.max`. However it
        ends, the picture is drawn once more.
        """
        raise NotImplementedError

    def after_work(self) -> None:
        """What follows the last picture of `work`, such as an export of it."""

    def forget(self) -> None:
        """Drop all results: part of `reset`, when no worker runs."""

    def on_change(self, names: Collection[str]) -> None:
        """Before the redraw: drop or begin what depends on the controls of these names."""

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: control.value for name, control in self.controls.items()}

    @property
    def running(self) -> bool:
        """Whether the worker thread is at work."""
        return self._worker is not None

    def set(self, **values: Any) -> None:
        """Set several controls at once, and redraw once.

        Raises:
            ValueError: for a control that there is not, or a value that it does not take; all
                controls are then as before.
        """
        if unknown := [name for name in values if name not in self.controls]:
            raise ValueError(f"no control {unknown[0]!r}; there are: {', '.join(self.controls)}")
        before = self.values
        self._quiet = True
        try:
            for name, value in values.items():
                _assign(name, self.controls[name], value)
        except ValueError:
            for name, value in before.items():
                self.controls[name].value = value
            raise
        finally:
            self._quiet = False
        self._changed(values)

    def choose(self, preset: str) -> None:
        """Set every control as a preset says; raises ValueError for a name that there is not."""
        if preset not in self.presets:
            raise ValueError(f"no preset {preset!r}; there are: {', '.join(self.presets)}")
        self.set(**self._complete(preset))

    def start(self) -> None:
        """Begin `work` in the worker thread, unless it is at work already."""
        with self._turn:
            if self.running:
                self.say("Already running. Stop it first.")
                return
            self._stop = threading.Event()
            self._worker = threading.Thread(target=self._run, args=[self._stop], daemon=True)
            self.say(_RUNNING)
            self._show_running(True)
            self._worker.start()

    def stop(self) -> None:
        """Ask the worker to end; `wait` for it to have ended."""
        with self._turn:
            self.say(_STOPPING if self.running else "Nothing is running.")
            self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the worker to end, at most `timeout` seconds; return whether it has."""
        worker = self._worker
        if worker is not None:
            worker.join(timeout)
        return not self.running

    def reset(self) -> None:
        """Stop the worker, drop all results, and set every control to its first value."""
        self._stop.set()
        if not self.wait(_PATIENCE):
            self.say("Still stopping. Reset again in a moment.")
            return
        self.forget()
        self.progress.value = 0
        self.say("")
        self.set(**self._first)

    def say(self, text: str) -> None:
        """Write the status line."""
        self.status, self.problem = text, None
        self._status_line.value = f'<div class="cl-line" role="status">{escape(text)}</div>'

    def redraw(self) -> None:
        """Draw and judge, and return when the picture shows the controls as they are now.

        Requests that come while a picture is being drawn share the next one.
        """
        self._stale = True
        with _PEN:
            if not self._stale:
                return
            self._stale = False
            failure = _failure(self._draw_and_judge)
            if failure:
                self._complain(failure)
            elif self.problem:
                self.say("")

    def button(self, text: str, action: Callable[[], object], **kw: Any) -> widgets.Button:
        """Return a button that calls `action`, and says in the status line what it raises."""
        button = widgets.Button(description=text, layout={"width": "auto"}, **kw)

        def click(_: widgets.Button) -> None:
            if failure := _failure(action):
                self._complain(failure)

        button.on_click(click)
        return button

    def _run(self, stop: threading.Event) -> None:
        failure = _failure(lambda: self.work(stop))
        self.redraw()
        failure = _failure(self.after_work) or failure
        with self._turn:
            if failure:
                self._complain(failure)
            elif self.status in (_RUNNING, _STOPPING):
                self.say("Stopped." if stop.is_set() else "Done.")
            self._show_running(False)
            self._worker = None

    def _changed(self, names: Collection[str]) -> None:
        if self._quiet:
            return
        failure = _failure(lambda: self.on_change(names))
        self._show_preset()
        self.redraw()
        if failure:
            self._complain(failure)

    def _on_preset(self, change: Mapping[str, Any]) -> None:
        # The menu follows the controls too: only what a hand chose sets them.
        if change["new"] == _NO_PRESET:
            self._show_preset()
        elif self._complete(change["new"]) != self.values:
            self.choose(change["new"])

    def _complete(self, preset: str) -> dict[str, Any]:
        return self._first | dict(self.presets[preset])

    def _complain(self, failure: Exception) -> None:
        name = type(failure).__name__
        self.say(f"⚠ That did not work: {failure} ({name})" if str(failure) else f"⚠ {name}")
        self.problem = failure

    def _draw_and_judge(self) -> None:
        self.picture = self.draw()
        self.screen.value = self.picture.png()
        width = self.picture.get_figwidth() * self.picture.dpi
        self._right.layout.width = f"{width + 2 * _MARGIN:.0f}px"
        self._alt.value = f'<span class="cl-alt">{escape(self.picture.alt)}</span>'
        self.reached = self.judge()
        self._show_target()

    def _show_target(self) -> None:
        if not self.target:
            return
        tick, word, color = ("☑", "reached", "#007A5A") if self.reached else ("☐", "", "inherit")
        text = f"{tick} <b>Target{word and ' ' + word}:</b> {escape(self.reached or self.target)}"
        self._target_line.value = f'<div class="cl-line" style="color: {color}">{text}</div>'

    def _show_preset(self) -> None:
        values = self.values
        names = (name for name in self.presets if self._complete(name) == values)
        self.preset_menu.value = next(names, _NO_PRESET)

    def _show_running(self, running: bool) -> None:
        self.start_button.disabled = running
        self.stop_button.disabled = not running

    def _arranged(self, below: Sequence[widgets.Widget]) -> widgets.Widget:
        """Controls left and the picture right, or the controls above it where that is too wide."""
        menu = [self.preset_menu] if self.presets else []
        buttons, bar = [self.reset_button], []
        if type(self).work is not Panel.work:
            buttons, bar = [self.start_button, self.stop_button, *buttons], [self.progress]
        left = widgets.GridBox(
            [*menu, widgets.HBox(buttons), *bar, *self.controls.values()],
            layout={"flex": "1 1 280px", "align_content": "flex-start", **GRID},
        )
        self.screen.layout.width = f"calc(100% - {2 * _MARGIN}px)"
        lines = [self._target_line] if self.target else []
        for line in (*lines, self._status_line):
            line.layout.min_height = "46px"
        self._right = widgets.VBox(
            [*lines, self.screen, self._status_line, *below, self._alt, widgets.HTML(_LOOK)],
            layout={"flex": "0 0 auto", "max_width": "100%"},
        )
        box = widgets.Box([left, self._right], layout={"flex_flow": "row wrap", "width": "100%"})
        box.add_class("cl-panel")
        return box

    def _repr_mimebundle_(self, **kw: Any) -> dict[str, Any]:
        # The picture beside the widget, for pages without a kernel.
        bundle = self.widget._repr_mimebundle_(**kw) | {"text/plain": repr(self)}
        if self.picture is not None:
            bundle["image/png"] = base64.b64encode(self.screen.value).decode()
        return bundle

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"{type(self).__name__}({values})"


def _assign(name: str, control: widgets.Widget, value: Any) -> None:
    words = _allowed(control)
    try:
        control.value = value
        # A slider moves a number that it does not take to its nearest end.
        taken = not isinstance(value, Real) or control.value == value
    except (TraitError, TypeError, ValueError) as error:
        taken, words = False, words or str(error)
    if not taken:
        raise ValueError(f"{name} = {value!r} is not possible: {words}")


def _allowed(control: widgets.Widget) -> str:
    if hasattr(control, "options"):
        values = (option[1] if isinstance(option, tuple) else option for option in control.options)
        return f"expected one of {', '.join(map(repr, values))}"
    if hasattr(control, "min"):
        low, high = control.min, control.max
        if hasattr(control, "base"):
            low, high = control.base**low, control.base**high
        return f"expected a number from {low:g} to {high:g}"
    return ""


def _failure(action: Callable[[], object]) -> Exception | None:
    try:
        action()
    except Exception as error:
        return error
    return None
