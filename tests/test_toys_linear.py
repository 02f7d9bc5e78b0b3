"""The linear toy: its draws, its losses, and a descent that is training done by hand."""

import pytest
import torch
from torch import nn

import consensus_lib as cl
from course.toys import linear


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def test_codes_are_fair_coins_and_the_shared_ones_are_alike():
    codes = linear.draw_codes((400, 3, 5), source(), shared=2)
    assert codes.shape == (400, 3, 5)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert (codes[..., :2] == 1).all()
    assert codes[..., 2:].mean().abs() < 0.1
    assert torch.equal(codes, linear.draw_codes((400, 3, 5), source(), shared=2))


def test_without_noise_an_example_is_its_target_times_the_code():
    codes = linear.draw_codes((4, 6), source())
    inputs, targets = linear.draw_examples(codes, 10, source(1), noise=0.0, strength=0.5)
    assert inputs.shape == (4, 10, 7)
    assert set(targets.unique().tolist()) == {-1.0, 1.0}
    for e in range(4):
        for i in range(10):
            told = targets[e, i] * torch.cat([torch.tensor([0.5]), codes[e]])
            torch.testing.assert_close(inputs[e, i], told)


def test_noise_and_flipped_targets_have_the_size_that_is_asked_for():
    codes = linear.draw_codes((2, 3), source())
    inputs, targets = linear.draw_examples(codes, 20_000, source(1), noise=0.3, flipped=0.2)
    told = targets.unsqueeze(-1) * inputs
    clean = torch.cat([torch.full((2, 1), linear.STRENGTH), codes], dim=1)
    torch.testing.assert_close(told.mean(dim=1), clean * (1 - 2 * 0.2), atol=0.02, rtol=0)
    agree = (inputs[..., 1] * codes[:, :1] * targets > 0).double().mean()
    assert agree == pytest.approx(0.8, abs=0.01)


def test_mean_loss_is_the_plain_one_of_each_world_and_rate():
    inputs, targets = linear.draw_examples(linear.draw_codes((3, 2, 4), source()), 5, source(1))
    weights = torch.randn(6, 2, 5, generator=source(2), dtype=torch.float64)
    found = linear.mean_loss(weights, inputs, targets)
    assert found.shape == (6, 2)
    for r in range(6):
        for w in range(2):
            x, y = inputs[:, w].flatten(0, 1), targets[:, w].flatten()
            expected = 0.5 * (x @ weights[r, w] - y).square().mean()
            torch.testing.assert_close(found[r, w], expected)


@pytest.mark.parametrize("flipped", [0.0, 0.2])
def test_least_loss_is_that_of_least_squares_on_the_invariant_feature(flipped):
    codes = linear.draw_codes((1, 1), source())
    inputs, targets = linear.draw_examples(codes, 400_000, source(1), flipped=flipped)
    x, y = inputs[0, :, :1], targets[0]
    best = torch.linalg.lstsq(x, y.unsqueeze(1)).solution
    loss = 0.5 * (x @ best - y.unsqueeze(1)).square().mean()
    assert loss.item() == pytest.approx(linear.least_loss(flipped=flipped), abs=5e-3)


@pytest.mark.parametrize("rule", [cl.Mean(), cl.Consensus(), cl.AndMask(), cl.PowerMean(0.0)])
def test_descend_takes_the_steps_of_train(rule):
    inputs, targets = linear.draw_examples(linear.draw_codes((4, 2, 3), source()), 6, source(1))
    rates = torch.tensor([0.05, 0.3], dtype=torch.float64)
    starts = torch.randn(2, 4, generator=source(2), dtype=torch.float64)
    found = linear.descend(inputs, targets, rule, rates, steps=7, starts=starts)
    for r, rate in enumerate(rates.tolist()):
        for world in range(2):
            model = nn.Linear(4, 1, bias=False).double()
            model.weight.data = starts[world].clone().unsqueeze(0)
            cl.train(
                model,
                lambda outputs, y: 0.5 * (outputs.squeeze(1) - y).square(),
                inputs[:, world].flatten(0, 1),
                targets[:, world].flatten(),
                rule,
                torch.optim.SGD(model.parameters(), lr=rate),
                steps=7,
                voters=torch.arange(4).repeat_interleave(6),
            )
            torch.testing.assert_close(found[r, world], model.weight.detach()[0])


def test_a_run_that_diverges_leaves_the_others_alone():
    inputs, targets = linear.draw_examples(linear.draw_codes((3, 2), source()), 5, source(1))
    alone = linear.descend(inputs, targets, cl.Mean(), torch.tensor([0.1]), steps=400)
    beside = linear.descend(inputs, targets, cl.Mean(), torch.tensor([0.1, 100.0]), steps=400)
    torch.testing.assert_close(beside[0], alone[0])
    assert beside.isfinite().all()
    assert beside[1].abs().max() > 1e6


def test_consensus_leaves_shortcuts_alone_that_disagree_and_the_mean_does_not():
    codes = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    inputs, targets = linear.draw_examples(codes, 50, source(), noise=0.05)
    rates = torch.tensor([0.3])
    (agreed,) = linear.descend(inputs, targets, cl.Consensus(), rates, steps=2)
    (mean,) = linear.descend(inputs, targets, cl.Mean(), rates, steps=2)
    assert agreed[0] > 0
    assert (agreed[1:] == 0).all()
    assert (mean[1:] > 0.05).all()
