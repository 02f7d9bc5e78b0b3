"""The studies run, stop, go on, choose settings off the edge, and their rows come out again."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.arc import load_task
from course.study import arc_folds, first_study, small_worlds, studies
from course.study.__main__ import main
from course.study.first_study import FirstJob, study_tasks, tuning_tasks
from course.study.stepping import Method
from course.study.studies import FOLDER, PARTS, Studies, run_job
from course.study.training import Budget
from course.study.tuning import ADAM, ADAMW, SGD, Lattice

TINY = Budget(2, (0, 2), (10.0,), 0.0)


def test_tasks_are_the_ones_the_plan_names():
    assert len(study_tasks()) == len(set(study_tasks())) == 262
    assert len(tuning_tasks()) == len(set(tuning_tasks())) == 30
    assert not set(study_tasks()) & set(tuning_tasks())
    for task in map(load_task, study_tasks() + tuning_tasks()):
        assert task.same_size


def test_folds_are_pairs_with_changes_and_at_least_two():
    for task in study_tasks():
        pairs = load_task(task).train + load_task(task).test
        found = arc_folds.folds(task)
        able = [i for i, pair in enumerate(pairs) if (pair.input != pair.output).any()]
        assert set(found) <= set(able)
        assert len(found) >= min(2, len(able))
        cells = [sum(p.input.size for p in pairs) - pairs[fold].input.size for fold in found]
        assert len(found) <= 2 or sum(cells) <= arc_folds.MOST_CELLS


@given(lattice=st.sampled_from([ADAMW, ADAM, SGD]), data=st.data())
def test_no_edge_wins_a_tuning(lattice, data):
    """A score with one peak anywhere on the lattice is found from any start, and surrounded."""
    rate, decay = (data.draw(st.sampled_from(v)) for v in (lattice.rates, lattice.decays))

    def score(setting):
        places = [lattice.rates.index(setting[0]), lattice.decays.index(setting[1])]
        top = [lattice.rates.index(rate), lattice.decays.index(decay)]
        return -sum(abs(a - b) for a, b in zip(places, top, strict=True))

    start = [(lattice.rates[2], lattice.decays[0]), (lattice.rates[3], lattice.decays[1])]
    scores = {}
    while wanted := lattice.wanted(start, scores):
        assert not set(wanted) & set(scores)
        scores |= {setting: score(setting) for setting in wanted}
    if rate * decay <= 0.5:
        assert lattice.best(scores) == (rate, decay)
    i, j = (
        lattice.rates.index(lattice.best(scores)[0]),
        lattice.decays.index(lattice.best(scores)[1]),
    )
    around = [
        (r, d) for r in lattice.rates[max(0, i - 1) : i + 2] for d in lattice.decays[j : j + 2]
    ]
    assert {s for s in around if s[0] * s[1] <= 0.5} <= set(scores)


def test_of_equal_settings_the_smaller_wins():
    assert Lattice.best({(0.1, 0): 1, (0.01, 3): 1, (0.01, 1): 1, (0.1, 1): 0}) == (0.01, 1)


def scored(scores, reached=()):
    """Rows of tuning tasks: each setting's accuracy at the end, and 0.9 where it reaches 0.1."""
    rows = []
    for (rate, decay), score in scores.items():
        for number, task in enumerate(tuning_tasks()):
            row = {"task": task, "rule": "mean", "held": 0, "optimizer": "adamw"}
            row |= {"learning_rate": rate, "weight_decay": decay}
            if number < dict(reached).get((rate, decay), 30):
                rows.append(
                    row | {"at": "loss", "value": 0.1, "step": 9, "test_changed_accuracy": 0.9}
                )
            rows.append(
                row | {"at": "step", "value": 2000, "step": 2000, "test_changed_accuracy": score}
            )
    return pd.DataFrame(rows)


def test_on_arc_a_setting_must_come_to_the_level_often_enough_to_win():
    rows = scored({(0.001, 0.0): 0.1, (0.003, 0.0): 0.95}, {(0.003, 0.0): 23}.items())
    scores, may_win = arc_folds.tuning_scores(rows, arc_folds.MEAN, at_level=True)
    assert scores[0.001, 0.0] == pytest.approx(0.9)
    assert scores[0.003, 0.0] == pytest.approx((23 * 0.9 + 7 * 0.95) / 30)
    assert may_win == {(0.001, 0.0)}  # 23 of 30 is less than 80 %
    at_the_end, all_may = arc_folds.tuning_scores(rows, arc_folds.MEAN, at_level=False)
    assert at_the_end == pytest.approx({(0.001, 0.0): 0.1, (0.003, 0.0): 0.95})
    assert all_may == set(at_the_end)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Two parts with a handful of jobs of two steps."""
    world = small_worlds.WorldJob((3, 7), small_worlds.CELL, Method("consensus", 0.001), TINY)
    methods = (Method("mean", 0.001), Method("consensus", 0.001, 1.0))
    arc = [arc_folds.ArcJob(study_tasks()[0], 0, seed, methods, budget=TINY) for seed in (1, 2)]

    class Part:
        about = "a try"

        def __init__(self, jobs):
            self.jobs = lambda rows: jobs

    jobs = [replace(world, numbers=numbers) for numbers in ((0, 1), (2,), (3, 7))]
    monkeypatch.setattr(studies, "PARTS", {"worlds": Part(jobs), "arc": Part(arc)})
    return Studies(tmp_path)


def test_a_second_start_runs_what_the_first_left(tiny):
    tiny.run("worlds", processes=1)
    whole = tiny.store("worlds").text()
    assert sorted(whole["world"].unique()) == ["0", "1", "2", "3", "7"]
    path = tiny.store("worlds").path
    path.unlink()
    tiny.store("worlds").add(whole[whole["world"].isin(["0", "1"])].to_dict("records"))
    again = Studies(tiny.folder)
    assert [job.numbers for job in again.missing("worlds")] == [(2,), (3, 7)]
    again.run("worlds", processes=1)
    assert again.missing("worlds") == []
    pd.testing.assert_frame_equal(again.store("worlds").text(), whole)


def test_stored_runs_come_out_again_to_the_last_digit(tiny):
    tiny.run("worlds", processes=1)
    tiny.run("arc", processes=1)
    for part, run in (("worlds", {"world": 7}), ("arc", {"seed": 2, "rule": "consensus"})):
        rows = tiny.again(part, **run)
        assert len(rows) == 3
        assert all(stored == now for stored, now in rows)
    assert tiny.again("arc", seed=9) == []


def test_every_run_of_the_studies_has_a_key_of_its_own(tmp_path, monkeypatch):
    """Whatever tuning chooses; first_study needs rates for every rule that takes part."""
    monkeypatch.setattr(small_worlds, "chosen_setting", lambda rows, method: (0.001, 1.0))
    monkeypatch.setattr(arc_folds, "chosen", lambda rows, method, at_level=True: method)
    rules = {job.rule for part in first_study.PARTS if part.tunes for job in part.plan({})}
    rates = {(s, r): 0.01 for s in ("held AdamW", "AdamW") for r in {*rules, "scaled mean"}}
    rates["held AdamW", "consensus"] = 0.003  # the mean runs at it too
    monkeypatch.setattr(first_study, "rates", lambda rows: rates)
    empty = Studies(tmp_path)
    for part in PARTS:
        store = empty.store(part)
        keys = [
            tuple(store.as_text(label).items()) for job in empty.jobs(part) for label in job.labels
        ]
        assert keys, part
        assert max(Counter(keys).values()) == 1, part


def test_results_of_another_plan_are_not_mixed(tiny, monkeypatch):
    tiny.run("worlds", processes=1)
    monkeypatch.setattr(small_worlds, "FRESH", 5)
    with pytest.raises(ValueError, match="another plan"):
        Studies(tiny.folder)


def test_a_part_without_its_settings_says_what_to_run(tmp_path):
    for part, first in (("arc", "arc-tuning"), ("worlds-pairs", "worlds"), ("main", "tuning")):
        with pytest.raises(ValueError, match=f"run .*{first}"):
            Studies(tmp_path).jobs(part)


MANY_JOBS = """
import sys
from pathlib import Path
from course.study import small_worlds, studies
from course.study.stepping import Method
from course.study.training import Budget

class Part:
    def jobs(self, rows):
        method, budget = Method("mean", 0.001), Budget(1, (0, 1), (), 0.0)
        cell = small_worlds.CELL
        return [small_worlds.WorldJob((n,), cell, method, budget) for n in range(500)]

studies.PARTS = {"worlds": Part()}
studies.Studies(Path(sys.argv[1])).run("worlds", processes=1)
"""


def test_a_killed_run_loses_what_was_in_flight_and_nothing_else(tmp_path):
    """kill -9 while it runs, twice; each time what was stored before stays as it was."""
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(root), str(root / "notebooks")])
    path = tmp_path / "worlds.csv.gz"
    stored: list[dict[str, str]] = []
    for _ in range(2):
        size = path.stat().st_size if path.exists() else 0
        run = subprocess.Popen(
            [sys.executable, "-c", MANY_JOBS, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        while run.poll() is None and (not path.exists() or path.stat().st_size <= size):
            time.sleep(0.05)
        assert run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
        now = Studies(tmp_path).store("worlds").text().to_dict("records")
        assert len(now) > len(stored)
        assert now[: len(stored)] == stored
        stored = now


def test_a_mistake_is_one_line(tmp_path, capsys):
    assert main(["run", "mian", "--folder", str(tmp_path)]) == 1
    assert "no part 'mian'; there are: worlds, arc-tuning" in capsys.readouterr().err
    assert main(["status", "--folder", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "waits for tuning" in out


def test_relatives_without_their_library_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ImportError, match=r"TorchJD.*pip install -r"):
        run_job(FirstJob(study_tasks()[0], "held AdamW", "MGDA", 0.01, budget=TINY))


def test_flatness_is_measured_where_the_loss_is_reached(monkeypatch):
    monkeypatch.setattr(first_study, "LEVEL", 2.2)
    rows = run_job(FirstJob(study_tasks()[0], "held AdamW", "mean", 0.01, extra="flatness"))
    assert [row["seed"] for row in rows] == [seed for seed in range(5) for _ in range(3)]
    assert all(row["train_loss"] <= 2.2 for row in rows)
    by_radius = [sum(row["rise"] for row in rows if row["radius"] == r) for r in (0.01, 0.1)]
    assert 0 < abs(by_radius[0]) < by_radius[1]


@pytest.mark.parametrize("rule", ["mean", "consensus", "random mask"])
def test_rows_of_the_first_study_come_out_again(rule):
    """Where they were stored another processor may have rounded: only early steps."""
    study = Studies(FOLDER)
    task = min(
        study_tasks()[:20], key=lambda name: sum(p.input.size for p in load_task(name).train)
    )
    (job,) = [j for j in study.jobs("main") if (j.task, j.rule) == (task, rule)]
    budget = Budget(10, (0, 10), (), 0)
    now = pd.DataFrame(run_job(replace(job, budget=budget))).set_index(["seed", "value"])
    stored = study.rows("main").query("task == @task and rule == @rule and at == 'step'")
    stored = stored.set_index(["seed", "value"]).loc[now.index]
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(now[name], stored[name], rtol=0.01)
    for name in ("consensus_ratio", "update_ratio", "test_cell_accuracy", "test_exact"):
        np.testing.assert_allclose(now[name], stored[name], atol=0.02)
