"""Ways to run a model beside `forward`, and what comes after a step: optimizers and scalers."""

import pytest
import torch
from torch import nn

import consensus_lib as cl
from tests.steps import IN_WORDS, RULES, assert_in_words, mlp, step
from tests.test_faults_layers import CASES, losses_of
from tests.zoo import Animal, loss_fn, parameter


class Gauss(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean, self.log_std = parameter(3), parameter(3)

    def log_prob(self, x):
        return torch.distributions.Normal(self.mean, self.log_std.exp()).log_prob(x).sum(1)


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.base = mlp(3, 8, 6), Gauss()

    def forward(self, x):
        raise NotImplementedError

    def log_prob(self, x):
        shift, scale = self.net(x).chunk(2, 1)
        return self.base.log_prob(x * scale.exp() + shift.flip(1)) + scale.sum(1)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(3, 4, 2), mlp(2, 4, 3)

    def encode(self, x):
        return self.encoder(x)


METHODS = {
    "gauss": (Gauss, lambda m, x: -m.log_prob(x)),
    "flow": (Flow, lambda m, x: -m.log_prob(x)),
    "parts": (Autoencoder, lambda m, x: losses_of(m.decoder(m.encode(x)))),
    "half": (Autoencoder, lambda m, x: losses_of(m.encode(x))),
}


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("kind", METHODS)
def test_a_model_may_be_run_by_any_method(kind, rule):
    make, losses = METHODS[kind]
    model, x = make().double(), torch.randn(5, 3).double()
    for _ in range(2):
        step(model, lambda m: losses(m, x), rule)


@pytest.mark.parametrize("recorded", ["compiled", "original"])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("kind", ["mlp", "functions on bare parameters", "scalar factor"])
def test_a_model_compiled_before_the_recording(kind, warm, recorded):
    torch.compiler.reset()
    model, *rest = (mlp(3, 4, 2), (3,)) if kind == "mlp" else CASES[kind]()
    animal = Animal(model.double(), *rest)
    compiled = torch.compile(animal.model, backend="eager")
    if warm:
        compiled(animal.inputs(4)).sum().backward()
    for _ in range(3):
        x = animal.inputs(4)
        model = compiled if recorded == "compiled" else animal.model
        step(model, lambda _, x=x: losses_of(compiled(x)))


def test_a_gradient_that_is_inf_under_a_scaler_is_skipped_or_said():
    model, scaler = nn.Linear(3, 2).half(), torch.amp.GradScaler("cpu", init_scale=2.0**30)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model.weight.detach().clone()
    while torch.equal(model.weight, before):
        optimizer.zero_grad()
        with cl.record(model) as tape:
            losses = losses_of(model(torch.ones(4, 3).half()).float())
        try:
            tape.backward(scaler.scale(losses), cl.Consensus())
        except FloatingPointError as error:
            assert_in_words(error, "scale")  # that is the cure
            break
        scaler.step(optimizer)  # not where a gradient is inf
        scaler.update()
    else:
        assert model.weight.isfinite().all()


@pytest.mark.parametrize("others", [True, False])
def test_sparse_embeddings_and_their_optimizer(others):
    layers = [nn.Embedding(7, 3, sparse=True), *([nn.Linear(3, 2)] if others else [])]
    model, tokens = nn.Sequential(*layers), torch.randint(7, (4, 5))
    optimizer = torch.optim.SparseAdam([model[0].weight])
    for _ in range(2):
        optimizer.zero_grad()
        try:
            cl.backward(model, loss_fn, tokens, torch.zeros(4), cl.Consensus())
        except IN_WORDS as error:
            assert_in_words(error, "0.weight", "sparse")
        else:
            optimizer.step()


def test_weights_with_sparse_gradients_are_held():
    layer = nn.Embedding(7, 3, sparse=True)
    optimizer = torch.optim.SGD([layer.weight], 0.1, momentum=0.9)
    held = cl.hold_masked_weights(optimizer)
    before = layer.weight.detach().clone()
    layer(torch.tensor([1, 2])).sum().backward()
    try:
        optimizer.step()
    except IN_WORDS as error:
        assert_in_words(error, "sparse")
        return
    assert torch.equal(layer.weight[3:], before[3:])
    assert not torch.equal(layer.weight[1:3], before[1:3])
    held.remove()
