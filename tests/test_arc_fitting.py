"""Fitting a task: the trainer never sees a test output, and the examiner scores it rightly."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import consensus_lib as cl
from course import arc
from course.arc import Pair, Task, cell_loss, encode_pairs

RULES = [cl.Mean(), cl.Consensus(), cl.Consensus(zeros="abstain"), cl.AndMask()]


def recolour(seed):
    """A task of our own: 1 becomes 2, 0 stays; two test pairs of different shapes."""
    rng = np.random.default_rng(seed)
    grids = [rng.integers(0, 2, size=side) for side in ((5, 5), (6, 5), (5, 5), (5, 4), (3, 5))]
    pairs = [Pair(grid, grid * 2) for grid in grids]
    return Task("recolour", tuple(pairs[:-2]), tuple(pairs[-2:]))


def same_run(a, b):
    assert a.loss == b.loss
    assert a.consensus_ratio == b.consensus_ratio
    for ours, theirs in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(a.final.predictions, b.final.predictions, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_trainer_cannot_reach_a_test_output(rule):
    task = arc.load_task("3618c87e")
    wrong = tuple(Pair(pair.input, 9 - pair.output) for pair in task.test)
    known = arc.fit(task, rule, steps=8)
    same_run(known, arc.fit(task.hidden(), rule, steps=8))
    same_run(known, arc.fit(Task(task.id, task.train, wrong), rule, steps=8))


def test_hidden_outputs_give_predictions_but_no_scores():
    history = arc.fit(recolour(0).hidden(), cl.Mean(), steps=2)
    assert [p.shape for p in history.final.predictions] == [(5, 4), (3, 5)]
    assert history.final.scores == ()
    assert not history.final.exact
    assert math.isnan(history.final.loss)
    assert math.isnan(history.final.changed_cell_accuracy)


@pytest.mark.parametrize("rule", RULES[:2], ids=repr)
def test_a_simple_rule_is_learned_and_the_metrics_are_those_of_the_model(rule):
    task = recolour(0)
    history = arc.fit(task, rule, steps=120)
    assert history.loss[-1] < 0.2 < history.loss[0]
    assert history.final.changed_cell_accuracy >= 0.9
    with torch.no_grad():
        losses = [cell_loss(history.model(g.inputs), g.targets) for g in encode_pairs(task.test)]
    assert history.final.loss == pytest.approx(torch.cat(losses).mean().item())
    for metric in ("test_loss", "test_exact", "test_cell_accuracy", "test_changed_cell_accuracy"):
        assert len(getattr(history, metric)) == len(history) == 120


def test_accuracies_are_over_the_cells_of_all_test_pairs():
    task = recolour(1)
    final = arc.fit(task, cl.Mean(), steps=3).final
    right, changed = [], []
    for prediction, pair in zip(final.predictions, task.test, strict=True):
        right += (prediction == pair.output).flatten().tolist()
        changed += (pair.input != pair.output).flatten().tolist()
    assert final.cell_accuracy == pytest.approx(np.mean(right))
    assert final.changed_cell_accuracy == pytest.approx(np.mean(np.array(right)[changed]))


def test_the_history_grows_under_the_eyes_of_on_step_and_speaks_of_the_weights_before_it():
    seen = []

    def watch(history):
        assert history.final is None
        assert history.examination is history.examinations[-1]
        seen.append((history, len(history), history.examination))

    history = arc.fit(recolour(0), cl.Mean(), steps=3, seed=5, on_step=watch)
    assert [(h is history, n) for h, n, _ in seen] == [(True, 1), (True, 2), (True, 3)]
    assert [exam for *_, exam in seen] == history.examinations
    assert history.examination is history.final
    assert history.seed == 5
    assert arc.fit(recolour(0), cl.Mean(), steps=2, seed=5).final.loss == history.test_loss[2]


def test_seeds_pair_the_rules_and_leave_the_random_state_alone():
    state = torch.get_rng_state()
    first = [arc.fit(recolour(0), rule, steps=1, seed=3).loss[0] for rule in RULES]
    assert len(set(first)) == 1
    assert arc.fit(recolour(0), cl.Mean(), steps=1, seed=4).loss[0] != first[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_held_weights_stand_still_where_adam_would_move_them():
    task, moved = recolour(0), {}
    for hold in (False, True):
        now = arc.fit(task, cl.Consensus(), steps=1, hold_masked=hold, weight_decay=0.1)
        start = arc.fit(task, cl.Consensus(), steps=1, hold_masked=hold, stop=lambda history: True)
        changes = [
            (a != b).flatten()
            for a, b in zip(now.model.parameters(), start.model.parameters(), strict=True)
        ]
        moved[hold] = torch.cat(changes).double().mean().item()
        assert start.stopped == "stop"
    assert moved[True] == pytest.approx(now.update_ratio[0], abs=1e-3)
    assert moved[False] > 0.9


def test_unseen_colours_can_start_at_zero():
    plain, zeroed = (
        arc.fit(recolour(0), cl.Mean(), steps=2, zero_unseen=flag) for flag in (False, True)
    )
    assert zeroed.model.layers[0].weight[:, 5].abs().sum() == 0
    assert plain.model.layers[0].weight[:, 5].abs().sum() > 0
    assert plain.loss == pytest.approx(zeroed.loss)


def test_a_run_that_diverges_keeps_what_it_saw():
    with pytest.raises(cl.Diverged, match="step") as caught:
        arc.fit(recolour(0), cl.Mean(), steps=50, optimizer="sgd", learning_rate=1e20)
    history = caught.value.history
    assert len(history.examinations) == len(history) >= 1
    assert history.final is not None
    assert history.stopped == "diverged"


GROWS = Task("grows", (Pair([[1]], [[1, 1]]),), (Pair([[1]], [[1, 1]]),))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "lion"}, "adam.*sgd.*'lion'"),
        ({"voters": "all"}, "pairs.*copies.*'all'"),
        ({"augmentation": "flips"}, "symmetries.*'flips'"),
        ({"device": "gpu"}, "gpu.*'cpu'"),
        ({"device": "cuda:99"}, "cuda:99.*'cpu'"),
        ({"task": GROWS}, "same_size"),
    ],
)
def test_bad_settings_and_tasks_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        arc.fit(**{"task": recolour(0), "rule": cl.Mean()} | settings)


@pytest.mark.cuda
def test_on_a_gpu_a_run_starts_from_the_same_weights():
    runs = [arc.fit(recolour(0), cl.Consensus(), steps=3, device=d) for d in ("cpu", "cuda")]
    assert runs[0].loss == pytest.approx(runs[1].loss, rel=1e-3)


def test_runs_in_several_threads_do_not_disturb_each_other():
    def losses(seed):
        return [arc.fit(recolour(0), cl.Mean(), steps=2, seed=seed).loss for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        together = [*pool.map(losses, range(4))]
    assert together == [losses(seed) for seed in range(4)]
