"""Pairing, intervals, tests and verdicts of the study against closed forms and simulation."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.study.comparing import compare, pair, scores_of
from course.study.inference import Bootstrap, holm, p_different

MARGIN = 0.125


def scores(differences, rule="consensus", seeds=1):
    """A rule that differs so from a mean that is 0 everywhere."""
    runs = [(f"task {i:03}", seed) for i in range(len(differences)) for seed in range(seeds)]
    values = np.repeat(np.asarray(differences, dtype=float), seeds).tolist()
    return {"mean": dict.fromkeys(runs, 0.0), rule: dict(zip(runs, values, strict=True))}


def verdict(differences, margin=0.05, **how):
    (comparison,) = compare(scores(differences), "mean", margin, **how)
    return comparison.verdict


def normal(tasks, mean, deviation):
    """Draws that have exactly this mean and sample deviation."""
    d = np.random.default_rng(3).normal(size=tasks)
    return mean + deviation * (d - d.mean()) / d.std(ddof=1)


def t_tail(t, freedom):
    """P(T >= t), by summing up Student's density."""
    x = np.linspace(0, abs(t), 20_001)
    logs = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    density = np.exp(logs) / math.sqrt(freedom * math.pi)
    density = density * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    half = np.trapezoid(density, x)
    return 0.5 - half if t > 0 else 0.5 + half


@st.composite
def tables(draw):
    """Two rules on some tasks and seeds, in eighths, so that sums are exact; some are missing."""
    runs = [(f"task {i}", s) for i in range(draw(st.integers(1, 10))) for s in range(2)]
    value = st.one_of(st.integers(0, 8).map(lambda n: n / 8), st.just(math.nan))
    table = {}
    for rule in ("mean", "consensus"):
        values = draw(st.lists(value, min_size=len(runs), max_size=len(runs)))
        table[rule] = dict(zip(runs, values, strict=True)) | {("common", 0): draw(st.just(0.5))}
    return table


def test_a_pair_has_the_same_task_and_the_same_seed():
    nan = math.nan
    rule = {("b", 0): 0.5, ("b", 1): 1.0, ("a", 0): 0.75, ("a", 1): nan, ("c", 3): 1.0, ("d", 0): 1}
    mean = {("a", 1): 0.0, ("a", 0): 0.25, ("b", 1): 0.25, ("b", 0): 0.5, ("c", 0): 0.0}
    mean |= {("e", 0): nan}
    pairs = pair({"rule": rule, "mean": mean}, "rule", "mean")
    assert pairs.tasks == ("a", "b")
    assert pairs.differences.tolist() == [0.5, 0.375]
    assert (pairs.runs, pairs.left_out) == (3, 3)  # c has no common seed, d and e one rule only


def test_columns_become_scores_and_a_run_is_not_counted_twice():
    runs = [*itertools.product(("mean", "consensus"), ("05269061", "b"), (0.0, 1.0))]
    rule, task, seed = map(np.array, zip(*runs, strict=True))
    columns = pd.DataFrame({"rule": rule, "task": task, "seed": seed, "test_exact": seed})
    found = scores_of(columns, "test_exact")
    by_hand = {("05269061", 0): 0.0, ("05269061", 1): 1.0, ("b", 0): 0.0, ("b", 1): 1.0}
    assert found == {"mean": by_hand, "consensus": by_hand}
    twice = pd.concat([columns, columns[-1:]])
    with pytest.raises(ValueError, match="'consensus' has two rows for task b and seed 1"):
        scores_of(twice, "test_exact")


def test_a_third_stored_with_five_digits_is_a_third():
    stored = {0: 0.33333, 1: 0.33333, 2: 0.66667}
    table = {
        "mean": {(f"task {i}", s): 0.33333 for i in range(8) for s in range(3)},
        "consensus": {(f"task {i}", s): v for i in range(8) for s, v in stored.items()},
        "back": {(f"task {i}", s): [0.0, 0.33333, 0.66667][s] for i in range(8) for s in range(3)},
    }
    up, back = compare(table, "mean", 0.05)
    assert (up.better, up.equal) == (8, 0)
    assert (back.better, back.worse, back.equal) == (0, 0, 8)
    assert back.p_different == 1


@given(table=tables())
def test_rules_that_change_places_give_the_opposite(table):
    (one,) = compare(table, "mean", MARGIN)
    (other,) = compare(table, "consensus", MARGIN)
    opposite = {"better": "worse", "worse": "better"}
    assert other.difference == -one.difference
    assert other.verdict == opposite.get(one.verdict, one.verdict)
    assert (other.better, other.worse, other.equal) == (one.worse, one.better, one.equal)
    assert (other.tasks, other.runs, other.left_out) == (one.tasks, one.runs, one.left_out)
    assert other.interval_95 == pytest.approx([-one.interval_95[1], -one.interval_95[0]])
    for kind in ("p_different", "p_equivalent", "p_beyond"):
        assert getattr(other, kind) == pytest.approx(getattr(one, kind))


@given(table=tables())
def test_a_loss_is_an_accuracy_upside_down(table):
    down = {rule: {run: -v for run, v in runs.items()} for rule, runs in table.items()}
    (accuracy,) = compare(table, "mean", MARGIN)
    (loss,) = compare(down, "mean", MARGIN, higher_is_better=False)
    assert loss.verdict == accuracy.verdict
    assert (loss.better, loss.worse, loss.equal) == (
        accuracy.better,
        accuracy.worse,
        accuracy.equal,
    )
    assert loss.difference == -accuracy.difference


@given(table=tables(), order=st.randoms(use_true_random=False))
def test_the_order_of_tasks_and_seeds_is_nothing(table, order):
    shuffled = {}
    for rule, runs in table.items():
        items = list(runs.items())
        order.shuffle(items)
        shuffled[rule] = dict(items)
    assert compare(shuffled, "mean", MARGIN) == compare(table, "mean", MARGIN)


@given(table=tables())
def test_every_task_has_one_vote_however_many_seeds_it_has(table):
    copies = {
        rule: runs | {(task, seed + 2): v for (task, seed), v in runs.items()}
        for rule, runs in table.items()
    }
    (once,) = compare(table, "mean", MARGIN)
    (twice,) = compare(copies, "mean", MARGIN)
    assert twice == dataclasses.replace(once, runs=2 * once.runs)


@given(
    values=st.lists(st.integers(-8, 8), min_size=6, max_size=20),
    shift=st.integers(-80, 80).map(lambda n: n / 8),
)
def test_a_shift_of_every_task_shifts_the_interval(values, shift):
    d = np.array(values) / 8
    moved = Bootstrap(d + shift).interval(0.95)
    assert moved == pytest.approx([bound + shift for bound in Bootstrap(d).interval(0.95)])


@given(
    values=st.lists(st.integers(-8, 8), min_size=6, max_size=20).filter(lambda v: len(set(v)) > 1),
    margin=st.floats(0.05, 1),
)
def test_p_values_agree_with_the_intervals(values, margin):
    mean = Bootstrap(np.array(values) / 8)
    for p, level, apart in [
        (mean.p_equivalent(margin), 0.90, lambda low, high: -margin < low and high < margin),
        (mean.p_beyond(margin), 0.95, lambda low, high: low > margin or high < -margin),
    ]:
        if abs(p - 0.05) > 0.005:  # a p-value counts draws, an interval lies between two
            assert apart(*mean.interval(level)) == (p < 0.05)


@pytest.mark.parametrize(
    ("tasks", "t_95", "t_90"),  # quantiles of Student's t as printed in any table
    [(6, 2.571, 2.015), (11, 2.228, 1.812), (12, 2.201, 1.796), (31, 2.042, 1.697)],
)
def test_on_normal_differences_it_is_the_interval_of_student(tasks, t_95, t_90):
    d = normal(tasks, mean=0.3, deviation=1.0)
    for level, t in [(0.95, t_95), (0.90, t_90)]:
        half = t / math.sqrt(tasks)
        low, high = Bootstrap(d).interval(level)
        assert (low + high) / 2 == pytest.approx(0.3, abs=0.15 * half)
        assert (high - low) / 2 == pytest.approx(half, rel=0.08)


@pytest.mark.parametrize("tasks", [12, 31, 262])
@pytest.mark.parametrize("mean", [0.0, 0.04, 0.2])
def test_on_normal_differences_the_p_values_are_those_of_student(tasks, mean):
    d = normal(tasks, mean, deviation=0.2)
    scale = 0.2 / math.sqrt(tasks)
    lower = t_tail((mean + 0.1) / scale, tasks - 1)
    upper = t_tail((0.1 - mean) / scale, tasks - 1)
    assert Bootstrap(d).p_equivalent(0.1) == pytest.approx(max(lower, upper), rel=0.2, abs=0.003)
    beyond = min(1, 2 * min(1 - lower, 1 - upper))
    assert Bootstrap(d).p_beyond(0.1) == pytest.approx(beyond, rel=0.2, abs=0.003)
    two_sided = 2 * t_tail(mean / scale, tasks - 1)
    assert p_different(d) == pytest.approx(two_sided, rel=0.1, abs=0.01)


def a_few_differ(rng, tasks):
    """Fifths of accuracy on a third of the tasks, more often up than down; mean 0.4 / 3."""
    values = rng.choice([-0.4, 0.4, 0.4, 0.8, 0.8], size=tasks)
    return values * (rng.random(tasks) < 1 / 3)


@pytest.mark.parametrize(
    ("draw", "tasks", "truth"),
    [
        pytest.param(lambda rng, n: rng.normal(size=n), 10, 0.0, id="normal, few tasks"),
        pytest.param(lambda rng, n: rng.exponential(size=n), 60, 1.0, id="skew"),
        pytest.param(a_few_differ, 60, 0.4 / 3, id="a few tasks differ"),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(draw, tasks, truth):
    rng = np.random.default_rng(0)
    intervals = [Bootstrap(draw(rng, tasks), seed).interval(0.95) for seed in range(400)]
    held = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.92 <= held <= 0.98  # 0.95 and three standard errors of 400 studies


def test_equivalence_is_found_falsely_in_one_study_of_twenty():
    rng = np.random.default_rng(0)
    at_the_margin = [rng.normal(0.05, 0.1, size=30) for _ in range(400)]
    found = np.mean([Bootstrap(d).p_equivalent(0.05) < 0.05 for d in at_the_margin])
    assert 0.02 <= found <= 0.085


@pytest.mark.parametrize(
    "d",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [0.2, -0.1, 0.4, 0.0, 0.3, 0.2, -0.4],
        [0.0] * 7,
        normal(11, mean=0.5, deviation=1.0).tolist(),
    ],
    ids=["all up", "ties and a zero", "no difference", "normal"],
)
def test_sign_flips_are_those_of_all_signs(d):
    sums = [abs(np.dot(s, d)) for s in itertools.product((-1, 1), repeat=len(d))]
    exact = np.mean([s >= abs(sum(d)) - 1e-9 for s in sums])
    assert p_different(np.array(d)) == pytest.approx(exact, abs=0.02)


def test_the_example_of_holm_by_hand():
    # in order: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be less than 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3]) == pytest.approx([0.3])
    assert holm([0.9, 0.6]) == pytest.approx([1.0, 1.0])


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=8), level=st.floats(0.01, 0.5))
def test_holm_rejects_from_the_least_on_until_one_stays(p, level):
    rejected = set()
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - k) >= level:
            break
        rejected.add(i)
    assert {i for i, adjusted in enumerate(holm(p)) if adjusted < level} == rejected


def test_each_verdict_can_be_had():
    assert verdict(normal(60, mean=0.0, deviation=0.05)) == "equivalent"
    assert verdict(normal(60, mean=0.02, deviation=0.02)) == "equivalent"
    assert verdict(normal(60, mean=0.2, deviation=0.2)) == "better"
    assert verdict(normal(60, mean=-0.2, deviation=0.2)) == "worse"
    assert verdict(normal(60, mean=0.2, deviation=0.2), higher_is_better=False) == "worse"
    assert verdict(normal(60, mean=0.06, deviation=0.1)) == "different"
    assert verdict(normal(60, mean=0.0, deviation=0.5)) == "undecided"


def test_a_difference_below_the_margin_is_equivalent_and_real():
    (small,) = compare(scores(normal(60, mean=0.02, deviation=0.02)), "mean", 0.05)
    assert small.verdict == "equivalent"
    assert small.p_different < 0.001


def test_where_no_task_differs_the_number_of_tasks_decides():
    assert verdict([0.0] * 262, margin=0.02) == "equivalent"
    assert verdict([0.0] * 12, margin=0.02) == "undecided"
    assert Bootstrap(np.zeros(12)).p_equivalent(0.02) == pytest.approx(0.98**12)
    assert Bootstrap(np.full(12, 0.5)).p_equivalent(0.5) == 1.0


@pytest.mark.parametrize("tasks", range(1, 6))
def test_a_handful_of_tasks_says_nothing(tasks):
    (one,) = compare(scores([0.9] * tasks), "mean", 0.05)
    assert one.verdict == "undecided"
    assert one.interval_95 == (-math.inf, math.inf)
    assert (one.difference, one.better, one.tasks) == (pytest.approx(0.9), tasks, tasks)


def test_more_rules_need_more_evidence():
    table = scores(normal(20, mean=0.05, deviation=0.1))
    for i, mean in enumerate([0.0, 0.03, 0.1, 0.2, 0.0, 0.0, 0.0]):
        table |= {f"rule {i}": scores(normal(20, mean, deviation=0.1))["consensus"]}
    among = compare(table, "mean", 0.04)
    assert [c.rule for c in among] == [rule for rule in table if rule != "mean"]
    pairs = [{"mean": table["mean"], c.rule: table[c.rule]} for c in among]
    alone = [compare(two, "mean", 0.04)[0] for two in pairs]
    for kind in ("p_different", "p_equivalent", "p_beyond"):
        adjusted = holm([getattr(c, kind) for c in alone])
        assert [getattr(c, kind) for c in among] == pytest.approx(adjusted.tolist())
    assert (alone[0].verdict, among[0].verdict) == ("different", "undecided")
    assert (alone[4].verdict, among[4].verdict) == ("better", "better")
    assert among[0].interval_95 == alone[0].interval_95
    assert alone[0].interval_95[0] < alone[0].interval_90[0] < alone[0].interval_90[1]


def test_a_comparison_is_a_row_of_a_table():
    (comparison,) = compare(scores([0.25] * 10 + [0.0] * 5 + [-0.25], seeds=2), "mean", 0.05)
    row = comparison.row()
    assert row["minus mean"] == pytest.approx(2.25 / 16)
    assert (row["tasks"], row["better"], row["worse"], row["equal"]) == (16, 10, 1, 5)
    assert row["verdict"] == comparison.verdict
    low, high = comparison.interval_95
    assert row["95 % interval"] == f"[{low:+.3f}, {high:+.3f}]"


def test_what_cannot_be_paired_is_named_with_the_cure():
    table = {
        "mean": {("a", 0): 0.5, ("a", 1): 0.5},
        "elsewhere": {("b", 0): 0.5},
        "late": {("a", 2): 0.5, ("a", 3): 0.5},
        "never": {("a", 0): math.nan},
        "broken": {("a", 0): math.inf},
    }
    for rule, message in {
        "elsewhere": "'elsewhere' and 'mean' have no task in common: run both on the same tasks",
        "late": r"'late' \(seeds 2, 3\) and 'mean' \(seeds 0, 1\) .* with the same seeds",
        "never": "'never' has no number on any task.*: leave it out, or compare where",
        "broken": "'broken' is inf on task a with seed 0: say nan",
    }.items():
        with pytest.raises(ValueError, match=message):
            pair(table, rule, "mean")
        with pytest.raises(ValueError, match=message):
            compare({"mean": table["mean"], rule: table[rule]}, "mean", 0.05)


def test_what_cannot_be_compared_is_refused():
    table = scores([0.0, 0.1])
    with pytest.raises(ValueError, match="no baseline 'average' among the rules 'mean', 'cons"):
        compare(table, "average", 0.05)
    with pytest.raises(ValueError, match="no rule to compare with 'mean'"):
        compare({"mean": table["mean"]}, "mean", 0.05)
    for margin in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin is a positive number"):
            compare(table, "mean", margin)
    for bad in ([], [[0.0]], [0.0, math.nan]):
        with pytest.raises(ValueError, match="finite numbers"):
            Bootstrap(np.array(bad))
