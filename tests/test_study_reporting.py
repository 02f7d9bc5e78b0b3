"""What is said of the stored rows, on rows made up so that the answer is known."""

import math

import numpy as np
import pandas as pd
import pytest

from course.arc import load_task
from course.study.first_study import study_tasks
from course.study.remarks import copied_cells, observations, rises
from course.study.reporting import (
    CHANGED,
    EXACT,
    LEVEL,
    MEASURES,
    by_pairs,
    compare_at,
    compare_solved,
    finished,
    primary,
    reach,
    rows_at,
    rules_of,
)
from tests.study_rows import columns, rows_of

HALF = [0.5] * 20


def shifted(by, scatter=0.01):
    """20 accuracies that lie by so much above 0.5 on average."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=20)
    return (0.5 + by + scatter * (noise - noise.mean()) / noise.std(ddof=1)).tolist()


def test_margins_are_those_of_the_plan():
    assert (CHANGED.margin, EXACT.margin, LEVEL) == (0.03, 0.02, 0.1)
    assert {CHANGED, EXACT} < set(MEASURES.values())


def test_a_moment_is_one_row_a_run():
    table = columns(mean=HALF)
    for moment, at, value in (("end", "step", 200), (0.3, "loss", 0.3), ("best", "best", math.nan)):
        rows = rows_at(table, moment)
        assert len(rows) == 20 * 2
        assert set(rows["at"]) == {at}
        np.testing.assert_array_equal(rows["value"], value)


def test_only_tasks_with_every_rule_are_finished():
    table = columns(mean=HALF, consensus=HALF[:13])
    assert set(finished(table)["task"]) == set(study_tasks()[:13])
    assert set(finished(table)["rule"]) == {"mean", "consensus"}


def test_rules_come_in_the_order_of_the_plan():
    table = columns(zebra=HALF, abstain=HALF, consensus=HALF, mean=HALF)
    assert rules_of(table) == ["mean", "consensus", "abstain", "zebra"]


def test_rows_of_another_part_join_under_a_name_of_their_own():
    table = pd.concat([columns(mean=HALF), columns(mean=shifted(0.2)).assign(rule="slow mean")])
    (comparison,) = compare_at(table, "end").comparisons
    assert (comparison.rule, comparison.tasks) == ("slow mean", 20)
    assert comparison.difference == pytest.approx(0.2)


def test_each_rule_is_compared_task_by_task():
    table = columns(mean=HALF, consensus=shifted(-0.2), abstain=shifted(0.01))
    found = compare_at(table, "end")
    assert [c.rule for c in found.comparisons] == ["consensus", "abstain"]
    assert [c.difference for c in found.comparisons] == pytest.approx([-0.2, 0.01])
    assert [c.verdict for c in found.comparisons] == ["worse", "equivalent"]
    assert found.tasks == 20
    (row,) = compare_at(table, "end", MEASURES["test loss"], "consensus", ["mean"]).rows()
    assert row["minus consensus"] == pytest.approx(-0.2)
    assert (row["better"], row["worse"]) == (20, 0)  # a loss: less is better


def test_runs_that_do_not_come_to_a_loss_are_left_out_and_counted():
    never = rows_of("AND-mask", HALF, reached=())
    some = rows_of("consensus", HALF[:7]) + [
        row
        for row in rows_of("consensus", HALF, reached=())
        if row["task"] not in study_tasks()[:7]
    ]
    table = pd.DataFrame(rows_of("mean", HALF) + some + never)
    found = compare_at(table, LEVEL)
    assert found.unpaired == ("AND-mask",)
    (row,) = found.rows()
    assert (row["rule"], row["tasks"], row["left out"]) == ("consensus", 7, 13)
    shares = reach(table)
    assert shares["consensus"] == dict.fromkeys((1.0, 0.3, 0.1), 7 / 20)
    assert shares["AND-mask"] == dict.fromkeys((1.0, 0.3, 0.1), 0.0)


def test_nothing_stored_gives_nothing_and_no_error():
    table = columns(mean=HALF).query("rule == 'consensus'")
    assert compare_at(table, "end").comparisons == ()
    assert compare_at(columns(mean=HALF), "end", rules=["consensus"]).unpaired == ("consensus",)
    assert primary(table).verdict == "undecided"


def test_solved_tasks_are_those_that_either_solves():
    mean = [1.0] * 4 + [0.5] * 16
    rule = [0.5] * 2 + [1.0] * 5 + [0.5] * 13
    (comparison,) = compare_solved(columns(mean=mean, consensus=rule), "end").comparisons
    assert comparison.tasks == 7
    assert (comparison.better, comparison.worse, comparison.equal) == (3, 2, 2)
    assert comparison.difference == pytest.approx(1 / 7)


def test_groups_by_pairs_hold_every_task_once():
    scores = np.linspace(-0.2, 0.2, 20)
    found = by_pairs(columns(mean=[0.5] * 20, consensus=(0.5 + scores).tolist()), "end")
    for comparison in found.comparisons:
        own = [
            score
            for task, score in zip(study_tasks(), scores, strict=False)
            if min(5, len(load_task(task).train)) == int(comparison.rule[0])
        ]
        assert comparison.tasks == len(own) == found.asked[comparison.rule]
        assert comparison.difference == pytest.approx(np.mean(own))
    assert sum(c.tasks for c in found.comparisons) == 20


@pytest.mark.parametrize(
    ("end", "level", "verdict"),
    [
        (0.1, -0.1, "supported"),
        (-0.1, 0.1, "supported"),
        (0.01, 0.0, "supported"),  # small, and there: the plan asks for no more
        (0.0, 0.0, "rejected"),
        (-0.1, -0.1, "rejected"),
        (-0.1, None, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_the_verdict_is_the_plans(end, level, verdict):
    rows = rows_of("mean", HALF)
    for at, by in (("step", end), ("loss", level)):
        if by is not None:
            own = rows_of("consensus", shifted(by))
            rows += [row for row in own if row["at"] == at]
    found = primary(pd.DataFrame(rows))
    assert found.verdict == verdict
    assert f"is {verdict}" in repr(found)


def test_a_wide_interval_leaves_it_undecided():
    assert primary(columns(mean=HALF, consensus=shifted(0.0, 0.3))).verdict == "undecided"


def test_the_two_moments_are_corrected_for_each_other():
    found = primary(columns(mean=HALF, consensus=shifted(0.02, 0.04)))
    p = found.end.p_different
    assert found.p_values == pytest.approx((2 * p, 2 * p))


def test_rises_count_where_a_run_still_goes():
    bumpy = rows_of("mean", HALF, losses=(2.0, 1.0, 1.5, 0.5, 0.6))
    fitted = rows_of("consensus", HALF, losses=(2.0, 1.0, 0.001, 0.001, 0.001))
    for row in fitted:
        row["step"] = min(row["step"], 30)
    rounded = rows_of("abstain", HALF, losses=(1.0, 1.00001, 0.5, 0.5, 0.4))
    assert rises(pd.DataFrame(bumpy + fitted + rounded)) == {
        "mean": 0.5,
        "consensus": 0.0,
        "abstain": 0.0,
    }


def test_a_copy_of_the_input_is_scored_over_all_test_pairs():
    two = next(task for task in study_tasks() if len(load_task(task).test) == 2)
    cells = [(p.input == p.output).ravel() for p in load_task(two).test]
    assert copied_cells(two) == pytest.approx(np.concatenate(cells).mean())


def test_observations_are_confirmed_or_not():
    kept = [copied_cells(task) for task in study_tasks()[:20]]
    good = [min(1.0, share + 0.01) for share in kept]
    seen = observations(columns(mean=good, consensus=[share - 0.1 for share in good]))
    assert [o.confirmed for o in seen] == [True] * 5
    assert "0.40 to 0.20, of live weights 0.80 to 0.40" in seen[2].seen
    bad = rows_of("mean", [0.0] * 20)
    bad += rows_of("consensus", [1.0] * 20, losses=(1.0, 2.0, 3.0, 4.0, 5.0))
    for row in bad:
        row["update_ratio"] = 0.0 if row["at"] == "best" else 0.5
        row["consensus_ratio"] = row["step"] / 200
    assert [o.confirmed for o in observations(pd.DataFrame(bad))] == [False] * 5
