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


class Writes(nn.Module):
    """A model that writes what it saw where `how` says."""

    def __init__(self, how):
        super().__init__()
        self.line, self.how, self.log = nn.Linear(3, 2), how, []
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        y = self.line(x)
        if self.how == "buffer":
            self.seen = self.seen + y.detach().sum(dim=0)
        elif self.how == "buffer in place":
            self.seen += y.detach().sum(dim=0)
        elif self.how == "count":
            self.calls += 1
        elif self.how == "attribute":
            self.last = y
        else:
            self.log.append(y)
        return y * (1 + self.seen)


@pytest.mark.parametrize("how", ["buffer", "buffer in place", "count", "attribute", "list"])
def test_the_model_is_left_as_it_was(how):
    model, inputs = Writes(how), torch.randn(4, 3)
    attributes, log = set(vars(model)), model.log
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = cl.per_example_gradients(model, loss_fn, inputs, torch.zeros(4))
    assert set(vars(model)) == attributes
    assert model.log is log
    assert log == []
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    for i in range(4):  # each example meets the model as it was
        losses = loss_fn(model(inputs[i : i + 1]), torch.zeros(1))
        for name, gradient in oracle.gradients_by_loop(model, losses).items():
            torch.testing.assert_close(found[name][i], gradient[0])
        model.load_state_dict(state)


def test_the_model_is_left_as_it_was_after_an_error():
    model = Writes("attribute")
    attributes = set(vars(model))
    with pytest.raises(ValueError, match="one loss an example"):
        cl.per_example_gradients(model, lambda o, t: o, torch.randn(4, 3), torch.zeros(4))
    assert set(vars(model)) == attributes


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="weight: torch.complex64 has no sign"):
        cl.per_example_gradients(
            nn.Linear(3, 1, dtype=torch.complex64), loss_fn, torch.ones(2, 3), torch.ones(2)
        )
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="empty batch"):
        cl.per_example_gradients(model, loss_fn, torch.ones(0, 3), torch.ones(0))
    with pytest.raises(ValueError, match=r"shape \(\).*one loss an example"):
        cl.per_example_gradients(model, lambda o, t: o.mean(), torch.ones(2, 3), torch.ones(2))
