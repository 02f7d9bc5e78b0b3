"""The study's networks by hand give what TinyConv and autograd give."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import consensus_lib as cl
from course import arc
from course.arc import Pair, TinyConv, cell_loss, encode_pairs
from course.study.networks import Architecture, Cells, Differentiable, Networks


def random_pairs(source, count):
    sides = torch.randint(1, 7, (count, 2), generator=source).tolist()
    grids = [torch.randint(0, 10, (2, *side), generator=source) for side in sides]
    return [Pair(*grid.numpy()) for grid in grids]


def autograd_gradients(model, pairs):
    """One loss and one flat gradient a pair, by an ordinary backward pass each."""
    losses, gradients = [], []
    for pair in pairs:
        (group,) = encode_pairs([pair])
        (loss,) = cell_loss(model(group.inputs), group.targets)
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    return torch.stack(losses), gradients


@pytest.mark.parametrize(("width", "depth"), [(5, 1), (4, 3), (3, 4)])
@given(seed=st.integers(0, 1000), count=st.integers(1, 4))
def test_losses_and_gradients_are_those_of_autograd(width, depth, seed, count):
    pairs = random_pairs(torch.Generator().manual_seed(seed), count)
    architecture, seeds = Architecture(width, depth), [seed, seed + 1]
    weights = architecture.first_weights(seeds)
    losses, stack = Differentiable(architecture, weights, Cells(pairs)).gradients()
    for row, own in enumerate(seeds):
        torch.manual_seed(own)
        model = TinyConv(width, depth)
        wanted_losses, wanted = autograd_gradients(model, pairs)
        torch.testing.assert_close(losses[row], wanted_losses)
        for pair, gradients in enumerate(wanted):
            for found, gradient in zip(
                architecture.tensors(stack[pair, row]), gradients, strict=True
            ):
                torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 1000))
def test_logits_are_those_of_the_model(seed):
    pairs = random_pairs(torch.Generator().manual_seed(seed), 3)
    architecture = Architecture(6, 2)
    networks = Networks(architecture, architecture.first_weights([seed]), Cells(pairs))
    torch.manual_seed(seed)
    model = TinyConv(6, 2)
    (logits,) = networks.logits()
    for pair, own in zip(pairs, networks.cells.pairs, strict=True):
        (group,) = encode_pairs([pair])
        torch.testing.assert_close(logits[:, own], model(group.inputs)[0].detach().flatten(1))


def test_weights_survive_the_way_to_tensors_and_back():
    architecture = Architecture(4, 3)
    weights = torch.randn(3, architecture.size)
    assert torch.equal(architecture.from_tensors(architecture.tensors(weights)), weights)
    assert architecture.size == sum(p.numel() for p in TinyConv(4, 3).parameters())


def test_a_row_of_the_stack_is_what_the_library_calls_a_gradient():
    task = arc.load_task("4258a5f9")
    architecture = Architecture(8, 2)
    _, stack = Differentiable(
        architecture, architecture.first_weights([3]), Cells(task.train)
    ).gradients()
    torch.manual_seed(3)
    (group,) = encode_pairs(task.train)
    gradients = cl.per_example_gradients(TinyConv(8, 2), cell_loss, group.inputs, group.targets)
    for found, wanted in zip(architecture.tensors(stack[:, 0]), gradients.values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
