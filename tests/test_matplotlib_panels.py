"""The base class of the panels, on small ones made here; no browser and no event loop."""

import base64
import threading
from typing import ClassVar

import ipywidgets as widgets
import pytest

from course.figures import style
from course.panels import matplotlib_panel as panels
from course.panels.matplotlib_panel import Panel

SECONDS = 20


class Toy(Panel):
    """A line up to `height`; the work counts until it is stopped or `steps` are done."""

    target = "make it higher than 4"
    presets: ClassVar = {"high": {"height": 4.5}, "thin": {"height": 2.0, "look": "thin"}}

    def __init__(self, steps=10**9):
        self.drawn = []
        self.asked = []
        self.counts = []
        self.steps = steps
        self.began = threading.Event()
        super().__init__(
            {
                "height": widgets.FloatSlider(value=1.0, min=0.0, max=5.0),
                "rate": widgets.FloatLogSlider(value=0.1, min=-3, max=1),
                "look": widgets.Dropdown(options=[("Thin line", "thin"), ("Thick line", "thick")]),
                "name": widgets.Text("toy"),
            }
        )

    def draw(self):
        self.drawn.append(self.values)
        if self.values["name"] == "draw":
            raise RuntimeError("the pen is broken")
        picture, ax = style.new_figure(size=(2.0, 1.5))
        ax.plot([0, self.values["height"]], linewidth=1 if self.values["look"] == "thin" else 5)
        ax.set(ylim=(0, 5))
        style.label(ax, self.values["name"])
        style.hold_still(picture, left=0.2, right=0.9, bottom=0.2, top=0.8)
        return picture

    def judge(self):
        if self.values["name"] == "judge":
            raise RuntimeError("no opinion")
        return "high enough" if self.values["height"] > 4 else None

    def on_change(self, names):
        self.asked.append(set(names))
        if self.values["name"] == "on_change":
            raise RuntimeError("I would not")

    def work(self, stop):
        self.began.set()
        if self.values["name"] == "work":
            raise ArithmeticError("diverged at step 3")
        for step in range(self.steps):
            self.counts.append(step)
            self.progress.value = step
            if stop.wait(0.001):
                return

    def forget(self):
        self.counts = []


class Idle(Panel):
    """Nothing but a picture."""

    def draw(self):
        return style.new_figure(size=(2.0, 1.5), title="idle")[0]


@pytest.fixture
def toy():
    toy = Toy()
    toy.drawn.clear()
    yield toy
    toy.stop()
    assert toy.wait(SECONDS)


def everything(widget):
    """The widget and all that is in it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def page(panel):
    """All the HTML that the panel shows."""
    return " ".join(w.value for w in everything(panel.widget) if isinstance(w, widgets.HTML))


def workers():
    return [t for t in threading.enumerate() if t.daemon and "_run" in t.name]


def test_several_controls_are_set_with_one_redraw(toy):
    before = toy.screen.value
    toy.set(height=3.0, look="thick", rate=1.0)
    assert toy.values == {"height": 3.0, "rate": 1.0, "look": "thick", "name": "toy"}
    assert toy.drawn == [toy.values]
    assert toy.asked == [{"height", "look", "rate"}]
    assert toy.screen.value != before
    assert bytes(toy.screen.value) == toy.picture.png()


def test_a_control_moved_by_hand_redraws_once(toy):
    for name, value in {"height": 2.0, "rate": 1.0, "look": "thick", "name": "other"}.items():
        toy.drawn.clear()
        toy.asked.clear()
        toy.controls[name].value = value
        assert [values[name] for values in toy.drawn] == [value]
        assert toy.asked == [{name}]
    assert toy.picture.title == "other"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"heigth": 1.0}, ["heigth", "height, rate, look, name"]),
        ({"height": 6.0}, ["height", "6.0", "from 0 to 5"]),
        ({"height": float("nan")}, ["height", "from 0 to 5"]),
        ({"height": None}, ["height", "from 0 to 5"]),
        ({"rate": 100}, ["rate", "from 0.001 to 10"]),
        ({"look": "Thin line"}, ["look", "'thin', 'thick'"]),
        ({"name": 3}, ["name", "string"]),
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
    assert toy.drawn == []


def test_a_preset_sets_every_control_with_one_redraw(toy):
    toy.set(rate=1.0, height=3.0)
    toy.drawn.clear()
    toy.preset_menu.value = "thin"
    assert toy.values == {"height": 2.0, "rate": 0.1, "look": "thin", "name": "toy"}
    assert len(toy.drawn) == 1
    toy.choose("high")
    assert toy.values["height"] == 4.5
    assert len(toy.drawn) == 2
    with pytest.raises(ValueError, match="'low'.*high, thin"):
        toy.choose("low")


def test_the_preset_menu_follows_the_controls(toy):
    own = toy.preset_menu.value
    assert own not in toy.presets
    toy.set(height=4.5)
    assert toy.preset_menu.value == "high"
    assert len(toy.drawn) == 1
    toy.preset_menu.value = own
    assert (toy.preset_menu.value, toy.values["height"]) == ("high", 4.5)
    toy.controls["height"].value = 3.0
    assert toy.preset_menu.value == own


def test_the_target_is_ticked_while_it_is_reached(toy):
    assert "☐" in page(toy)
    assert toy.target in page(toy)
    toy.set(height=4.5)
    assert toy.reached == "high enough"
    assert "☑" in page(toy)
    assert "high enough" in page(toy)
    toy.set(height=1.0)
    assert toy.reached is None
    assert "☐" in page(toy)


@pytest.mark.parametrize("where", ["draw", "judge", "on_change"])
def test_a_callback_that_fails_is_said_and_survived(toy, where):
    picture = toy.picture
    toy.set(name=where)
    assert isinstance(toy.problem, RuntimeError)
    assert str(toy.problem) in toy.status
    assert str(toy.problem) in page(toy)
    if where == "draw":
        assert toy.picture is picture
    toy.controls["height"].value = 2.0
    assert toy.problem is not None
    toy.set(name="better")
    assert (toy.problem, toy.status) == (None, "")
    assert toy.picture.title == "better"


def test_a_first_picture_that_fails_leaves_a_panel():
    class Broken(Idle):
        def draw(self):
            raise OSError("no ink")

    panel = Broken({})
    assert panel.picture is None
    assert "no ink" in panel.status
    assert "image/png" not in panel._repr_mimebundle_()


def test_work_that_fails_is_said_and_can_be_started_again(toy):
    toy.set(name="work")
    toy.start()
    assert toy.wait(SECONDS)
    assert isinstance(toy.problem, ArithmeticError)
    assert "diverged at step 3" in toy.status
    assert not toy.start_button.disabled
    toy.set(name="toy")
    assert toy.problem is None
    toy.began.clear()
    toy.start()
    assert toy.began.wait(SECONDS)
    assert toy.problem is None


def test_a_button_that_fails_says_so(toy):
    def action():
        raise FileNotFoundError("no such <file>")

    toy.button("Load", action).click()
    assert "no such <file>" in toy.status
    assert "no such &lt;file&gt;" in page(toy)


def test_work_runs_to_its_end():
    toy = Toy(steps=3)
    toy.start_button.click()
    assert toy.wait(SECONDS)
    assert toy.counts == [0, 1, 2]
    assert toy.status == "Done."
    assert (toy.start_button.disabled, toy.stop_button.disabled) == (False, True)
    assert len(toy.drawn) == 2


def test_a_second_start_is_refused(toy):
    before = len(workers())
    toy.start()
    worker = toy._worker
    assert (toy.start_button.disabled, toy.stop_button.disabled) == (True, False)
    toy.start()
    assert "Already running" in toy.status
    assert toy._worker is worker
    assert len(workers()) == before + 1
    assert toy.running
    assert not toy.wait(0.01)


def test_many_starts_at_a_time_are_one(toy):
    before = len(workers())
    starters = [threading.Thread(target=toy.start) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(SECONDS)
    assert len(workers()) == before + 1


def test_stop_at_once(toy):
    toy.start()
    toy.stop()
    assert toy.wait(SECONDS)
    assert toy.status == "Stopped."
    assert not toy.running
    assert (toy.start_button.disabled, toy.stop_button.disabled) == (False, True)


def test_stop_before_start(toy):
    toy.stop_button.click()
    assert "Nothing is running" in toy.status
    assert toy.wait()
    toy.start()
    assert toy.began.wait(SECONDS)
    assert toy.running


def test_reset_while_running(toy):
    toy.set(height=3.0, look="thick")
    toy.start()
    assert toy.began.wait(SECONDS)
    toy.drawn.clear()
    toy.reset_button.click()
    assert not toy.running
    assert toy.values == {"height": 1.0, "rate": 0.1, "look": "thin", "name": "toy"}
    assert toy.counts == []
    assert (toy.status, toy.progress.value) == ("", 0)
    assert toy.drawn[-1] == toy.values


def test_reset_does_not_wait_for_ever(toy, monkeypatch):
    monkeypatch.setattr(panels, "_PATIENCE", 0.01)
    end = threading.Event()
    toy.work = lambda stop: end.wait(SECONDS)
    toy.set(height=3.0)
    toy.start()
    toy.reset()
    assert "Still stopping" in toy.status
    assert toy.values["height"] == 3.0
    end.set()
    assert toy.wait(SECONDS)
    toy.reset()
    assert toy.values["height"] == 1.0


def test_requests_that_come_while_drawing_share_one_picture(toy):
    drawing, go_on = threading.Event(), threading.Event()
    draw = toy.draw

    def slow_draw():
        picture = draw()
        drawing.set()
        assert go_on.wait(SECONDS)
        return picture

    toy.draw = slow_draw
    heights = [1.5, 2.0, 2.5, 3.0, 3.5]
    first = threading.Thread(target=lambda: toy.set(height=heights[0]))
    first.start()
    assert drawing.wait(SECONDS)
    others = []
    for height in heights[1:]:
        others.append(threading.Thread(target=lambda height=height: toy.set(height=height)))
        others[-1].start()
        while toy.values["height"] != height:
            pass
    assert all(thread.is_alive() for thread in others)
    go_on.set()
    for thread in (first, *others):
        thread.join(SECONDS)
    assert [values["height"] for values in toy.drawn] == [1.5, 3.5]


def test_two_panels_at_a_time_draw_one_after_the_other():
    at_once, most = 0, 0

    class Busy(Toy):
        def draw(self):
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            picture = super().draw()
            picture.png()
            at_once -= 1
            return picture

        def work(self, stop):
            for height in (1.0, 2.0, 3.0, 4.0) * 3:
                self.set(height=height, name=self.title)

    busy = [Busy(), Busy()]
    for panel, title in zip(busy, ("one", "other"), strict=True):
        panel.title = title
        panel.start()
    for panel in busy:
        assert panel.wait(SECONDS)
    assert most == 1
    for panel in busy:
        alone = Toy()
        alone.set(height=4.0, name=panel.title)
        assert panel.problem is None
        assert bytes(panel.screen.value) == bytes(alone.screen.value)


def test_without_a_kernel_the_picture_is_left(toy):
    toy.set(height=2.0)
    bundle = toy._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == bytes(toy.screen.value) == toy.picture.png()
    assert bundle["text/plain"] == "Toy(height=2.0, rate=0.1, look='thin', name='toy')"
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == toy.widget.model_id


def test_only_a_panel_with_work_can_be_started(toy):
    assert {toy.start_button, toy.stop_button, toy.progress} <= set(everything(toy.widget))
    idle = Idle({})
    shown = set(everything(idle.widget))
    assert not {idle.start_button, idle.stop_button, idle.progress, idle.preset_menu} & shown
    assert idle.reset_button in shown
    assert "Target" not in page(idle)


def test_another_screen_and_widgets_below():
    screen, table = widgets.Image(), widgets.HTML("a table")
    panel = Idle({}, screen=screen, below=[table])
    assert bytes(screen.value).startswith(b"\x89PNG")
    assert panel.screen is screen
    assert {screen, table} <= set(everything(panel.widget))


def test_texts_are_for_everybody(toy):
    toy.say("a < b")
    assert 'role="status"' in page(toy)
    assert "a &lt; b" in page(toy)
    toy.draw = lambda: _described("a hill & a valley")
    toy.redraw()
    assert "a hill &amp; a valley" in page(toy)


def _described(alt):
    picture, _ = style.new_figure(size=(2.0, 1.5))
    picture.alt = alt
    return picture
