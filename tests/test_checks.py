"""`check_gradients` passes what is right, and says what is wrong where it is."""

import pytest
import torch
from torch import nn

import consensus_lib as cl
from consensus_lib.statistics import Sum
from tests.zoo import ZOO, build, loss_fn


@pytest.mark.parametrize("kind", ZOO)
def test_every_model_of_the_zoo_passes_and_is_left_as_it_was(kind):
    animal = build(kind)
    before = {name: value.clone() for name, value in animal.model.state_dict().items()}
    inputs = animal.inputs(3)
    random_state = torch.get_rng_state()
    found = cl.check_gradients(animal.model, loss_fn, inputs, torch.zeros(3).double())
    assert found.examples == 3
    assert set(found.parameters) == {
        name for name, p in animal.model.named_parameters() if p.requires_grad
    }
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None for p in animal.model.parameters())
    for name, value in animal.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_wrong_recording_is_named(monkeypatch):
    honest = cl.Tape.statistics

    def wrong(self, losses, needs, voters=None):
        statistics = honest(self, losses, needs, voters)
        statistics.by_parameter["1.weight"][Sum()][0, 0] += 1
        return statistics

    monkeypatch.setattr(cl.Tape, "statistics", wrong)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)).double()
    with pytest.raises(
        cl.GradientMismatch, match=r"parameter '1\.weight': Sum\(\) differs at 1 of 4"
    ):
        cl.check_gradients(model, loss_fn, torch.randn(3, 3).double(), torch.zeros(3).double())


class Centre(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x) - self.linear(x).mean(dim=0)


def test_examples_that_see_each_other_are_found():
    with pytest.raises(cl.GradientMismatch, match="example 0 has the loss .* examples see each"):
        cl.check_gradients(Centre(), loss_fn, torch.randn(3, 3), torch.zeros(3))


def test_kept_gradients_are_given_back_even_after_a_failure():
    model = Centre()
    model.linear.bias.grad = torch.full((2,), 7.0)
    with pytest.raises(cl.GradientMismatch):
        cl.check_gradients(model, loss_fn, torch.randn(3, 3), torch.zeros(3))
    assert model.linear.bias.grad.tolist() == [7.0, 7.0]
    assert model.linear.weight.grad is None
