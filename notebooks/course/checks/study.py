"""The checks of notebook 08: a difference with its error, a verdict, and a rule of one's own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from course.arc import load_task
from course.checks.tensors import kind, said
from course.checks.verdict import Verdict, as_number, not_yet, right, shown
from course.study.first_study import BUDGET, MAIN, method_of, study_tasks
from course.study.networks import Architecture
from course.study.reporting import CHANGED, LEVEL, Primary, primary
from course.study.store import select
from course.study.training import Budget, Reduce, Row, Run, Training

__all__ = ["check_own_rule", "check_paired_difference", "check_verdict", "small_tasks"]

Runs = Mapping[tuple[str, int], float]
"""{(task, seed): accuracy}."""

_OWN = "your rule"
_MEAN_RATE = 0.01  # chosen on the tuning tasks


def check_paired_difference(function: Callable[[Runs, Runs], tuple[float, float]]) -> Verdict:
    """Is function(rule, mean) the mean difference over tasks, and its standard error?

    Both are {(task, seed): accuracy}. Only runs that both have count; the seeds of a task are
    averaged first. The error is the sample deviation of the tasks' differences over sqrt(T).
    """
    if not callable(function):
        return not_yet(f"this is {shown(function)}, not a function: pass the name without ().")
    for about, rule, mean in _TABLES:
        wanted = _mean_and_error(_by_task(rule, mean))
        try:
            answer = function(dict(rule), dict(mean))
            got = [as_number(number) for number in answer]
        except Exception as error:
            return not_yet(f"with {about} your function raised {said(error)}.")
        if len(got) != 2 or None in got:
            return not_yet(f"with {about} it returned {shown(answer)}: expected two numbers.")
        if not np.allclose(got, wanted, rtol=1e-6, atol=1e-9):
            hint = _paired_hint(got, rule, mean)
            return not_yet(
                f"with {about} it returned {shown(got)}, expected {shown(list(wanted))}. {hint}"
            )
    return right("runs are paired by task and seed, and the task is the unit.")


_TABLES: tuple[tuple[str, Runs, Runs], ...] = (
    (
        "three tasks of one seed",
        {("a", 0): 0.5, ("b", 0): 0.75, ("c", 0): 1.0},
        {("a", 0): 0.25, ("b", 0): 0.5, ("c", 0): 0.5},
    ),
    (
        "three tasks of two seeds",
        {(t, s): v + 0.25 * s for t, v in {"a": 0.0, "b": 0.5, "c": 0.25}.items() for s in (0, 1)},
        {(t, s): v for t, v in {"a": 0.5, "b": 0.5, "c": 0.0}.items() for s in (0, 1)},
    ),
    (
        "a task with more seeds than the others",
        {("a", s): 1.0 for s in range(4)} | {("b", 0): 0.0, ("c", 0): 0.25},
        {("a", s): 0.25 for s in range(4)} | {("b", 0): 0.5, ("c", 0): 0.25},
    ),
    (
        "runs that only one of the two has",
        {("a", 0): 0.5, ("a", 1): 1.0, ("b", 0): 0.75, ("c", 0): 0.0, ("d", 1): 1.0},
        {("a", 0): 0.25, ("b", 0): 0.75, ("b", 1): 0.0, ("c", 0): 0.5, ("e", 0): 0.0},
    ),
)


def _by_task(rule: Runs, mean: Runs) -> list[float]:
    by_task = defaultdict(list)
    for task, seed in sorted(rule.keys() & mean.keys()):
        by_task[task].append(rule[task, seed] - mean[task, seed])
    return [sum(by_seed) / len(by_seed) for by_seed in by_task.values()]


def _mean_and_error(units: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(units)), float(np.std(units, ddof=1) / math.sqrt(len(units)))


def _paired_hint(got: Sequence[float], rule: Runs, mean: Runs) -> str:
    units = _by_task(rule, mean)
    pooled = [rule[run] - mean[run] for run in rule.keys() & mean.keys()]
    own, other = np.array([*rule.values()]), np.array([*mean.values()])
    apart = own.mean() - other.mean()
    unpaired = math.sqrt(sum(v.var(ddof=1) / len(v) for v in (own, other)))
    deviation = float(np.std(units, ddof=1))
    told = [
        ("Five seeds of one task are not five tasks: average them first.", _mean_and_error(pooled)),
        ("The difference of two means is not paired.", (apart, unpaired)),
        ("Subtract the mean's accuracy from the rule's.", (-np.mean(units), got[1])),
        ("That is the deviation; the error of a mean is smaller by sqrt(T).", (got[0], deviation)),
        (
            "A sample of T tasks leaves T - 1 degrees of freedom.",
            (got[0], np.std(units) / math.sqrt(len(units))),
        ),
    ]
    close = (words for words, other in told if np.allclose(got, other, rtol=1e-6, atol=1e-9))
    return next(close, "Take the runs that both have, and make one number of each task.")


def check_verdict(function: Callable[..., str]) -> Verdict:
    """Does function(interval_95, interval_90, margin) read the intervals as the study does?

    Each interval is (low, high), rule minus mean, higher is better. The answers: "equivalent",
    "better", "worse", "different", "undecided"; `course.study.comparing.Comparison` says
    which is which.
    """
    if not callable(function):
        return not_yet(f"this is {shown(function)}, not a function: pass the name without ().")
    for middle, half, wanted, why in _READINGS:
        wide, narrow = (
            (round(middle - width, 4), round(middle + width, 4)) for width in (half, 0.84 * half)
        )
        call = f"with {list(wide)} (90 %: {list(narrow)}) and a margin of {_MARGIN}"
        try:
            got = function(wide, narrow, _MARGIN)
        except Exception as error:
            return not_yet(f"{call} your function raised {said(error)}.")
        if got != wanted:
            return not_yet(f"{call} it returned {shown(got)}, expected {shown(wanted)}. {why}")
    return right("so an interval that holds 0 is no proof of equality, and one without 0 may be.")


_MARGIN = 0.03
_READINGS = (
    (0.0, 0.01, "equivalent", "All that is plausible is smaller than the margin."),
    (0.01, 0.06, "undecided", "0 is in it, and so is a difference twice the margin."),
    (0.10, 0.02, "better", "All that is plausible is above the margin."),
    (-0.10, 0.02, "worse", "All that is plausible is below minus the margin."),
    (0.04, 0.02, "different", "It is not 0, and it may lie on either side of the margin."),
    (-0.04, 0.02, "different", "It is not 0, and it may lie on either side of the margin."),
    (0.012, 0.008, "equivalent", "There is a difference, and it is too small to matter."),
    (0.0, 0.034, "equivalent", "Two one-sided tests at 5 % look at the interval of 90 %."),
    (0.0, 0.2, "undecided", "A wide interval says that you know little."),
)


@cache
def small_tasks() -> tuple[str, ...]:
    """The first 12 tasks of the study, in its random order, with at most 100 training cells."""
    cells = {task: sum(p.input.size for p in load_task(task).train) for task in study_tasks()}
    return tuple(task for task, count in cells.items() if count <= 100)[:12]


def check_own_rule(
    rule: Callable[[Tensor], Tensor],
    learning_rate: float = 0.01,
    tasks: Sequence[str] | None = None,
    seeds: tuple[int, ...] = (0, 1),
    steps: int = 200,
) -> Verdict:
    """Put a rule to the study's test, and say what was found: it passes whenever it can be tested.

    Args:
        rule: (N, P) -> (P,); a row of the gradients is an example's, over all P weights.
        learning_rate: of the rule; the mean has 0.01, as in the study.
        tasks: to train on; None for `small_tasks()`.
        seeds: of the first weights, for both rules.
        steps: of each run.
    """
    reduce = getattr(rule, "reduce", rule)
    if not callable(reduce):
        return not_yet(f"this is {shown(rule)}, not a function: pass the name without ().")
    if fault := _fault(reduce):
        return not_yet(fault)
    budget = replace(BUDGET, steps=steps, checkpoints=(0, steps))
    rows = []
    try:
        for task in tasks or small_tasks():
            rows += _trained_by_mean(task, seeds, budget)
            own = _trained(task, seeds, budget, learning_rate, reduce)
            rows += [row | {"task": task, "rule": _OWN} for row in own]
    except Exception as error:
        return not_yet(f"during training your rule raised {said(error)}.")
    moved = [row["update_ratio"] for row in rows if row["rule"] == _OWN]
    if not any(moved):
        return not_yet("on these tasks your rule never moved a weight.")
    columns = pd.DataFrame(rows)
    return right(_finding(primary(columns, _OWN), columns))


def _fault(reduce: Callable[[Tensor], Tensor]) -> str:
    """What is wrong with a rule on some small gradients; "" if nothing is."""
    for seed, shape in enumerate(((3, 7), (2, 1), (5, 40))):
        g = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        given = g.clone()
        try:
            update = reduce(given)
        except Exception as error:
            return f"on gradients {shape} your rule raised {said(error)}."
        if not torch.equal(given, g):
            return "your rule changes the gradients that it is given: work on a copy."
        if not isinstance(update, Tensor) or update.shape != g.shape[1:]:
            return f"on gradients {shape} it returned {kind(update)}, expected ({shape[1]},)."
        if not torch.isfinite(update).all():
            return f"on gradients {shape} the update is not finite: do you divide by 0?"
    return ""


def _guarded(reduce: Callable[[Tensor], Tensor]) -> Reduce:
    """The rule for several networks, (N, S, P) to (S, P), one after another."""

    def reduced(gradients: Tensor) -> Tensor:
        updates = [reduce(own.clone()) for own in gradients.unbind(dim=1)]
        update = torch.stack(updates).detach().to(gradients.dtype)
        if not torch.isfinite(update).all():
            raise ValueError("an update is not finite: do you divide by 0?")
        return update

    return reduced


def _trained(
    task: str,
    seeds: tuple[int, ...],
    budget: Budget,
    learning_rate: float,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> list[Row]:
    torch.set_num_threads(1)  # the networks are small
    pairs = load_task(task)
    method = method_of(MAIN, "mean", learning_rate)
    runs = [Run(method, seed, pairs.train, {"test": pairs.test}) for seed in seeds]
    training = Training(runs, budget, Architecture(), reduce and _guarded(reduce))
    return [
        row | {"seed": seed}
        for seed, rows in zip(seeds, training.train(), strict=True)
        for row in rows
    ]


@cache
def _trained_by_mean(task: str, seeds: tuple[int, ...], budget: Budget) -> list[Row]:
    rows = _trained(task, seeds, budget, _MEAN_RATE)
    return [row | {"task": task, "rule": "mean"} for row in rows]


def _finding(found: Primary, columns: pd.DataFrame) -> str:
    end = select(columns, at="step", value=columns["value"].max()).groupby("rule")["train_loss"]
    losses = ", ".join(f"{rule} {end.median()[rule]:.2g}" for rule in ("mean", _OWN))
    words = {
        "supported": "you have found something: take it to tasks that it has not seen yet.",
        "rejected": f"nothing found: a gain of {CHANGED.margin} is ruled out on tasks like these.",
        "undecided": "these tasks cannot tell: a gain may be there, or none.",
    }
    return (
        f"your rule can be tested. The finding: {words[found.verdict]}\n{found}\n"
        f"training loss at the end, median: {losses} (equal loss is {LEVEL})"
    )
