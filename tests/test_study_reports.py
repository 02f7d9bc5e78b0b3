"""The report over made-up rows, from which what it says is known."""

import numpy as np
import pandas as pd
import pytest

from course.study import arc_folds, small_worlds
from course.study.reports import by_pairs, look_back, needed, primaries, report, whole_seeds
from course.study.verdicts import verdict

TASKS = arc_folds.study_tasks()
SETTING = {"learning_rate": 0.001, "weight_decay": 1.0, "optimizer": "adamw"}
PARTS = {part.name for part in (*small_worlds.PARTS, *arc_folds.PARTS)}


def worlds(pairs, mean, consensus, count=24):
    """Accuracies that differ by a little from world to world, alike for both rules."""
    rows = []
    for number in range(count):
        own = 0.01 * (-1) ** number
        for rule, right in (("mean", mean), ("consensus", consensus)):
            row = SETTING | {"world": number, "family": "line", "rule": rule, "held": 0}
            row |= {"pairs": pairs, "cued": 0, "density": 0.3, "width": 32, "depth": 3}
            row |= dict.fromkeys(("served_update", "accident_update", "accident_weight"), 0.5)
            for at, value, watched in (("loss", 0.05, 0.1), ("step", 2000, 0.2)):
                seen = right + own - (0.1 if at == "loss" else 0)
                rows.append(
                    row
                    | {"at": at, "value": value, "watched_loss": watched}
                    | {"fresh_changed_accuracy": seen, "fresh_kept_accuracy": seen}
                )
    return rows


def arc(tasks, seeds, gain):
    return [
        SETTING
        | {"task": task, "fold": fold, "seed": seed, "depth": 3, "rule": rule, "held": 0}
        | {"at": "loss", "value": 0.1, "train_loss": 0.1}
        | {"test_changed_accuracy": 0.5 + (gain(task) if rule == "consensus" else 0)}
        for task in tasks
        for fold in arc_folds.folds(task)
        for seed in seeds
        for rule in ("mean", "consensus")
    ]


def stored(**parts):
    frames = {name.replace("_", "-"): pd.DataFrame(rows) for name, rows in parts.items()}
    columns = {
        part: list(small_worlds.COLUMNS if part.startswith("worlds") else arc_folds.COLUMNS)
        for part in PARTS
    }
    return lambda part: frames.get(part, pd.DataFrame(columns=columns[part]))


def test_worlds_are_decided_by_the_last_step_and_tuning_is_not_reported():
    tuning = pd.DataFrame(worlds(4, 0.9, 0.1)).assign(world=lambda own: own["world"] % 16 + 1000)
    rows = stored(worlds=worlds(4, 0.6, 0.7) + tuning.drop_duplicates().to_dict("records"))
    end, common = primaries(rows, "worlds")
    assert end.mean == common.mean == pytest.approx(0.1)
    assert len(end.by_unit) == 24
    assert verdict(*end.interval) == "supported"
    assert any("supported" in line for line in report(rows))


def test_pairs_are_counted_with_the_one_that_is_watched():
    rows = stored(worlds=worlds(4, 0.7, 0.75), worlds_pairs=worlds(8, 0.8, 0.9))
    table = by_pairs(rows)
    assert table["mean", "end"].to_dict() == pytest.approx(
        {4: 0.7, 5: np.nan, 8: 0.8, 9: np.nan}, nan_ok=True
    )
    assert table["mean", "stopped"].dropna().to_dict() == pytest.approx({5: 0.6, 9: 0.7})
    four, eight = needed(rows)
    assert (four.pairs, four.needed) == (4, pytest.approx(32**0.5))
    assert (eight.pairs, eight.needed) == (8, np.inf)


def test_on_arc_only_whole_seeds_decide_once_there_is_one():
    def nothing(task):
        return 0.0

    def much(task):
        return 0.3

    whole, part = arc(TASKS, [3000], nothing), arc(TASKS[:20], [3001], much)
    assert set(whole_seeds(pd.DataFrame(whole + part))["seed"]) == {3000}
    assert primaries(stored(arc=whole + part), "arc")[0].mean == 0
    assert primaries(stored(arc=part), "arc")[0].mean == pytest.approx(0.3)


def test_the_look_back_compares_expressible_tasks_with_the_others():
    able = set(TASKS[:30])
    rows = arc(TASKS[:80], [3000], lambda task: 0.2 if task in able else 0.05)
    together = [
        {"task": task, "train_loss": loss}
        for task in TASKS[:80]
        for loss in (2.0, 0.02 if task in able else 0.3)
    ]
    line = look_back(stored(arc=rows, arc_together=together))
    assert line.startswith("30 of 80 tasks are expressible; consensus minus mean +0.200 on 30")
    assert "+0.150" in line


def test_with_no_rows_there_is_nothing_to_report():
    assert list(report(stored())) == []
