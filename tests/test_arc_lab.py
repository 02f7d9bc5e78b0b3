"""The ARC lab, driven as a teacher's script drives it: no browser, no event loop."""

import base64
import csv
import io
import itertools
import json
import tempfile
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from course import arc
from course.figures.arc_runs import ArcRun, Settings
from course.panels import arc_lab
from course.panels.arc_lab import ArcLab

PATIENCE = 60
LONG = {"task": "3618c87e", "steps": 2000, "seeds": 5}
MINE = {
    "train": [{"input": [[1, 0], [0, 1]], "output": [[2, 0], [0, 2]]}] * 2,
    "test": [{"input": [[1, 1], [0, 0]], "output": [[2, 2], [0, 0]]}],
}


@pytest.fixture
def lab():
    panel = ArcLab()
    panel.set(task="3618c87e", steps=10)
    yield panel
    panel.stop()
    assert panel.wait(PATIENCE)


def run(panel):
    panel.start()
    assert panel.wait(PATIENCE)
    return panel.runs[-1]


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def write(folder, content, name="mine.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_new_panel_waits_with_the_defaults_of_fit():
    panel = ArcLab()
    assert panel.settings == Settings()
    assert not panel.running
    assert panel.problem is None
    assert panel.runs == []
    assert panel.python() == Settings().python()


CHANGES = {
    "task": "a9f96cdd",
    "augmentation": "symmetries",
    "voters": "pairs",
    "zero_unseen": True,
    "rule": "AND-mask",
    "zeros": "abstain",
    "threshold": 0.5,
    "p": -1.0,
    "hold_masked": True,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 0.01,
    "steps": 20,
    "seed": 7,
    "seeds": 2,
    "width": 8,
    "depth": 2,
}


def test_no_control_is_forgotten_here():
    assert set(CHANGES) == set(ArcLab().controls) - {"device"}


@pytest.mark.parametrize("name", CHANGES)
def test_every_control_reaches_the_settings_and_nothing_else(lab, name):
    before = vars(lab.settings).copy()
    lab.set(**{name: CHANGES[name]})
    changed = {key for key, value in vars(lab.settings).items() if value != before[key]}
    assert changed == {"seeds" if name == "seed" else name}
    assert lab.problem is None
    wanted = {"seed": (7,), "seeds": (0, 1)}.get(name, CHANGES[name])
    assert getattr(lab.settings, changed.pop()) == wanted


@pytest.mark.parametrize("preset", ArcLab.presets)
def test_every_preset_can_be_chosen_and_run(lab, preset):
    lab.choose(preset)
    lab.set(steps=10, seeds=1)
    assert run(lab).ended == "done"
    assert lab.problem is None


@pytest.mark.parametrize(
    "settings",
    [{}, {"rule": "random mask", "seeds": 2}, {"rule": "power mean", "p": 1.0, "optimizer": "sgd"}],
    ids=["defaults", "random mask", "power mean"],
)
def test_panel_fit_and_the_three_lines_have_the_same_numbers(lab, settings):
    lab.set(**settings)
    found = {}
    exec(lab.python(), found)
    ours = run(lab)
    assert [record.loss for record in ours.records] == [history.loss for history in found["runs"]]
    finals = [history.final.loss for history in found["runs"]]
    assert [record.examination.loss for record in ours.records] == finals


def test_a_run_keeps_the_settings_of_its_start(lab):
    lab.set(**LONG, rule="mean")
    lab.start()
    until(lambda: lab.runs)
    lab.set(rule="sign vote", learning_rate=1.0)
    lab.stop()
    assert lab.wait(PATIENCE)
    assert lab.runs[0].settings.rule == "mean"
    assert lab.runs[0].settings.learning_rate == 0.003


def test_start_twice_runs_once(lab):
    lab.set(**LONG)
    lab.start()
    until(lambda: lab.runs)
    threads = threading.active_count()
    lab.start()
    assert "Already running" in lab.status
    lab.compare()
    assert threading.active_count() == threads
    lab.stop()
    assert lab.wait(PATIENCE)
    assert len(lab.runs) == 1


def test_stop_waits_for_the_step_that_is_being_made_and_no_longer(lab):
    lab.set(**LONG)
    lab.start()
    until(lambda: lab.runs and lab.runs[0].steps_done > 3)
    lab.stop()
    done = lab.runs[0].steps_done
    assert lab.wait(PATIENCE)
    assert lab.runs[0].steps_done <= done + 1
    assert lab.runs[0].ended == "stopped"
    assert lab.status == "Stopped."


def test_stop_at_once_and_stop_before_start(lab):
    lab.stop()
    assert "Nothing is running" in lab.status
    lab.set(**LONG)
    lab.start()
    lab.stop()
    assert lab.wait(PATIENCE)
    assert sum(r.steps_done for r in lab.runs) <= 1
    lab.set(steps=10, seeds=1)
    assert run(lab).ended == "done", "the panel still works"


def test_stop_ends_the_second_run_of_a_comparison_too(lab):
    lab.set(**LONG)
    lab.compare()
    until(lambda: lab.runs)
    lab.stop()
    assert lab.wait(PATIENCE)
    assert len(lab.runs) == 1


def test_reset_while_running(lab):
    lab.set(**LONG, rule="mean", hold_masked=True)
    lab.start()
    until(lambda: lab.runs)
    lab.reset()
    assert not lab.running
    assert lab.runs == []
    assert lab.settings == Settings()
    assert lab.csv().count("\n") == 1


def test_clear_drops_runs_and_keeps_the_controls(lab):
    run(lab)
    lab.clear()
    assert lab.runs == []
    assert lab.values["task"] == "3618c87e"
    lab.set(**LONG)
    lab.start()
    until(lambda: lab.runs)
    lab.clear()
    assert "Stop it first" in lab.status


def test_compare_puts_the_mean_beside_the_rule(lab):
    lab.set(zeros="abstain", seeds=2)
    lab.compare()
    assert lab.wait(PATIENCE)
    assert [r.settings.rule for r in lab.runs] == ["mean", "consensus"]
    first, second = (r.records for r in lab.runs)
    assert [r.loss[0] for r in first] == [r.loss[0] for r in second], "the same first weights"
    assert lab.told["progress"] == 1.0
    lab.set(rule="mean")
    lab.compare()
    assert lab.wait(PATIENCE)
    assert [r.settings.rule for r in lab.runs[2:]] == ["mean", "consensus"]


def test_the_picture_has_room_for_six_runs(lab):
    for _ in range(3):
        lab.compare()
        assert lab.wait(PATIENCE)
    lab.start()
    assert "Clear" in lab.status
    assert not lab.running
    assert len(lab.runs) == 6


def test_two_panels_at_a_time_do_not_disturb_each_other():
    panels = [ArcLab(), ArcLab()]
    rules = ["mean", "random mask"]
    for panel, rule in zip(panels, rules, strict=True):
        panel.set(task="3618c87e", steps=60, rule=rule)
        panel.start()
    assert all(panel.running for panel in panels)
    for panel in panels:
        assert panel.wait(PATIENCE)
        alone = {}
        exec(panel.python(), alone)
        assert panel.runs[0].records[0].loss == alone["runs"][0].loss


def test_a_callback_that_fails_is_said_and_the_panel_lives_on(lab, monkeypatch):
    def fail(*args):
        raise RuntimeError("the pen is broken")

    monkeypatch.setattr(ArcLab, "_follow", fail)
    lab.start()
    assert lab.wait(PATIENCE)
    assert "the pen is broken" in lab.status
    assert isinstance(lab.problem, RuntimeError)
    monkeypatch.undo()
    assert run(lab).ended == "done"
    assert lab.problem is None


def test_a_run_that_diverges_is_said_and_kept(lab):
    lab.set(optimizer="sgd", learning_rate=1000.0, weight_decay=1.0, steps=100)
    lab.start()
    assert lab.wait(PATIENCE)
    assert "diverged" in lab.status
    assert "smaller learning rate than 1e+03" in lab.status
    assert lab.runs[0].ended == "diverged"
    lab.set(optimizer="adam", learning_rate=10.0, weight_decay=0.0, steps=10)
    run(lab)
    assert "diverged" in lab.status, "the loss rose, though it stayed a number"


def test_only_devices_that_are_there_are_offered(monkeypatch):
    for there, devices in ((True, ["cpu", "cuda"]), (False, ["cpu"])):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert [value for _, value in ArcLab().controls["device"].options] == devices


def test_a_hidden_answer_is_not_counted_as_wrong(lab, tmp_path):
    hidden = {**MINE, "test": [{"input": [[1, 1], [0, 0]]}]}
    lab.set(task=write(tmp_path, hidden))
    assert run(lab).ended == "done"
    assert "answer hidden" in lab.status
    assert "nan" not in lab.board["table"]


def test_any_arc_task_and_a_file_can_be_chosen(lab, tmp_path):
    lab.set(task="00d62c1b")
    assert run(lab).task.id == "00d62c1b"
    lab.set(task=write(tmp_path, MINE))
    assert run(lab).task.id == "mine"
    assert repr(str(tmp_path / "mine.json")) in lab.python()
    lab.reset()
    assert lab.values["task"] == "a699fb00"


def test_a_task_typed_or_uploaded_is_chosen(lab):
    lab.obey({"do": "task", "name": " 00d62c1b "})
    assert lab.values["task"] == "00d62c1b"
    upload(lab, json.dumps(MINE))
    assert lab.problem is None
    assert run(lab).task.id == "mine"
    found = {}
    exec(lab.python(), found)
    assert found["runs"][0].loss == lab.runs[-1].records[0].loss


def upload(panel, text, name="mine.json"):
    panel._on_message(panel, {"do": "upload", "name": name, "text": text}, [])


def test_a_painted_task_is_chosen_and_painted_again(lab):
    painted = json.loads(json.dumps(MINE))
    for colour in (3, 4):
        painted["test"][0]["output"] = [[colour, 2], [0, 0]]
        lab.obey({"do": "upload", "name": "painted.json", "task": painted})
        assert lab.task["id"] == "painted"
        assert lab.task["test"][0][1] == [[colour, 2], [0, 0]]
    assert run(lab).task.id == "painted"


def test_bad_tasks_are_said_and_leave_the_one_before(lab, tmp_path):
    grows = json.loads(json.dumps(MINE))
    grows["train"][0]["output"] = [[1]]
    for text, words in [("{", "not JSON"), ("[]", "a task is"), (json.dumps(grows), "size")]:
        upload(lab, text)
        assert words in lab.status
        assert tempfile.gettempdir() not in lab.status, "where it is kept is nobody's matter"
        assert lab.problem is not None
    lab._on_message(lab, {"do": "task", "name": "a699fb0"}, [])
    assert "Closest" in lab.status
    assert lab.values["task"] == "3618c87e"
    assert run(lab).ended == "done"
    for bad, error in [("nope", ValueError), (str(tmp_path / "x.json"), FileNotFoundError)]:
        with pytest.raises(error):
            lab.set(task=bad)


def test_a_file_that_was_mended_is_read_again(lab, tmp_path):
    path = write(tmp_path, MINE)
    lab.set(task=path)
    mended = {**MINE, "test": [{"input": [[1, 1, 1]], "output": [[2, 2, 2]]}]}
    write(tmp_path, mended)
    lab.set(task=path)
    assert run(lab).task.test[0].input.tolist() == [[1, 1, 1]]


def test_wrong_values_are_refused_in_words(lab):
    with pytest.raises(ValueError, match="rule.*'consensus'"):
        lab.set(rule="median")
    with pytest.raises(ValueError, match="no control 'lr'"):
        lab.set(lr=0.1)
    assert lab.settings.rule == "consensus"


def test_exports_parse_back(lab, monkeypatch):
    lab.compare()
    assert lab.wait(PATIENCE)
    sent = {}
    monkeypatch.setattr(lab, "send", sent.update)
    lab.obey({"do": "export"})
    rows = list(csv.DictReader(io.StringIO(sent["arc_runs.csv"])))
    assert len(rows) == 20
    for ours in lab.runs:
        losses = [float(row["loss"]) for row in rows if row["run"] == str(ours.number)]
        assert losses == ours.records[0].loss
    assert base64.b64decode(sent["arc_runs.png"]) == lab.draw().png()


def test_the_board_shows_what_was_run(lab):
    ours = run(lab)
    (shown,) = lab.board["runs"]
    record = ours.records[0]
    assert shown["curves"][0]["loss"][-1] == [9, record.loss[-1]]
    assert shown["prediction"] == record.examination.predictions[0].tolist()
    assert f"{record.loss[-1]:.3g}" in lab.board["table"]
    assert "arc.load_task('3618c87e')" in lab.board["python"]
    lab.set(learning_rate=0.1)
    assert "learning_rate=0.1" in lab.board["python"]


@pytest.mark.parametrize("costs", [[0.01], [0.005, 0.1, 0.02]])
def test_showing_takes_at_most_a_twentieth_of_a_run(lab, monkeypatch, costs):
    now, spent = 0.0, []
    cost = itertools.cycle(costs)  # seconds of a picture; a step takes 0.01 of them
    redraw = ArcLab.redraw

    def slow_redraw(panel):
        nonlocal now
        redraw(panel)
        if panel.running:
            spent.append(next(cost))
            now += spent[-1]

    class Slow(ArcRun):
        def train(self, stop, on_step):
            def slow_step():
                nonlocal now
                now += 0.01
                on_step()

            super().train(stop, slow_step)

    monkeypatch.setattr(arc_lab, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(arc_lab, "ArcRun", Slow)
    monkeypatch.setattr(ArcLab, "redraw", slow_redraw)
    lab.set(task="3618c87e", steps=1000, width=4, depth=1)
    assert run(lab).ended == "done"
    assert sum(spent) <= 0.05 * now + 2 * max(costs)
    assert len(spent) >= 10, "the picture moves while it trains"


def test_progress_and_numbers_are_said_while_it_trains(lab):
    said = []
    lab.observe(lambda change: said.append(lab.status), "told")
    lab.set(steps=300)
    run(lab)
    going = [text for text in said if "of 300" in text]
    assert len(going) > 5
    for word in ("seed 0", "loss", "changed test cells", "consensus ratio", "floor"):
        assert word in going[0]
    assert any("left" in text for text in going)
    assert "test exact from" in said[-1]
    assert max(map(len, said)) < 150, "two lines on the panel"


def test_pause_holds_and_step_does_one(lab):
    lab.set(**LONG)
    lab.step()
    until(lambda: lab.runs and lab.runs[0].steps_done == 1)
    assert lab.status.startswith("Paused.")
    lab.step()
    until(lambda: lab.runs[0].steps_done == 2)
    lab.start()
    until(lambda: lab.runs[0].steps_done > 5)
    lab.pause()
    until(lambda: not lab.wait(0.05))
    held = lab.runs[0].steps_done
    assert not lab.wait(0.1)
    assert lab.runs[0].steps_done == held
    lab.stop()
    assert lab.wait(PATIENCE)
    assert lab.status == "Stopped."


def test_the_target_is_reached_by_a_run_that_earns_it():
    panel = ArcLab()
    panel.set(task="a9f96cdd", hold_masked=True, seeds=3, steps=10)
    run(panel)
    assert panel.reached is None
    panel.set(depth=2, width=64, learning_rate=0.01, steps=200)
    solved = run(panel)
    assert panel.reached is not None
    assert "run 2" in panel.reached

    for change in ({"zeros": "abstain"}, {"rule": "mean"}, {"task": "a699fb00"}, {"steps": 210}):
        settings, solved.settings = solved.settings, replace(solved.settings, **change)
        assert panel.judge() is None, change
        solved.settings = settings
    assert panel.judge() is not None
    solved.records.pop()
    assert panel.judge() is None, "two seeds are not three"


def test_the_notebook_keeps_a_picture_of_the_runs(lab):
    run(lab)
    bundle, _ = lab._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == lab.png()
    assert bundle["text/plain"] == repr(lab)


def test_twelve_tasks_are_offered():
    options = [value for _, value in ArcLab().controls["task"].options]
    assert options == list(arc.teaching_task_ids())
    assert arc_lab._HARD in options
