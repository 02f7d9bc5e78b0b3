"""Grids as tensors: nothing lost, groups by shape, a loss an example, and the small network."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from course.arc import (
    Pair,
    Task,
    TinyConv,
    cell_loss,
    encode_grid,
    encode_pairs,
    load_task,
    unseen_colours,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)
GRIDS = hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 9))


@given(grid=GRIDS)
def test_encoding_by_hand(grid):
    encoded = encode_grid(grid)
    assert encoded.shape == (11, *grid.shape)
    assert encoded.dtype == torch.float32
    for row, column in np.ndindex(*grid.shape):
        expected = [0.0] * 10 + [1.0]
        expected[grid[row, column]] = 1.0
        assert encoded[:, row, column].tolist() == expected


def test_groups_in_order_of_first_appearance():
    small = [Pair(np.full((2, 3), n), np.full((2, 3), n + 1)) for n in (1, 2)]
    large = [Pair(np.full((3, 2), n), np.full((3, 2), n + 1)) for n in (5, 6)]
    groups = encode_pairs([large[0], small[0], large[1], small[1]])
    assert [group.indices for group in groups] == [(0, 2), (1, 3)]
    assert [tuple(group.inputs.shape) for group in groups] == [(2, 11, 3, 2), (2, 11, 2, 3)]
    assert [group.targets[:, 0, 0].tolist() for group in groups] == [[6, 7], [2, 3]]
    assert all(group.targets.dtype == torch.int64 for group in groups)
    assert all(group.inputs.dtype == torch.float32 for group in groups)


@given(pairs=st.lists(GRIDS.map(lambda grid: Pair(grid, 9 - grid)), max_size=6))
def test_groups_hold_every_pair_once(pairs):
    groups = encode_pairs(pairs)
    assert sorted(index for group in groups for index in group.indices) == list(range(len(pairs)))
    assert len(groups) == len({pair.input.shape for pair in pairs})
    for group in groups:
        for place, index in enumerate(group.indices):
            assert group.inputs[place, :10].argmax(0).tolist() == pairs[index].input.tolist()
            assert group.targets[place].tolist() == pairs[index].output.tolist()


def test_hidden_outputs_have_no_targets():
    known, hidden = Pair([[1, 2]], [[3, 4]]), Pair([[5, 6]])
    groups = encode_pairs([hidden, known])
    assert [group.indices for group in groups] == [(0,), (1,)]
    assert groups[0].targets is None
    assert groups[1].targets.tolist() == [[[3, 4]]]


def test_changed_size_names_the_pair_and_the_way_out():
    with pytest.raises(ValueError, match=r"pair 2: input 2x1, output 1x3.*task\.same_size"):
        encode_pairs([Pair([[1]], [[1]]), Pair([[1], [2]], [[1, 2, 3]])])


def test_cell_loss_by_hand():
    outputs = torch.zeros(2, 10, 1, 2)
    outputs[1, 3, 0, 0] = math.log(91)
    targets = torch.tensor([[[0, 9]], [[3, 5]]])
    losses = cell_loss(outputs, targets)
    assert losses.shape == (2,)
    # Ten equal logits: ln 10 a cell. One logit of weight 91 beside nine ones: p = 0.91.
    assert losses.tolist() == pytest.approx(
        [math.log(10), (math.log(10) - math.log(0.91)) / 2], rel=1e-6
    )


def test_unseen_colours_look_at_training_inputs_only():
    task = Task("x", (Pair([[0, 1]], [[2, 2]]), Pair([[7]], [[7]])), (Pair([[3]], [[4]]),))
    assert unseen_colours(task) == (2, 3, 4, 5, 6, 8, 9)


def test_unseen_colours_get_no_gradient():
    task = load_task("a699fb00")
    model = TinyConv(width=4)
    for group in encode_pairs(task.train):
        cell_loss(model(group.inputs), group.targets).sum().backward()
    by_channel = next(model.parameters()).grad.abs().sum(dim=(0, 2, 3))
    unseen = list(unseen_colours(task))
    seen = [channel for channel in range(11) if channel not in unseen]
    assert (by_channel[unseen] == 0).all()
    assert (by_channel[seen] > 0).all()


@pytest.mark.parametrize(("width", "depth"), [(32, 3), (5, 1)])
def test_tiny_conv_counts_and_shapes(width, depth):
    model = TinyConv(width, depth)
    first = (11 * 9 + 1) * width
    inner = (depth - 1) * (width * 9 + 1) * width
    last = (width + 1) * 10
    assert sum(p.numel() for p in model.parameters()) == first + inner + last
    for size in [(1, 1), (4, 7)]:
        assert model(torch.rand(2, 11, *size)).shape == (2, 10, *size)


def test_tiny_conv_sees_as_far_as_it_is_deep():
    model = TinyConv(width=16, depth=2)
    inputs = torch.rand(1, 11, 9, 9, requires_grad=True)
    model(inputs)[0, :, 4, 4].sum().backward()
    rows, columns = torch.nonzero(inputs.grad[0].abs().sum(0), as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 2, 6)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: TinyConv(depth=0), "start at 1"),
        (lambda: TinyConv(width=2).zero_input_weights([10]), "no colour"),
        (lambda: TinyConv(width=2).zero_input_weights([-1]), "no colour"),
        (lambda: encode_grid(np.array([[1, 10]])), "grid, row 1, column 2: 10"),
    ],
)
def test_slips_are_said(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()


def test_zeroed_colours_no_longer_matter():
    model = TinyConv(width=8)
    inputs = encode_grid(np.array([[5, 7], [0, 5]]))[None]
    without = inputs.clone()
    without[:, [5, 7]] = 0
    assert not torch.equal(model(inputs), model(without))
    others = [0, 1, 2, 3, 4, 6, 8, 9, 10]
    before = next(model.parameters()).detach()[:, others].clone()
    model.zero_input_weights((5, 7))
    assert torch.equal(model(inputs), model(without))
    assert torch.equal(next(model.parameters())[:, others], before)
    assert all(p.requires_grad for p in model.parameters())
