"""The verdicts of the two studies, on rows made up for each case."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from course.study.verdicts import ARC, WORLDS, compare, difference, pairs_needed, verdict

WORDS = {
    (0.001, 0.029): "a gain, too small to matter",
    (0.001, 0.03): "supported",
    (0.04, 0.09): "supported",
    (0.0, 0.02): "no gain worth having",
    (0.0, 0.03): "no gain worth having",
    (0.0, 0.0301): "undecided",
    (-0.2, 0.0299): "no gain worth having",
    (-0.2, 0.03): "undecided",
    (-0.2, -0.1): "no gain worth having",
    (-math.inf, math.inf): "undecided",
}


@pytest.mark.parametrize(("interval", "word"), WORDS.items())
def test_each_interval_has_its_word(interval, word):
    assert verdict(*interval) == word


def test_a_narrow_interval_is_never_undecided():
    ends = np.linspace(-0.1, 0.1, 41)
    for low, high in itertools.combinations(ends, 2):
        if (high - low) / 2 <= 0.015:
            assert verdict(low, high) != "undecided"


def rows_of(runs):
    """Rows of worlds from {(rule, held, world): {(at, value): accuracy}}."""
    return pd.DataFrame(
        [
            {"world": world, "rule": rule, "held": held, "at": at, "value": value}
            | {"fresh_changed_accuracy": right, "fresh_kept_accuracy": right}
            for (rule, held, world), looks in runs.items()
            for (at, value), right in looks.items()
        ]
    )


def shifted(shift, worlds=40, spread=0.02):
    """Consensus ahead of the mean by `shift`, at the end and wherever both come to."""
    source = np.random.default_rng(0)
    runs = {}
    for world in range(worlds):
        base, luck = source.uniform(0.5, 0.8), source.normal(0, spread)
        runs["mean", 0, world] = {("loss", 0.1): base, ("step", 2000): base}
        better = base + shift + luck
        runs["consensus", 0, world] = {("loss", 0.1): better, ("step", 2000): better}
    return rows_of(runs)


@pytest.mark.parametrize(
    ("shift", "spread", "word"),
    [
        (0.1, 0.02, "supported"),
        (0.012, 0.02, "a gain, too small to matter"),
        (0.0, 0.01, "no gain worth having"),
        (-0.1, 0.02, "no gain worth having"),
        (0.02, 0.3, "undecided"),
    ],
)
@pytest.mark.parametrize("moment", ["end", "common", 0.1])
def test_made_up_rows_get_the_verdict_they_were_made_for(shift, spread, word, moment):
    found = difference(shifted(shift, spread=spread), "consensus", "mean", moment, WORLDS)
    assert verdict(*found.interval) == word
    assert len(found.by_unit) == 40


def test_the_lowest_level_is_that_which_both_runs_reach():
    levels = {0.5: 0.1, 0.1: 0.2, 0.05: 0.3}
    runs = {
        ("mean", 0, 0): {("loss", level): right for level, right in levels.items()},
        ("consensus", 0, 0): {("loss", 0.5): 0.4, ("loss", 0.1): 0.6},
        ("mean", 0, 1): {("loss", 0.5): 0.7},
        ("consensus", 0, 1): {("loss", level): 1.0 for level in levels},
        ("mean", 0, 2): {("loss", 0.5): 0.7},
        ("consensus", 0, 2): {("step", 2000): 0.7},
    }
    found = difference(rows_of(runs), "consensus", "mean", "common", WORLDS)
    assert found.by_unit.to_dict() == pytest.approx({0: 0.4, 1: 0.3})
    assert found.left_out == 1
    assert found.flagged == 0.5  # world 1 is compared at 0.5, above what says much


def test_folds_and_seeds_are_averaged_within_a_task_and_paired():
    changed = {
        ("mean", "a", 0, 1): 0.2,
        ("consensus", "a", 0, 1): 0.4,
        ("mean", "a", 1, 1): 0.2,
        ("consensus", "a", 1, 1): 0.8,
        ("mean", "a", 1, 2): 0.9,  # no partner
        ("mean", "b", 0, 1): 0.5,
        ("consensus", "b", 0, 1): 0.4,
    }
    rows = pd.DataFrame(
        [
            {"task": task, "fold": fold, "seed": seed, "rule": rule, "held": 0}
            | {"at": "loss", "value": 0.1, "test_changed_accuracy": right}
            for (rule, task, fold, seed), right in changed.items()
        ]
    )
    found = difference(rows, "consensus", "mean", 0.1, ARC)
    assert found.by_unit.to_dict() == pytest.approx({"a": 0.4, "b": -0.1})
    assert found.mean == pytest.approx(0.15)


def test_two_settings_of_a_contender_are_not_mixed():
    rows = shifted(0.1, worlds=8)
    with pytest.raises(ValueError, match="choose one cell"):
        difference(pd.concat([rows, rows]), "consensus", "mean", "end", WORLDS)


def test_held_is_a_contender_of_its_own():
    rows = shifted(0.1, worlds=8)
    held = rows[rows["rule"] == "consensus"].assign(held=1, fresh_kept_accuracy=0.0)
    table = compare(pd.concat([rows, held]), ["end"], WORLDS)
    assert table["contender"].tolist() == ["consensus", "consensus, held"]
    assert table["minus mean"][0] == pytest.approx(0.1, abs=0.02)
    assert table["minus mean"][1] < 0


def test_pairs_needed_are_read_off_the_curve_of_the_mean():
    counts = [2, 4, 8]
    mean = pd.DataFrame([[0.6, 0.7, 0.9]] * 10, columns=counts)
    for target, needed in {0.5: 2, 0.7: 4, 0.8: math.sqrt(32), 0.9: 8, 0.91: math.inf}.items():
        found = pairs_needed(mean, pd.Series([target] * 10, name=4), draws=20)
        assert found.needed == pytest.approx(needed)
        assert found.low == pytest.approx(needed)
        assert found.high == pytest.approx(needed)


def test_a_dip_in_the_curve_does_not_count_as_a_rise():
    mean = pd.DataFrame([[0.6, 0.8, 0.7, 0.9]] * 6, columns=[2, 3, 4, 8])
    # 0.8 and 0.7 are pooled to 0.75, which three pairs come to
    found = pairs_needed(mean, pd.Series([0.75] * 6, name=2), draws=5)
    assert found.needed == pytest.approx(3)
