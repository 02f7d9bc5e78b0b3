"""The checks of notebook 05: which shortcuts survive, codes that block them, an honest choice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from course.checks.verdict import Case, Verdict, asked, check_function, not_yet, right, shown

__all__ = ["check_blocking", "check_report", "check_survival"]

FEWEST, BLOCKED = 2, 5


@dataclass(frozen=True)
class Run:
    """A run as the student's function sees it: its settings, and accuracies at the end."""

    rule: str
    learning_rate: float
    seed: int
    train: float
    held_out: float
    test: float


def check_survival(function: Callable[[int, int], float]) -> Verdict:
    """Is function(environments, shortcuts) the probability that at least one shortcut survives?

    A shortcut has a sign in each environment, by the flip of a coin. It survives if all of them
    are alike.
    """
    pairs = [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (4, 8), (8, 16), (12, 8), (5, 100)]
    cases = [Case(pair, _survival(*pair)) for pair in pairs]
    praise = "so you know how many environments a world needs, and that it can still be unlucky."
    return check_function(function, cases, _nudge_survival, praise)


def _survival(environments: int, shortcuts: int) -> float:
    return 1 - (1 - 2.0 ** (1 - environments)) ** shortcuts


def _nudge_survival(case: Case, got: float) -> str:
    environments, shortcuts = case.arguments
    one = 2.0 ** (1 - environments)
    told = {
        one: "That is the probability for one given shortcut.",
        shortcuts * one: "That is how many survive on average: it can be larger than 1.",
        (1 - one) ** shortcuts: "That is the probability that none survives.",
        one**shortcuts: "That is the probability that all survive.",
        1 - (1 - one / 2) ** shortcuts: "All signs can be alike in two ways: all + and all -.",
    }
    close = (words for other, words in told.items() if math.isclose(got, other, abs_tol=1e-9))
    return next(close, f"A given shortcut survives with probability {one:g}. And one of several?")


def check_blocking(codes: Sequence[Sequence[float]] | Tensor) -> Verdict:
    """Do these codes (E, 5) of +1 and -1 leave no shortcut alike everywhere, with the least E?"""
    try:
        table = torch.as_tensor(codes, dtype=torch.float64)
        fits = table.dim() == 2 and len(table) > 0 and table.shape[1] == BLOCKED
        fits = fits and bool((table.abs() == 1).all())
    except Exception:
        fits = False
    if not fits:
        return not_yet(f"expected a list for each environment, of {BLOCKED} numbers +1 or -1.")
    alike = (table == table[0]).all(dim=0).nonzero().flatten()
    if len(alike):
        return not_yet(
            f"shortcut {int(alike[0]) + 1} has the same sign in all {len(table)} environments: "
            "to the voters it looks like the invariant feature."
        )
    if len(table) > FEWEST:
        return not_yet(f"no shortcut survives {len(table)} environments. It can be done with less.")
    return right("two environments are enough, if they differ in everything that may not be used.")


Report = Mapping[str, tuple[float, float]]


def check_report(function: Callable[[list[Run]], Report]) -> Verdict:
    """Does function(runs) say for each rule (chosen learning rate, mean test accuracy there)?

    Chosen is the learning rate with the best mean held-out accuracy over the seeds; all runs
    have the same weight decay.
    """
    for what, runs, hints in _TABLES:
        expected = _report(runs)
        got = asked(function, list(runs), about=what)
        if isinstance(got, Verdict):
            return got
        if fault := _fault(got, expected):
            other = (words for words, way in hints.items() if not _fault(got, way(runs)))
            return not_yet(f"{what} {fault} {next(other, '')}".rstrip())
    return right("chosen on held-out environments, for each rule by itself, over all seeds.")


def _fault(got: Any, expected: Report) -> str:
    if not isinstance(got, Mapping) or set(got) != set(expected):
        return f"expected {{rule: (learning rate, test accuracy)}} for {', '.join(expected)}."
    for rule, wanted in expected.items():
        try:
            numbers = tuple(map(float, got[rule]))
        except Exception:
            numbers = ()
        close = (math.isclose(a, b, abs_tol=1e-6) for a, b in zip(numbers, wanted, strict=False))
        if len(numbers) != len(wanted) or not all(close):
            return f"{rule} has {shown(got[rule])}, expected {shown(wanted)}."
    return ""


def _report(
    runs: Iterable[Run],
    score: Callable[[Run], float] = lambda run: run.held_out,
    over: Callable[[Iterable[float]], float] = mean,
) -> Report:
    """The report for another way of choosing: by another score, or not over the mean of seeds."""
    by_rule: dict[str, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_rule[run.rule][run.learning_rate].append(run)
    found = {}
    for rule, table in by_rule.items():
        rate = max(table, key=lambda rate: over(score(run) for run in table[rate]))
        found[rule] = (rate, mean(run.test for run in table[rate]))
    return found


def _one_for_all(runs: Iterable[Run]) -> Report:
    runs = list(runs)
    everyone = _report(replace(run, rule="") for run in runs)[""][0]
    return _report(run for run in runs if run.learning_rate == everyone)


def _table(rows: Mapping[tuple[str, float], Sequence[tuple[float, float]]]) -> list[Run]:
    """Runs by (rule, learning rate), a (held-out, test) accuracy a seed; 0.3 trains best."""
    return [
        Run(rule, rate, seed, 0.9 + rate / 3, held_out, test)
        for (rule, rate), seeds in rows.items()
        for seed, (held_out, test) in enumerate(seeds)
    ]


_BY_TEST = "You chose by the test environment: then its accuracy is no longer a test."
_BY_TRAINING = "You chose by the training accuracy: there the shortcuts shine."
_BEST_SEED = "You chose by the best single seed: one lucky seed is not a setting."
_SHARED = "You chose one learning rate for all rules: each has its own scale."
_HINTS: Mapping[str, Callable[[Iterable[Run]], Report]] = {
    _BY_TEST: lambda runs: _report(runs, score=lambda run: run.test),
    _BY_TRAINING: lambda runs: _report(runs, score=lambda run: run.train),
    _BEST_SEED: lambda runs: _report(runs, over=max),
    _SHARED: _one_for_all,
}
_TABLES = (
    (
        "with one rule and one seed",
        _table({("mean", 0.1): [(0.5, 0.9)], ("mean", 0.01): [(0.6, 0.5)]}),
        _HINTS,
    ),
    (
        "with a lucky seed",
        _table(
            {
                ("mean", 0.1): [(0.9, 0.2), (0.4, 0.3), (0.4, 0.4)],
                ("mean", 0.01): [(0.6, 0.5), (0.7, 0.6), (0.6, 0.7)],
                ("mean", 0.3): [(0.5, 0.3), (0.5, 0.5), (0.5, 0.5)],
            }
        ),
        _HINTS,
    ),
    (
        "with two rules",
        _table(
            {
                ("mean", 0.1): [(0.4, 0.5), (0.5, 0.4)],
                ("mean", 0.01): [(0.6, 0.5), (0.6, 0.6)],
                ("mean", 0.3): [(0.3, 0.2), (0.3, 0.2)],
                ("consensus", 0.1): [(0.9, 0.8), (0.8, 0.9)],
                ("consensus", 0.01): [(0.5, 0.5), (0.6, 0.6)],
                ("consensus", 0.3): [(0.5, 0.5), (0.5, 0.5)],
            }
        ),
        _HINTS,
    ),
)
