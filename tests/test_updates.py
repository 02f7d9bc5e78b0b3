"""Updates reach `.grad`, and held weights stay, whatever the optimizer wants."""

import pytest
import torch
from torch import nn

import consensus_lib as cl

OPTIMIZERS = {
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adam foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.5),
}


def stepped(make, hold, steps=4):
    """Weights after steps in which every second gradient is 0 from the second step on."""
    weight = nn.Parameter(torch.arange(1.0, 7.0))
    optimizer = make([weight])
    handle = cl.hold_masked_weights(optimizer) if hold else None
    path = []
    for step in range(steps):
        weight.grad = torch.ones(6)
        if step:
            weight.grad[::2] = 0
        optimizer.step()
        path.append(weight.detach().clone())
    return torch.stack(path), optimizer, weight, handle


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_weights_stay_exactly_and_others_move_as_ever(name):
    held, *_ = stepped(OPTIMIZERS[name], hold=True)
    free, *_ = stepped(OPTIMIZERS[name], hold=False)
    assert torch.equal(held[1:, ::2], held[:1, ::2].expand(3, 3))
    assert not torch.equal(free[1:, ::2], free[:1, ::2].expand(3, 3))
    torch.testing.assert_close(held[:, 1::2], free[:, 1::2])


def test_holding_can_be_ended():
    _, optimizer, weight, handle = stepped(OPTIMIZERS["adam"], hold=True)
    handle.remove()
    before = weight.detach().clone()
    optimizer.step()
    assert (weight.detach() != before).all()


def test_a_parameter_without_grad_is_left_to_the_optimizer():
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    cl.hold_masked_weights(optimizer)
    optimizer.step()
    assert weight.tolist() == [1, 1, 1]


def test_a_closure_is_held_by_the_gradient_it_computed():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, weight_decay=1.0)
    cl.hold_masked_weights(optimizer)

    def closure():
        weight.grad = torch.tensor([0.0, 1.0])
        return weight.sum()

    optimizer.step(closure)
    assert weight.tolist() == pytest.approx([1.0, 2.0 - 0.1 * (1 + 2)])


def test_an_update_is_added_in_the_parameters_dtype():
    model = nn.Linear(2, 1).half()
    update = {"weight": torch.tensor([[0.5, 1.0]])}
    cl.apply_update(model, update)
    cl.apply_update(model, update)
    assert model.weight.grad.dtype == torch.float16
    assert model.weight.grad.tolist() == [[1.0, 2.0]]
    assert model.bias.grad is None
    update["weight"].zero_()
    assert model.weight.grad.tolist() == [[1.0, 2.0]]


def test_a_bad_update_touches_nothing():
    model = nn.Linear(2, 1)
    good = {"weight": torch.ones(1, 2)}
    with pytest.raises(KeyError, match="no parameter 'other'"):
        cl.apply_update(model, good | {"other": torch.ones(1)})
    with pytest.raises(ValueError, match=r"'bias' has shape \(2,\), the parameter \(1,\)"):
        cl.apply_update(model, good | {"bias": torch.ones(2)})
    assert model.weight.grad is None
