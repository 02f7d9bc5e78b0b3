"""The spirals: what the inputs tell, who votes, and the store that survives an interruption."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

import consensus_lib as cl
from course.toys import spirals, spirals_study
from course.toys.spirals import Recipe, fit
from course.toys.spirals_study import choose, load, store_missing

TINY = Recipe(environments=3, dimensions=2, examples=8, width=8, steps=6)


def test_points_lie_on_two_spirals_that_differ_by_half_a_turn():
    points, labels = spirals.draw_points(2, 4000, 1.5, torch.Generator().manual_seed(0))
    assert points.shape == (2, 4000, 2)
    torch.testing.assert_close(points.std(dim=(0, 1)), torch.ones(2))
    # Undo the scale: the outermost points have a radius of about 1.
    raw = points / points.norm(dim=-1).max()
    radius, angle = raw.norm(dim=-1), torch.atan2(raw[..., 1], raw[..., 0])
    along = angle - math.pi * labels - 2 * math.pi * 1.5 * radius
    off = torch.remainder(along + math.pi, 2 * math.pi) - math.pi
    assert off.abs().mean() < 0.2  # the radius moves by up to 0.02 after the angle is taken
    assert labels.double().mean() == pytest.approx(0.5, abs=0.03)


def test_a_signature_gives_the_label_away_but_not_in_the_test_environment():
    data = spirals.draw_data(Recipe(), seed=3)
    for inputs, labels in (data.train, data.held_out):
        told = inputs[..., 2:] * (2 * labels - 1).unsqueeze(-1)
        torch.testing.assert_close(told, told[:, :1].expand_as(told))
    inputs, labels = data.test
    assert inputs.shape == (1, 2048, 10)
    by_label = [inputs[labels == label][:, 2:].mean(dim=0) for label in (0, 1)]
    assert (by_label[0] - by_label[1]).abs().max() < 0.2


def test_environments_have_signatures_of_their_own_and_seeds_data_of_their_own():
    data = spirals.draw_data(Recipe(), seed=0)
    rows = torch.cat([part[0][:, 0, 2:].abs() for part in (data.train, data.held_out)])
    assert len(rows.unique(dim=0)) == Recipe().environments + 8
    assert torch.equal(data.test[0], spirals.draw_data(Recipe(), seed=0).test[0])
    assert not torch.equal(data.test[0], spirals.draw_data(Recipe(), seed=1).test[0])


def test_alike_everywhere_counts_signs_of_signatures():
    recipe, counts = Recipe(environments=3, dimensions=6, examples=4), []
    for seed in range(30):
        data = spirals.draw_data(recipe, seed)
        told = [x[0, 2:] * (2 * y[0] - 1) for x, y in zip(*data.train, strict=True)]
        counts.append(int((torch.stack(told).sign().sum(dim=0).abs() == 3).sum()))
        assert spirals.alike_everywhere(data) == counts[-1]
    assert sum(counts) / 30 == pytest.approx(6 * 2.0**-2, abs=0.5)  # the coin-flip floor


def test_the_network_has_he_s_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    network = spirals.make_network(Recipe(width=256, dimensions=30), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    linears = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linears] == [32, 256, 256, 256]
    for layer in linears:
        expected = math.sqrt(2 / layer.in_features)
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.12)
        assert (layer.bias == 0.01).all()
    assert network(torch.zeros(5, 7, 32)).shape == (5, 7, 1)


@pytest.mark.parametrize("rule", [cl.Mean(), cl.Consensus(), cl.AndMask(rescale=True)])
def test_an_environment_as_one_example_votes_as_its_rows_do(rule):
    data = spirals.draw_data(TINY, seed=0)
    inputs, labels = data.train
    one, other = (spirals.make_network(TINY, seed=0) for _ in range(2))

    def by_row(outputs, targets):
        return functional.binary_cross_entropy_with_logits(
            outputs.squeeze(1), targets.float(), reduction="none"
        )

    voters = torch.arange(3).repeat_interleave(8)
    cl.backward(one, by_row, inputs.flatten(0, 1), labels.flatten(), rule, voters)
    report = cl.backward(other, spirals.environment_losses, inputs, labels, rule)
    assert report.voters == 3
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_accuracy_counts_over_all_environments():
    inputs = torch.tensor([[[1.0], [-1.0]], [[2.0], [3.0]]])
    labels = torch.tensor([[1, 0], [1, 0]])
    assert spirals.accuracy(nn.Identity(), inputs, labels) == 0.75


def test_fit_looks_on_the_way_and_at_the_end():
    outcome = fit(TINY, cl.Mean(), 1e-2, every=4)
    assert [step for step, _, _ in outcome.seen] == [0, 4, 6]
    assert outcome.seen[-1][1:] == (outcome.train, outcome.test)
    assert len(outcome.history) == 6
    again = fit(TINY, cl.Mean(), 1e-2, every=6)
    assert again.history.loss == outcome.history.loss, "to look changes nothing"


def test_fit_ends_when_it_is_told_so():
    outcome = fit(TINY, cl.Mean(), 1e-2, every=2, on_look=lambda outcome: len(outcome.seen) == 2)
    assert outcome.history.stopped == "stop"
    assert [step for step, _, _ in outcome.seen] == [0, 2]


def test_fit_tells_of_a_run_that_diverges():
    outcome = fit(TINY, cl.Mean(), float("inf"))
    assert outcome.history.stopped == "diverged"


def test_decay_forgets_masked_weights_and_holding_keeps_them():
    decayed, held = (
        fit(replace(TINY, steps=40), cl.Consensus(), 1e-2, 1e-4, hold_masked=hold)
        for hold in (False, True)
    )
    first = spirals.make_network(TINY, seed=0)
    share = {
        name: sum(
            int((a == b).sum())
            for a, b in zip(o.network.parameters(), first.parameters(), strict=True)
        )
        for name, o in (("decayed", decayed), ("held", held))
    }
    assert share["decayed"] == 0
    assert share["held"] > 0
    norms = [
        sum(float(p.detach().abs().sum()) for p in network.parameters())
        for network in (decayed.network, first)
    ]
    assert norms[0] < norms[1]


def test_choose_looks_at_the_mean_held_out_accuracy_alone():
    rows = [("mean", 0.1, 0.0, 0.9, 0.9), ("mean", 0.1, 0.0, 0.4, 0.9)]
    rows += [("mean", 0.1, 1e-3, 0.7, 0.5)] * 2
    rows += [("consensus", 0.2, 0.0, 0.1, 0.5), ("consensus", 0.3, 0.0, 0.1, 0.9)]
    names = ["rule", "learning_rate", "weight_decay", "held_out", "test"]
    found = choose(pd.DataFrame(rows, columns=names))
    assert found == {"mean": (0.1, 1e-3), "consensus": (0.2, 0.0)}


def test_the_store_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    path, made = tmp_path / "toys" / "spirals.csv", []

    def quick(rule, rate, decay, seed):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append((rule, rate, decay, seed))
        job = {"rule": rule, "learning_rate": rate, "weight_decay": decay, "seed": seed}
        return job | {"ended": "steps", "held_out": 1 / 3}

    jobs = [("mean", 1e-3, 0.0, seed) for seed in range(3)]
    monkeypatch.setattr(spirals_study, "make_run", quick)
    assert len(load(path)) == 0
    with pytest.raises(KeyboardInterrupt):
        store_missing(jobs, path)
    assert load(path)["seed"].tolist() == [0, 1]
    assert load(path)["held_out"][0] == pytest.approx(1 / 3, abs=1e-6)
    made.clear()
    for _ in range(2):
        store_missing(jobs, path)
        assert made == [jobs[2]]
    assert path.read_text().count("rule,") == 1


def test_the_stored_study_is_whole_and_a_run_can_be_made_again():
    stored, jobs = load(), [*spirals_study.plan()]
    columns = ["rule", "learning_rate", "weight_decay", "seed"]
    assert set(stored[columns].itertuples(index=False, name=None)) == set(jobs)
    assert len(stored) == len(jobs)
    # Another CPU rounds otherwise, and rounding grows; on this setting it matters little.
    again = spirals_study.make_run(*jobs[0])
    assert list(again) == list(stored)
    row = stored.iloc[0]
    assert again["loss"] == pytest.approx(row["loss"], rel=0.5)
    for part in ("train", "test"):
        assert again[part] == pytest.approx(row[part], abs=0.05)


def test_the_lots_of_a_random_mask_come_from_the_seed():
    g = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    masks = [spirals_study.make_rule("random mask", seed).reduce(g) for seed in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
