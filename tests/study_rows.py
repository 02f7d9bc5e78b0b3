"""Rows as the study stores them, made up, for the tests of what is said of them."""

import pandas as pd

from course.study.first_study import study_tasks

STEPS = (0, 10, 30, 100, 200)
LEVELS = (1.0, 0.3, 0.1)


def rows_of(rule, scores, seeds=(0, 1), reached=LEVELS, losses=(2.0, 1.0, 0.5, 0.2, 0.05), **more):
    """The rows of one rule; scores[i] is its accuracy on the i-th task of the study, any seed."""
    rows = []
    for task, score in zip(study_tasks(), scores, strict=False):
        for seed in seeds:
            looks = [("step", v, v, loss) for v, loss in zip(STEPS, losses, strict=True)]
            looks += [("loss", level, 100, level) for level in reached]
            looks += [("best", float("nan"), 200, losses[-1])]
            for at, value, step, loss in looks:
                row = {"task": task, "setting": "held AdamW", "rule": rule, "seed": float(seed)}
                row |= {"at": at, "value": float(value), "step": float(step), "train_loss": loss}
                row |= {"test_changed_accuracy": score, "test_exact": float(score == 1)}
                row |= {"test_cell_accuracy": score, "test_loss": 1 - score}
                ratio = 0.4 if step == 0 else 0.2
                row |= {"consensus_ratio": ratio, "live_consensus_ratio": 2 * ratio}
                row |= {"update_ratio": ratio, "learning_rate": 0.01}
                rows.append(row | more)
    return rows


def columns(**scores):
    """Rows of several rules: columns(mean=[0.5, ...], consensus=[0.25, ...])."""
    return pd.DataFrame([row for rule, values in scores.items() for row in rows_of(rule, values)])
