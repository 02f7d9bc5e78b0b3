"""Runs of the ARC lab without widgets: the same numbers as `fit`, a table, a CSV, three lines."""

import csv
import io
import math
import threading
from dataclasses import fields, replace

import pytest

import consensus_lib as cl
from course import arc
from course.figures.arc_runs import RULES, ArcRun, Settings, export, tabulate

QUICK = Settings(task="3618c87e", steps=4)
HIDDEN = '{"train": [{"input": [[1, 0]], "output": [[2, 0]]}], "test": [{"input": [[1, 1]]}]}'
# Something beside the defaults everywhere, so that nothing can be forgotten on the way.
UNUSUAL = Settings(
    task="3618c87e",
    rule="power mean",
    threshold=0.6,
    p=-1.0,
    optimizer="adamw",
    learning_rate=0.01,
    weight_decay=0.1,
    hold_masked=True,
    width=8,
    depth=2,
    steps=3,
    seeds=(4, 6),
    augmentation="symmetries",
    voters="pairs",
    zero_unseen=True,
)


def trained(settings, number=1):
    run = ArcRun(settings, number)
    run.train()
    return run


def test_defaults_are_those_of_fit():
    history = arc.fit(arc.load_task("a699fb00"), cl.Consensus(), steps=2)
    run = trained(replace(Settings(), steps=2))
    assert run.records[0].loss == history.loss
    assert Settings().steps == 200


@pytest.mark.parametrize("settings", [QUICK, UNUSUAL], ids=["defaults", "unusual"])
def test_a_run_has_the_numbers_of_fit(settings):
    run = trained(settings)
    rule = cl.PowerMean(-1.0, 0.6) if settings is UNUSUAL else cl.Consensus()
    own = ("task", "rule", "zeros", "threshold", "p", "seeds")
    arguments = {f.name: getattr(settings, f.name) for f in fields(Settings) if f.name not in own}
    for seed, record in zip(settings.seeds, run.records, strict=True):
        history = arc.fit(arc.load_task("3618c87e"), rule, seed=seed, **arguments)
        for name in ("loss", "consensus_ratio", "floor", "test_loss", "test_cell_accuracy"):
            assert getattr(record, name) == getattr(history, name), name
        assert record.examination.loss == history.final.loss
    assert run.ended == "done"


@pytest.mark.parametrize("rule", RULES)
def test_the_three_lines_repeat_the_run(rule):
    settings = replace(QUICK, rule=rule, zeros="abstain", threshold=0.5, p=1.0, seeds=(0, 3))
    found = {}
    lines = settings.python()
    assert len(lines.splitlines()) == 4
    exec(lines, found)
    ours = [record.loss for record in trained(settings).records]
    assert [run.loss for run in found["runs"]] == ours
    assert [type(settings.make_rule(0)).__name__ in lines] == [True]


def test_the_three_lines_name_every_setting():
    lines = UNUSUAL.python()
    for name in ("optimizer", "learning_rate", "weight_decay", "hold_masked", "width", "depth"):
        assert f"{name}={getattr(UNUSUAL, name)!r}" in lines
    for text in ("PowerMean(p=-1.0, threshold=0.6)", "(4, 6)", "'symmetries'", "zero_unseen=True"):
        assert text in lines
    found = {}
    exec(lines, found)
    assert [run.loss for run in found["runs"]] == [r.loss for r in trained(UNUSUAL).records]


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="consensus.*'median'"):
        Settings(rule="median")


def test_stop_ends_before_the_next_step_and_the_next_seed():
    stop, run = threading.Event(), ArcRun(replace(QUICK, steps=50, seeds=(0, 1)))

    def watch():
        if run.steps_done == 3:
            stop.set()

    run.train(stop, watch)
    assert (run.ended, run.steps_done, len(run.records)) == ("stopped", 3, 1)


def test_divergence_keeps_the_steps_before_it():
    run = ArcRun(replace(QUICK, optimizer="sgd", learning_rate=1e20, steps=50))
    with pytest.raises(cl.Diverged):
        run.train()
    assert run.ended == "diverged"
    assert 1 <= run.steps_done < 50
    assert not run.exact
    assert "diverged" in repr(tabulate([run]))


def test_a_loss_that_rose_is_said_though_it_came_down_again():
    run = trained(QUICK)
    assert "learning rate" not in run.verdict
    for losses, words in [
        ([2.0, 1.0, 2.5], "it diverged"),
        ([2.0, 1e9, 0.6], "the loss had risen to 1e+09"),
        ([2.0, 4.0, 0.1], None),
    ]:
        run.records[0].loss[:] = losses
        assert ("smaller learning rate" in run.verdict) == bool(words)
        assert (words or "exact") in run.verdict


def test_a_learning_rate_that_is_far_too_large_is_said():
    assert "smaller learning rate" in trained(replace(QUICK, learning_rate=100.0)).verdict


def test_the_table_has_a_row_a_run():
    few, many = trained(QUICK), trained(replace(UNUSUAL, seeds=(0, 1, 2)), 2)
    header, first, second = repr(tabulate([few, many])).splitlines()
    for column in ("rule", "settings", "steps", "training loss", "test loss", "exact", "seconds"):
        assert column in header
    assert "consensus" in first
    assert f"{few.records[0].loss[-1]:.3g}" in first
    assert f"{few.records[0].examination.loss:.3g}" in first
    assert "power mean p=-1 ≥0.6" in second
    assert "optimizer adamw, learning rate 0.01, weight decay 0.1, hold masked" in second
    exact = sum(record.examination.exact for record in many.records)
    assert f"{exact} of 3" in second
    assert f"{sorted(r.loss[-1] for r in many.records)[1]:.3g}" in second


def test_the_csv_reads_back_to_the_last_digit():
    runs = [trained(QUICK), trained(UNUSUAL, 2)]
    rows = list(csv.DictReader(io.StringIO(export(runs))))
    assert len(rows) == 4 + 2 * 3
    for run in runs:
        for record in run.records:
            mine = [r for r in rows if (r["run"], r["seed"]) == (str(run.number), str(record.seed))]
            assert [int(row["step"]) for row in mine] == list(range(len(record)))
            for name in ("loss", "test_loss", "test_changed_cell_accuracy", "consensus_ratio"):
                assert [float(row[name]) for row in mine] == getattr(record, name)
            for f in fields(Settings):
                if f.name != "seeds":
                    assert {row[f.name] for row in mine} == {str(getattr(run.settings, f.name))}


def test_hidden_outputs_can_be_trained_on(tmp_path):
    path = tmp_path / "hidden.json"
    path.write_text(HIDDEN)
    run = trained(Settings(task=str(path), steps=2))
    assert not run.exact
    assert "0 of 1" in repr(tabulate([run]))
    (row, _) = csv.DictReader(io.StringIO(export([run])))
    assert math.isnan(float(row["test_loss"]))
