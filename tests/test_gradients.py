"""The plain stacked gradients against a loop, and a finite difference."""

import pytest
import torch
from torch import nn

import consensus_lib as cl
from tests import oracle
from tests.zoo import ZOO, build, loss_fn


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind not in ("dropout",)])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_stacked_gradients_are_those_of_a_loop(kind, chunk_size):
    animal = build(kind)
    for module in animal.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    inputs, targets = animal.inputs(3), torch.randn(3, dtype=torch.float64)
    stacked = cl.per_example_gradients(animal.model, loss_fn, inputs, targets, chunk_size)
    expected = oracle.gradients_by_loop(animal.model, loss_fn(animal.model(inputs), targets))
    assert stacked.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(stacked[name], expected[name])


def test_a_gradient_is_a_finite_difference_of_that_examples_loss():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, targets = torch.randn(2, 3).double(), torch.randn(2).double()
    stacked = cl.per_example_gradients(model, loss_fn, inputs, targets)["0.weight"][:, 1, 2]
    with torch.no_grad():
        sides = []
        for step in (1e-5, -2e-5):
            model[0].weight[1, 2] += step
            sides.append(loss_fn(model(inputs), targets))
    torch.testing.assert_close(stacked, (sides[0] - sides[1]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_each_example_draws_its_own_dropout():
    model = nn.Sequential(nn.Linear(1, 200), nn.Dropout(0.5))
    same = torch.ones(2, 1)
    g = cl.per_example_gradients(model, lambda o, t: o.sum(1) + t, same, torch.zeros(2))["0.bias"]
    assert not torch.equal(g[0], g[1])


def test_bad_input_is_refused():
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="empty batch"):
        cl.per_example_gradients(model, loss_fn, torch.ones(0, 3), torch.ones(0))
    with pytest.raises(ValueError, match=r"shape \(\).*one loss an example"):
        cl.per_example_gradients(model, lambda o, t: o.mean(), torch.ones(2, 3), torch.ones(2))
