"""The exercises of notebook 05: other right answers pass, wrong ones are told what is wrong."""

import itertools
import statistics
from collections import defaultdict

import pytest
import torch

from course.checks import invariance as checks
from tests.exercises import every_wrong_answer, is_refused

REFUSED = {}  # {check: [(*arguments, words)]}


def by_outcomes(environments, shortcuts):
    """Every outcome of the coins by itself where there are few, else by the formula."""
    if environments * shortcuts <= 12:
        worlds = list(itertools.product((1, -1), repeat=environments * shortcuts))
        survives = 0
        for world in worlds:
            columns = [world[s::shortcuts] for s in range(shortcuts)]
            survives += any(len(set(column)) == 1 for column in columns)
        return survives / len(worlds)
    return 1 - (1 - 2.0 ** (1 - environments)) ** shortcuts


def test_survival_passes():
    verdict = checks.check_survival(by_outcomes)
    assert verdict, verdict.message


REFUSED[checks.check_survival] = [
    (lambda e, s: 2.0 ** (1 - e), "for one given shortcut"),
    (lambda e, s: s * 2.0 ** (1 - e), "how many survive on average"),
    (lambda e, s: (1 - 2.0 ** (1 - e)) ** s, "that none survives"),
    (lambda e, s: 2.0 ** (s * (1 - e)), "that all survive|for one given"),
    (lambda e, s: 1 - (1 - 2.0**-e) ** s, "in two ways"),
    (lambda e, s: 0.123, "And one of several?"),
]


OPPOSITE = [[1, -1, 1, 1, -1], [-1, 1, -1, -1, 1]]


@pytest.mark.parametrize("codes", [OPPOSITE, torch.tensor(OPPOSITE), OPPOSITE[::-1]])
def test_blocking_passes(codes):
    verdict = checks.check_blocking(codes)
    assert verdict, verdict.message


REFUSED[checks.check_blocking] = [
    ([[1] * 5], "shortcut 1 has the same sign in all 1"),
    ([[1, 1, 1, 1, 1], [-1, -1, -1, -1, 1]], "shortcut 5 has the same sign in all 2"),
    ([*OPPOSITE, [1] * 5], "can be done with less"),
    ([[1, 1, 1, 1, 0], [-1] * 5], "+1 or -1"),
    ([[1] * 4, [-1] * 4], "of 5 numbers"),
    ([[1] * 5, [-1] * 4], "a list for each environment"),
    ([], "a list for each environment"),
    ([1] * 5, "a list for each environment"),
    (None, "a list for each environment"),
]


def reporter(score=lambda run: run.held_out, over=statistics.mean, told=None):
    def report(runs):
        best = {}
        for rule in {run.rule for run in runs}:
            rates = defaultdict(list)
            for run in runs:
                if run.rule == rule:
                    rates[run.learning_rate].append(run)
            rate = max(rates, key=lambda rate: over([score(r) for r in rates[rate]]))
            told_runs = rates[rate] if told is None else [told(rates[rate])]
            best[rule] = (rate, statistics.mean(r.test for r in told_runs))
        return best

    return report


def test_report_passes():
    for answer in (reporter(), reporter(over=statistics.fmean), reporter(over=sum)):
        verdict = checks.check_report(answer)
        assert verdict, verdict.message


def one_for_all(runs):
    rates = defaultdict(list)
    for run in runs:
        rates[run.learning_rate].append(run.held_out)
    rate = max(rates, key=lambda rate: statistics.mean(rates[rate]))
    return reporter()([run for run in runs if run.learning_rate == rate])


REFUSED[checks.check_report] = [
    (reporter(score=lambda run: run.test), "by the test environment"),
    (reporter(score=lambda run: run.train), "by the training accuracy|by the test environment"),
    (reporter(over=max), "by the best single seed"),
    (one_for_all, "one learning rate for all rules"),
    (reporter(told=lambda runs: max(runs, key=lambda r: r.test)), "with a lucky seed mean has"),
    (reporter(told=lambda runs: runs[0]), "with a lucky seed mean has"),
    (lambda runs: {"mean": 0.1}, "mean has +0.1, expected [+0.01, +0.5]"),
    (lambda runs: {"mean": (0.01,)}, "expected [+0.01, +0.5]"),
    (lambda runs: {}, "expected {rule: (learning rate, test accuracy)} for mean"),
    (lambda runs: None, "expected {rule"),
    (lambda runs: runs[9], "your function raised IndexError"),
    (lambda runs: runs.clear() or reporter()(runs), "expected {rule"),
    ({}, "not a function"),
]


@every_wrong_answer(REFUSED)
def test_a_wrong_answer_is_told_what_is_wrong(check, arguments, words):
    is_refused(check, arguments, words)
