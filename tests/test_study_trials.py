"""A trial of the study is the run that `course.arc.fit` makes, several seeds at once."""

import math

import pytest
import torch

import consensus_lib as cl
from course import arc
from course.study.plan import Budget, Setting
from course.study.rules import RULES, SCALED_MEAN
from course.study.trials import Trainer, Trial, run_trial

TASK = arc.load_task("4258a5f9")
BUDGET = Budget(steps=6, checkpoints=(0, 3, 6), levels=(2.2, 0.001), fitted=0.0001)
OPTIMIZERS = {
    "held": Setting(width=6, depth=2),
    "plain": Setting(width=6, depth=2, hold_masked=False, weight_decay=0.1),
    "sgd": Setting("sgd", hold_masked=False, weight_decay=0.0, width=6, depth=2),
}


def fitted(rule, setting, seed, rate):
    if isinstance(rule, cl.RandomMask):
        rule = cl.RandomMask(generator=torch.Generator().manual_seed(seed))
    return arc.fit(
        TASK,
        rule,
        steps=BUDGET.steps + 1,
        seed=seed,
        optimizer=setting.optimizer,
        learning_rate=rate,
        weight_decay=setting.weight_decay,
        hold_masked=setting.hold_masked,
        width=setting.width,
        depth=setting.depth,
    )


@pytest.mark.parametrize("setting", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("name", [name for name in RULES if name != SCALED_MEAN])
def test_each_seed_is_the_run_that_fit_makes(name, setting):
    rate = 0.1 if setting.optimizer == "sgd" else 0.003
    rows = run_trial(Trial(TASK, name, setting, rate, (0, 7), BUDGET))
    for seed in (0, 7):
        history = fitted(RULES[name], setting, seed, rate)
        seen = [row for row in rows if row["seed"] == seed and row["at"] == "step"]
        assert [row["step"] for row in seen] == [0, 3, 6]
        for row in seen:
            step, examined = row["step"], history.examinations[row["step"]]
            assert row["train_loss"] == pytest.approx(history.loss[step], rel=1e-3)
            assert row["test_loss"] == pytest.approx(examined.loss, rel=1e-3)
            assert row["test_cell_accuracy"] == pytest.approx(examined.cell_accuracy, abs=0.02)
            # two sums of another order may differ in the sign of a gradient near zero
            for ratio in ("consensus_ratio", "live_consensus_ratio", "update_ratio"):
                assert row[ratio] == pytest.approx(getattr(history, ratio)[step], abs=0.01)


def test_rows_of_levels_and_of_the_best_loss():
    rows = run_trial(Trial(TASK, "mean", Setting(width=6, depth=2), 0.003, (0,), BUDGET))
    history = fitted(cl.Mean(), Setting(width=6, depth=2), 0, 0.003)
    (level,) = [row for row in rows if row["at"] == "loss"]
    assert level["value"] == 2.2
    assert level["step"] == history.first_step_at(2.2)
    (best,) = [row for row in rows if row["at"] == "best"]
    assert math.isnan(best["value"])
    assert best["train_loss"] == pytest.approx(min(history.loss), rel=1e-3)
    assert {row["ended"] for row in rows} == {"budget"}


def test_seeds_do_not_see_each_other():
    def rows(seeds):
        trial = Trial(TASK, "random mask", Setting(width=6, depth=2), 0.01, seeds, BUDGET)
        return [row for row in run_trial(trial) if row["seed"] == 5]

    for alone, beside in zip(rows((5,)), rows((4, 5, 6)), strict=True):
        assert alone["at"] == beside["at"]
        for column in ("step", "train_loss", "test_loss", "update_ratio"):
            assert alone[column] == pytest.approx(beside[column], rel=1e-4)


def test_the_scaled_mean_steps_as_far_as_consensus_along_the_mean():
    setting = Setting("sgd", hold_masked=False, weight_decay=0.0, width=6, depth=2)
    trial = Trial(TASK, SCALED_MEAN, setting, 0.3, (2,), Budget(1, (0, 1), (), 0.0))
    trainer = Trainer(trial)
    before = trainer.stepper.weights.clone()
    _, stack = trainer.networks.gradients()
    mean, consensus = stack.mean(dim=0), cl.Consensus().reduce(stack)
    trainer.train()
    step = trainer.stepper.weights - before
    assert step.norm() == pytest.approx(0.3 * consensus.norm().item(), rel=1e-4)
    assert torch.cosine_similarity(step, -mean).item() == pytest.approx(1, abs=1e-5)


def test_a_run_that_diverges_ends_alone_and_keeps_what_was_seen():
    setting = Setting("sgd", hold_masked=False, weight_decay=0.0, width=6, depth=2)
    rows = run_trial(Trial(TASK, "mean", setting, 1e30, (0, 1), BUDGET))
    assert {row["ended"] for row in rows} == {"diverged"}
    for seed in (0, 1):
        own = [row for row in rows if row["seed"] == seed]
        assert [row["value"] for row in own if row["at"] == "step"] == [0, 3, 6]
        assert all(math.isfinite(row["train_loss"]) for row in own)


def test_a_fitted_run_has_come_to_its_checkpoints():
    budget = Budget(steps=200, checkpoints=(0, 100, 200), levels=(1.0,), fitted=0.5)
    rows = run_trial(Trial(TASK, "mean", Setting(width=8, depth=2), 0.01, (0,), budget))
    assert {row["ended"] for row in rows} == {"fitted"}
    last = [row for row in rows if row["at"] == "step"][-1]
    assert last["value"] == 200
    assert last["step"] < 200
    assert last["train_loss"] <= 0.5
