"""The study runs, stops, goes on, chooses learning rates, and its stored rows come out again."""

import json
import sys
from collections import Counter

import pytest

from course.arc import load_task
from course.study import __main__ as command
from course.study import running
from course.study.__main__ import QUICK_BUDGET, main
from course.study.plan import PARTS, SETTINGS, Budget, study_tasks, tuning_tasks
from course.study.rules import MAIN_RULES, RELATIVES, SCALED_MEAN
from course.study.running import FOLDER, Study

TINY = Budget(steps=2, checkpoints=(0, 2), levels=(10.0,))


def tiny(folder):
    return Study(folder, TINY, tasks=1)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    tiny(folder).run("tuning", processes=1, backend="threading")
    return folder


def test_tasks_are_the_ones_the_plan_names():
    assert len(study_tasks()) == len(set(study_tasks())) == 262
    assert len(tuning_tasks()) == len(set(tuning_tasks())) == 30
    assert not set(study_tasks()) & set(tuning_tasks())
    for task in map(load_task, study_tasks() + tuning_tasks()):
        assert task.same_size


def test_the_main_grid_pairs_every_rule_with_every_task(tuned):
    jobs = PARTS["main"].jobs(tiny(tuned).rates())
    assert Counter(job.rule for job in jobs) == dict.fromkeys(MAIN_RULES, 262)
    assert {job.seeds for job in jobs} == {(0, 1, 2, 3, 4)}
    assert len({job.key for job in jobs}) == len(jobs)


def test_keys_are_unique_in_every_part():
    rates = {
        (setting, rule): 0.01 for setting in SETTINGS for rule in [*MAIN_RULES, "MGDA", "UPGrad"]
    }
    rates |= {
        ("held AdamW", rule): 0.01 for rule in ("AND-mask 1/2", "geometric", "harmonic", "power -3")
    }
    rates["held AdamW", "consensus"] = 0.003  # the mean runs at it too
    for name, part in PARTS.items():
        keys = [job.key for job in part.jobs(rates)]
        assert len(set(keys)) == len(keys) > 0, name


def test_chosen_is_the_rate_that_generalizes_best_on_the_tuning_tasks(tuned):
    study = tiny(tuned)
    found = study.results("tuning").where(at="step", value=2, rule="abstain")
    best = found["test_changed_accuracy"].max()
    wanted = min(found.where(test_changed_accuracy=best)["learning_rate"])
    rates = study.rates()
    assert rates["held AdamW", "abstain"] == wanted
    assert rates["held AdamW", SCALED_MEAN] == rates["held AdamW", "consensus"]


def test_a_part_without_its_learning_rates_says_what_to_run(tmp_path):
    with pytest.raises(ValueError, match=r"'main' needs the learning rate .* tuning"):
        tiny(tmp_path).jobs("main")


def test_a_second_start_runs_what_the_first_left(tuned, monkeypatch):
    study = tiny(tuned)
    study.run("main", processes=1, backend="threading")
    before = study.store("main").rows()
    store = study.store("main")
    half = [row for row in before if row["rule"] != "abstain"]
    store.path.unlink()
    store.add(half)

    ran = []
    whole = running.run_job
    monkeypatch.setattr(running, "run_job", lambda job, part: ran.append(job) or whole(job, part))
    tiny(tuned).run("main", processes=1, backend="threading")
    assert [job.rule for job in ran] == ["abstain"]
    assert tiny(tuned).missing("main") == []
    assert study.store("main").rows() == before
    tiny(tuned).run("main", processes=1, backend="threading")
    assert len(ran) == 1


def test_results_of_another_plan_are_not_mixed(tuned):
    with pytest.raises(ValueError, match="another plan"):
        Study(tuned)


def test_flatness_is_measured_where_the_loss_is_reached(tmp_path, monkeypatch):
    monkeypatch.setattr("course.study.flatness.LEVEL", 2.2)
    job = PARTS["flatness"].jobs(
        {("held AdamW", rule): 0.01 for rule in ("mean", "consensus", "AND-mask", "random mask")}
    )[0]
    rows = running.run_job(job, "flatness")
    assert [row["seed"] for row in rows] == [0, 1, 2, 3, 4] * 3
    assert all(row["train_loss"] <= 2.2 for row in rows)
    by_radius = [
        sum(row["rise"] for row in rows if row["radius"] == radius) for radius in (0.01, 0.03, 0.1)
    ]
    assert 0 < abs(by_radius[0]) < by_radius[2]


def test_voters_are_copies_of_the_pairs():
    rates = {("held AdamW", rule): 0.01 for rule in ("mean", "consensus")}
    jobs = PARTS["voters"].jobs(rates)
    assert {job.voters for job in jobs} == {2, 4, 8, 16, 32, 64}
    for job in jobs[:: len(jobs) // 4]:
        task = running._with_voters(load_task(job.task), job.voters)
        assert len(task.train) == len(set(task.train)) == job.voters
        assert task.test == load_task(job.task).test


def test_the_quick_study_by_its_commands(tmp_path, capsys):
    folder = ["--quick", "--folder", str(tmp_path)]
    run = ["run", "tuning", "main", "voters", *folder, "--processes", "1"]
    assert main([*run, "--backend", "threading"]) == 0
    assert main(["status", *folder]) == 0
    out = capsys.readouterr().out
    assert "complete" in out
    assert json.loads((tmp_path / "configuration.json").read_text())["plan"]["budget"][
        "checkpoints"
    ] == list(QUICK_BUDGET.checkpoints)
    assert main(["again", "main", study_tasks()[0], "--rule", "consensus", *folder]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{study_tasks()[0]} held AdamW consensus 0.001 0.01 0"
    counts = [int(word) for word in second.split() if word.isdigit()]
    assert counts[0] == counts[1] > 0
    assert main(["run", "mian", *folder]) == 1
    assert "no part 'mian'; there are: tuning" in capsys.readouterr().err
    assert main(["again", "main", "00000000", *folder]) == 1
    assert "no job of 'main'" in capsys.readouterr().err


def test_relatives_without_their_library_are_left_out_or_say_what_to_install(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    job = PARTS["relatives"].jobs({("held AdamW", rule): 0.01 for rule in RELATIVES})[0]
    with pytest.raises(ImportError, match=r"TorchJD.*pip install -r"):
        running.run_job(job, "relatives")
    monkeypatch.setattr(command, "find_spec", lambda package: None)
    monkeypatch.setattr(Study, "run", lambda study, part, *_: print("ran", part))
    assert main(["run", "--quick", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "relatives: left out, needs the package torchjd" in lines
    assert "ran main" in lines
    assert "ran relatives" not in lines


@pytest.mark.parametrize("rule", ["mean", "consensus"])
def test_stored_rows_come_out_again(rule):
    """Where the numbers were stored another processor may have rounded: only early steps."""
    study = Study(FOLDER)
    task = min(
        study_tasks()[:20], key=lambda name: sum(p.input.size for p in load_task(name).train)
    )
    ((_, rows),) = study.again("main", task=task, rule=rule).items()
    early = [(kept, row) for kept, row in rows if row["at"] == "step" and int(row["step"]) <= 10]
    assert len(early) == 2 * 5
    for kept, row in early:
        for name in ("train_loss", "test_loss"):
            assert float(row[name]) == pytest.approx(float(kept[name]), rel=0.01)
        for name in ("consensus_ratio", "update_ratio"):
            assert float(row[name]) == pytest.approx(float(kept[name]), abs=0.01)
