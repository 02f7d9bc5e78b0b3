"""`check_gradients` passes what is right, and says what is wrong where it is."""

import pytest
import torch
from torch import nn

import consensus_lib as cl
from tests.names import grad_sampler
from tests.zoo import ZOO, Lambda, build, loss_fn


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


class Mine(nn.Linear):
    """A layer with a formula of its own."""


# what a formula may get wrong of a weight's gradients (B, out, in), and whether it is named so
FORMULAS = {
    "right": lambda g: g,
    "one weight off": lambda g: g + torch.eye(2, 2, dtype=g.dtype) * 0.1,
    "examples exchanged": lambda g: g.flip(0).abs(),
    "a factor": lambda g: 2 * g,
    "mean for sum": lambda g: g.mean(0, keepdim=True).expand_as(g),
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_wrong_formula_is_named(formula):
    @grad_sampler(Mine)
    def mine(module, activations, backprops):
        weight = backprops[:, :, None] * activations[:, None, :]
        return {"weight": FORMULAS[formula](weight), "bias": backprops}

    model = nn.Sequential(nn.Linear(3, 2), Mine(2, 2)).double()
    arguments = model, loss_fn, torch.randn(3, 3).double(), torch.zeros(3).double()
    if formula == "right":
        cl.check_gradients(*arguments)
    else:
        with pytest.raises(cl.GradientMismatch, match=r"parameter '1\.weight'.* of 4"):
            cl.check_gradients(*arguments)


def centred():
    return Lambda(lambda m, x: m.linear(x) - m.linear(x).mean(dim=0), linear=nn.Linear(3, 2))


def test_examples_that_see_each_other_are_found():
    with pytest.raises(cl.GradientMismatch, match="example 0 has the loss .* examples see each"):
        cl.check_gradients(centred(), loss_fn, torch.randn(3, 3), torch.zeros(3))


def test_kept_gradients_are_given_back_even_after_a_failure():
    model = centred()
    model.linear.bias.grad = torch.full((2,), 7.0)
    with pytest.raises(cl.GradientMismatch):
        cl.check_gradients(model, loss_fn, torch.randn(3, 3), torch.zeros(3))
    assert model.linear.bias.grad.tolist() == [7.0, 7.0]
    assert model.linear.weight.grad is None
