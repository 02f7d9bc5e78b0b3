"""The exercises of notebook 08: right answers pass, wrong ones are told what is wrong."""

import math
import statistics

import pandas as pd
import pytest
import torch

import consensus_lib as cl
from course.arc import load_task
from course.checks import study as checks
from course.study.first_study import FirstJob, study_tasks
from course.study.reporting import primary
from course.study.studies import run_job
from course.study.training import Budget
from tests.study_rows import rows_of

TINY = Budget(steps=3, checkpoints=(0, 3), levels=(), fitted=0)
QUICK = {"tasks": ("e9afcf9a", "25d8a9c8"), "steps": 12}


def by_task(rule, mean):
    """Another way to the right answer, without numpy."""
    tasks = sorted({task for task, seed in rule if (task, seed) in mean})
    units = [
        statistics.fmean(rule[run] - mean[run] for run in rule if run[0] == task and run in mean)
        for task in tasks
    ]
    return statistics.fmean(units), statistics.stdev(units) / math.sqrt(len(units))


def pooled(rule, mean):
    d = [rule[run] - mean[run] for run in rule if run in mean]
    return statistics.fmean(d), statistics.stdev(d) / math.sqrt(len(d))


def apart(rule, mean):
    a, b = list(rule.values()), list(mean.values())
    error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
    return statistics.fmean(a) - statistics.fmean(b), error


def turned(rule, mean):
    return by_task(mean, rule)


def deviation(rule, mean):
    difference, error = by_task(rule, mean)
    return difference, error * math.sqrt(len({t for t, s in rule if (t, s) in mean}))


def biased(rule, mean):
    difference, error = by_task(rule, mean)
    tasks = len({t for t, s in rule if (t, s) in mean})
    return difference, error * math.sqrt((tasks - 1) / tasks)


def test_paired_difference_passes():
    verdict = checks.check_paired_difference(by_task)
    assert verdict, verdict.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pooled, "Five seeds of one task are not five tasks"),
        (apart, "is not paired"),
        (turned, "Subtract the mean's accuracy"),
        (deviation, "smaller by sqrt(T)"),
        (biased, "T - 1 degrees of freedom"),
        (lambda rule, mean: (0.0, 0.0), "make one number of each task"),
        (lambda rule, mean: by_task(rule, mean)[0], "raised TypeError"),
        (lambda rule, mean: (*by_task(rule, mean), 0.0), "expected two numbers"),
        (lambda rule, mean: ("a", "b"), "expected two numbers"),
        (lambda rule, mean: None, "raised TypeError"),
        (lambda rule, mean: 1 / 0, "raised ZeroDivisionError"),
        (0.5, "not a function"),
    ],
)
def test_paired_difference_refuses(answer, words):
    verdict = checks.check_paired_difference(answer)
    assert not verdict
    assert words in verdict.message


def read(interval_95, interval_90, margin):
    (low, high), (low_90, high_90) = interval_95, interval_90
    if max(-low_90, high_90) < margin:
        return "equivalent"
    if low > margin:
        return "better"
    if high < -margin:
        return "worse"
    return "undecided" if low <= 0 <= high else "different"


def test_verdict_passes():
    verdict = checks.check_verdict(read)
    assert verdict, verdict.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda wide, narrow, m: (
                "equivalent" if wide[0] <= 0 <= wide[1] else read(wide, narrow, m)
            ),
            "and so is a difference twice the margin",
        ),
        (lambda wide, narrow, m: read(wide, wide, m), "the interval of 90 %"),
        (
            lambda wide, narrow, m: {"different": "better"}.get(v := read(wide, narrow, m), v),
            "on either side of the margin",
        ),
        (
            lambda wide, narrow, m: "different" if wide[0] > 0 else read(wide, narrow, m),
            "above the margin",
        ),
        (
            lambda wide, narrow, m: "better" if wide[0] > 0 else read(wide, narrow, m),
            "on either side of the margin",
        ),
        (lambda wide, narrow, m: None, "returned None"),
        (lambda wide, narrow, m: 1 / 0, "raised ZeroDivisionError"),
        ("equivalent", "not a function"),
    ],
)
def test_verdict_refuses(answer, words):
    verdict = checks.check_verdict(answer)
    assert not verdict
    assert words in verdict.message


def test_readings_are_those_of_a_comparison():
    """The words that the check expects are those of `Comparison.verdict`, of the same intervals."""
    for middle, half, wanted, _ in checks._READINGS:
        wide = (middle - half, middle + half)
        narrow = (middle - 0.84 * half, middle + 0.84 * half)
        assert read(wide, narrow, checks._MARGIN) == wanted


def test_small_tasks_are_small_and_of_the_study():
    small = checks.small_tasks()
    assert len(small) == 12
    cells = {t: sum(p.input.size for p in load_task(t).train) for t in study_tasks()}
    assert all(cells[task] <= 100 for task in small)
    last = study_tasks().index(small[-1])
    assert [t for t in study_tasks()[: last + 1] if cells[t] <= 100] == list(small)


@pytest.mark.parametrize("rule", [lambda g: g.median(dim=0).values, cl.Consensus(), cl.Mean()])
def test_a_rule_that_can_be_tested_passes_and_hears_what_was_found(rule):
    verdict = checks.check_own_rule(rule, **QUICK)
    assert verdict, verdict.message
    assert "these tasks cannot tell" in verdict.message  # two of them
    assert "of 2 tasks" in verdict.message


def test_the_mean_as_a_rule_of_ones_own_is_equal_to_the_mean():
    verdict = checks.check_own_rule(lambda g: g.mean(dim=0), learning_rate=0.01, **QUICK)
    assert "after the last step: +0.0000" in verdict.message
    assert "2 equal" in verdict.message


def test_consensus_as_a_rule_of_ones_own_is_trained_as_in_the_study():
    """The same losses as the study's own rule by name, whose networks are reduced together."""
    job = FirstJob("e9afcf9a", "held AdamW", "consensus", 0.003, seeds=(0, 1), budget=TINY)
    wanted = [row["train_loss"] for row in run_job(job)]
    rows = checks._trained("e9afcf9a", (0, 1), TINY, 0.003, cl.Consensus().reduce)
    assert [row["train_loss"] for row in rows] == pytest.approx(wanted, rel=1e-5)


def changes_its_input(g):
    g *= 2
    return g.mean(dim=0)


def only_at_first(g):
    """Fine on the gradients of the check, not on those of a network."""
    return g.mean(dim=0) / (g.shape[1] < 1000)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda g: g, "returned a tensor (3, 7), expected (7,)"),
        (lambda g: g.mean(), "returned a tensor (), expected (7,)"),
        (lambda g: g.mean(dim=0).tolist(), "expected (7,)"),
        (lambda g: None, "returned None"),
        (lambda g: g.mean(dim=0) * math.nan, "not finite"),
        (lambda g: g.mean(dim=0) / 0, "not finite"),
        (lambda g: g.std(dim=0) / (len(g) - 2), "not finite"),
        (only_at_first, "during training"),
        (changes_its_input, "changes the gradients"),
        (lambda g: torch.zeros_like(g[0]), "never moved a weight"),
        (lambda g: g.nothing, "raised AttributeError"),
        (3, "not a function"),
    ],
)
def test_a_rule_that_cannot_be_tested_is_told_why(rule, words):
    verdict = checks.check_own_rule(rule, **QUICK)
    assert not verdict
    assert words in verdict.message


def known(by, tasks=20):
    """The verdict on a rule that is so much better than the mean at every task."""
    rows = rows_of("mean", [0.5] * tasks) + rows_of(checks._OWN, [0.5 + by] * tasks)
    table = pd.DataFrame(rows)
    return checks._finding(primary(table, checks._OWN), table)


def test_the_message_carries_the_finding():
    assert "you have found something" in known(0.1)
    assert "nothing found" in known(-0.1)
    assert "nothing found" in known(0.0)
    assert "cannot tell" in known(0.1, tasks=5)
