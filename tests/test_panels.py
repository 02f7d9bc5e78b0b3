"""The base class of the panels, on a small one made here; no browser and no event loop."""

import base64
import io
import subprocess
import sys
import threading
from typing import ClassVar

import matplotlib.image
import pytest

from course.figures import style
from course.panels import panel as panels
from course.panels.controls import choice, ladder, number, several, tick
from course.panels.panel import Panel, front_end

SECONDS = 20


class Toy(Panel):
    """A line up to `height`; the work counts until it is stopped or `steps` are done."""

    _esm = front_end("one_weight")
    target = "make it higher than 4"
    presets: ClassVar = {"high": {"height": 4.5}, "thin": {"height": 2.0, "look": "thin"}}
    controls: ClassVar = {
        "height": number("height", 0.0, 5.0, 0.1, first=1.0),
        "count": number("count", 1, 9, 1, first=3),
        "rate": ladder("rate", [0.1, 1.0, 10.0]),
        "look": choice("look", [("Thin line", "thin"), ("Thick line", "thick")]),
        "dots": tick("dots"),
        "some": several("some", ["a", "b", "c"]),
    }

    def __init__(self, steps=10**9):
        self.counts, self.steps, self.asked = [], steps, []
        self.began = threading.Event()
        self.fails = ""
        super().__init__()

    def draw(self):
        picture, ax = style.new_figure(size=(2.0, 1.5))
        ax.plot([0, self.values["height"]])
        return picture

    def judge(self):
        return "high enough" if self.values["height"] > 4 else None

    def on_change(self, names):
        self.asked.append(set(names))
        if self.fails == "change":
            raise RuntimeError("I would not")

    def work(self, stop):
        self.began.set()
        if self.fails == "work":
            raise ArithmeticError("diverged at step 3")
        while len(self.counts) < self.steps:
            self.counts.append(len(self.counts))
            self.say(f"count {len(self.counts)}")
            if stop.is_set():
                return None
        return f"counted to {len(self.counts)}"

    def forget(self):
        self.counts = []


@pytest.fixture
def toy():
    toy = Toy()
    yield toy
    toy.stop()
    assert toy.wait(SECONDS)


def until(condition):
    waited = threading.Event()
    for _ in range(SECONDS * 100):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen")


def test_several_controls_are_set_at_once(toy):
    toy.set(height=3, look="thick", rate=1.0, some=["c", "a"])
    first = {"count": 3, "dots": False}
    told = {"height": 3.0, "rate": 1.0, "look": "thick", "some": ("a", "c")}
    assert toy.values == told | first
    assert toy.asked == [{"height", "look", "rate", "some"}]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"heigth": 1.0}, ["heigth", "height, count, rate"]),
        ({"height": 6.0}, ["height", "6.0", "a number from 0 to 5"]),
        ({"height": float("nan")}, ["height", "from 0 to 5"]),
        ({"height": None}, ["height", "from 0 to 5"]),
        ({"count": 2.5}, ["count", "a whole number from 1 to 9"]),
        ({"rate": 2}, ["rate", "0.1, 1.0, 10.0"]),
        ({"look": "Thin line"}, ["look", "'thin', 'thick'"]),
        ({"dots": 1}, ["dots", "True or False"]),
        ({"some": ["d"]}, ["some", "some of 'a', 'b', 'c'"]),
        ({"height": 3.0, "look": "wide"}, ["look", "'thin', 'thick'"]),
    ],
)
def test_what_a_control_does_not_take_is_refused(toy, values, words):
    before = toy.values
    with pytest.raises(ValueError, match=words[0]) as error:
        toy.set(**values)
    for word in words:
        assert word in str(error.value)
    assert toy.values == before
    assert toy.asked == []


def test_a_preset_sets_every_control(toy):
    toy.set(rate=1.0, height=3.0)
    toy.choose("thin")
    assert toy.values == toy.first | {"height": 2.0, "look": "thin"}
    assert toy.asked[1:] == [{"height", "rate"}]
    with pytest.raises(ValueError, match="'low'.*high, thin"):
        toy.choose("low")


def test_what_a_page_sends_is_what_python_sees(toy):
    sent = toy.get_state()["values"] | {"height": 4.5, "some": ["b"]}
    toy.set_state({"values": sent})
    assert toy.values["height"] == 4.5
    assert toy.values["some"] == ("b",)
    assert toy.reached == "high enough"


def test_a_change_that_fails_is_said_and_survived(toy):
    toy.fails = "change"
    toy.set(height=2.0)
    assert "I would not" in toy.status
    assert isinstance(toy.problem, RuntimeError)
    toy.fails = ""
    toy.set(height=3.0)
    assert (toy.problem, toy.status) == (None, "")


def test_work_that_fails_is_said_and_can_be_started_again(toy):
    toy.fails = "work"
    toy.start()
    assert toy.wait(SECONDS)
    assert isinstance(toy.problem, ArithmeticError)
    assert "diverged at step 3" in toy.status
    toy.fails = ""
    toy.start()
    until(lambda: toy.counts)
    assert toy.problem is None


def test_work_runs_to_its_end():
    toy = Toy(steps=3)
    toy.start()
    assert toy.wait(SECONDS)
    assert toy.counts == [0, 1, 2]
    assert toy.status == "counted to 3"
    assert toy.told["phase"] == "idle"


def test_many_starts_at_a_time_are_one(toy):
    starters = [threading.Thread(target=toy.start) for _ in range(8)]
    before = threading.active_count()
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(SECONDS)
    assert threading.active_count() == before + 1
    toy.stop()
    assert toy.wait(SECONDS)


def test_pause_step_and_go_on(toy):
    toy.start()
    until(lambda: toy.counts)
    toy.pause()
    until(lambda: toy.status == f"Paused. count {len(toy.counts)}")
    held = len(toy.counts)
    assert not toy.wait(0.05)
    # The step that was being made when it was held may still have ended.
    held = len(toy.counts)
    for number_of in (1, 2):
        toy.step()
        until(lambda number_of=number_of: len(toy.counts) == held + number_of)
        assert not toy.wait(0.02)
        assert len(toy.counts) == held + number_of
    toy.start()
    until(lambda: len(toy.counts) > held + 5)
    assert toy.told["phase"] == "running"


def test_a_step_begins_the_work_and_a_stop_ends_a_pause(toy):
    toy.step()
    until(lambda: toy.counts == [0])
    assert toy.status.startswith("Paused.")
    toy.stop()
    assert toy.wait(SECONDS)
    assert toy.status == "Stopped."


class Held(Toy):
    """Each point at which another thread may come between waits for its turn."""

    def __init__(self):
        self.at = threading.Event()
        self.go_on = threading.Event()
        super().__init__(steps=1)

    def work(self, stop):
        ended = super().work(stop)
        self.at.set()
        assert self.go_on.wait(SECONDS)
        self.say("count 1 of 2000, 3 s left")
        return ended


@pytest.mark.parametrize("order", ["stop before the last words", "stop after the end", "reset"])
def test_the_status_line_ends_in_the_truth_whatever_the_order(order):
    toy = Held()
    toy.start()
    assert toy.at.wait(SECONDS)
    if order == "stop after the end":
        toy.go_on.set()
        assert toy.wait(SECONDS)
        assert toy.status == "counted to 1"
        toy.stop()
        assert toy.status == "Nothing is running."
        return
    if order == "reset":
        threading.Timer(0.05, toy.go_on.set).start()
        toy.reset()
        assert toy.status == ""
    else:
        toy.stop()
        assert toy.status == "Stopping."
        toy.go_on.set()
        assert toy.wait(SECONDS)
        assert toy.status == "counted to 1"
    assert toy.told["phase"] == "idle"


def test_words_that_come_after_a_stop_are_not_shown():
    class Late(Held):
        def work(self, stop):
            super().work(stop)
            until(lambda: stop.pulled)
            self.say("step 271 of 2000, 5 s left")

    toy = Late()
    seen = []
    toy.observe(lambda change: seen.append(toy.status), "told")
    toy.start()
    assert toy.at.wait(SECONDS)
    toy.go_on.set()
    toy.stop()
    assert toy.wait(SECONDS)
    assert toy.status == "Stopped."
    assert not any("271" in line for line in seen)


def test_sixty_stops_beside_two_busy_loops_answer_soon_and_end_in_the_truth(toy):
    end = threading.Event()

    def busy():
        while not end.is_set():
            pass

    loops = [threading.Thread(target=busy, daemon=True) for _ in range(2)]
    for loop in loops:
        loop.start()
    try:
        for _ in range(60):
            toy.start()
            until(lambda: toy.counts)
            toy.stop()
            assert toy.wait(0.5)
            assert toy.status == "Stopped."
            toy.counts = []
    finally:
        end.set()


def test_reset_while_running(toy):
    toy.set(height=3.0, look="thick")
    toy.start()
    assert toy.began.wait(SECONDS)
    toy.reset()
    assert not toy.running
    assert toy.values == toy.first
    assert (toy.counts, toy.status) == ([], "")


def test_reset_does_not_wait_for_ever(toy, monkeypatch):
    monkeypatch.setattr(panels, "_PATIENCE", 0.01)
    end = threading.Event()
    toy.work = lambda stop: end.wait(SECONDS) and None
    toy.set(height=3.0)
    toy.start()
    toy.reset()
    assert toy.values["height"] == 3.0
    end.set()
    assert toy.wait(SECONDS)
    toy.reset()
    assert toy.values["height"] == 1.0


def test_a_page_gives_orders_and_no_others(toy):
    for order in ({"do": "start"}, {"do": "__del__"}, {"do": "set"}, {}):
        toy.obey(order)
    assert toy.running
    assert toy.problem is None


def test_without_a_kernel_a_picture_with_the_controls_is_left(toy):
    plain = pixels(toy)
    toy.set(height=4.5, look="thick")
    changed = pixels(toy)
    wide = matplotlib.image.imread(io.BytesIO(toy.draw().png())).shape[1]
    assert changed.shape[1] > wide
    assert (plain[:, :-wide] != changed[:, :-wide]).any(), "the controls are not drawn"
    bundle, _ = toy._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"].startswith("Toy(height=4.5, count=3")


def pixels(toy):
    bundle, _ = toy._repr_mimebundle_()
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(bundle["image/png"])))
    return picture[:150]


def test_no_pyplot():
    code = (
        "import sys, pkgutil, importlib; from course import arc, figures, panels\n"
        "for room in (figures, panels):\n"
        "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "        module.name.endswith('.environment') or importlib.import_module(module.name)\n"
        "panels.one_weight_panel.OneWeight().png()\n"
        "assert figures.one_weight.draw_votes([1, 2]).png()\n"
        "assert figures.grids.draw_task(arc.load_task('a699fb00')).png()\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
