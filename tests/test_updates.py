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


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_hooks_run_after_an_update_as_after_a_backward_pass(layout):
    seen = []
    model = nn.Embedding(3, 2, sparse=layout == "sparse")
    model.weight.register_post_accumulate_grad_hook(
        lambda p: seen.append((p is model.weight, p.grad.to_dense().tolist()))
    )
    update = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
    cl.apply_update(model, {"weight": update})
    assert seen == [(True, update.tolist())]
    with cl.record(model) as tape:
        losses = model(torch.tensor([0, 1])).sum(dim=1)
    tape.backward(losses, cl.Mean())
    assert len(seen) == 2


def test_a_hook_may_step_and_drop_the_gradient():
    """As training with an optimizer inside the backward pass does."""
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.detach().clone()

    def step(parameter):
        optimizer.step()
        parameter.grad = None

    model.weight.register_post_accumulate_grad_hook(step)
    cl.apply_update(model, {"weight": torch.ones(1, 2)})
    torch.testing.assert_close(model.weight.detach(), before - 1)
    assert model.weight.grad is None


def embedding(sparse):
    torch.manual_seed(0)
    return nn.ModuleDict({"word": nn.Embedding(5, 2, sparse=sparse), "line": nn.Linear(2, 1)})


@pytest.mark.parametrize("rule", [cl.Mean(), cl.Consensus()], ids=repr)
def test_sparse_embeddings_train_with_sparse_adam(rule):
    model = embedding(sparse=True)
    words = [torch.optim.SparseAdam(model["word"].parameters(), lr=0.1)]
    before = model["word"].weight.detach().clone()
    tokens = torch.tensor([[1, 2], [1, 3], [1, 1]])
    for step in range(2):
        with cl.record(model) as tape:
            losses = model["line"](model["word"](tokens)).sum(dim=(1, 2))
        tape.backward(losses, rule)
        assert model["word"].weight.grad.is_sparse
        assert not model["line"].weight.grad.is_sparse
        if step == 0:
            plain = embedding(sparse=False)
            with cl.record(plain) as tape:
                losses = plain["line"](plain["word"](tokens)).sum(dim=(1, 2))
            tape.backward(losses, rule)
            torch.testing.assert_close(
                model["word"].weight.grad.to_dense(), plain["word"].weight.grad
            )
        for optimizer in words:
            optimizer.step()
            optimizer.zero_grad()
    moved = (model["word"].weight.detach() != before).all(dim=1)
    touched = [False, True, isinstance(rule, cl.Mean), isinstance(rule, cl.Mean), False]
    assert moved.tolist() == touched


@pytest.mark.parametrize("first", ["dense", "sparse"])
def test_updates_add_up_in_any_layout(first):
    model = nn.Embedding(3, 2, sparse=True)
    dense = torch.ones(3, 2)
    model.weight.grad = dense.clone() if first == "dense" else dense.to_sparse(1)
    cl.apply_update(model, {"weight": torch.full((3, 2), 2.0)})
    assert model.weight.grad.to_dense().tolist() == [[3.0] * 2] * 3
    linear = nn.Linear(2, 3, bias=False)
    linear.weight.grad = dense.clone() if first == "dense" else dense.to_sparse(1)
    cl.apply_update(linear, {"weight": torch.full((3, 2), 2.0)})
    assert linear.weight.grad.to_dense().tolist() == [[3.0] * 2] * 3


def test_weights_are_held_by_a_sparse_gradient():
    weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    optimizer = torch.optim.SparseAdam([weight], lr=0.1)
    cl.hold_masked_weights(optimizer)
    weight.grad = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).to_sparse(1)
    optimizer.step()
    weight.grad = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).to_sparse(1)
    optimizer.step()  # Adam's momentum would move the first weight on
    assert weight[0, 0].item() == pytest.approx(0.9)
    assert weight[0, 1].item() < 2
    assert weight[1].tolist() == [3.0, 4.0]


def test_complex_parameters_are_refused():
    model = nn.Linear(2, 1, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"weight: torch.complex64 has no sign.*view_as_real"):
        cl.apply_update(model, {"weight": torch.ones(1, 2)})
    assert model.weight.grad is None
