"""Generated pairs follow the rule of their task, which its official pairs confirm."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional

from course.arc import GENERATED_TASKS, Task, generate_pairs, load_task
from course.arc.generators import solve

tasks = pytest.mark.parametrize("task_id", GENERATED_TASKS)


@tasks
def test_the_rule_solves_every_official_pair(task_id):
    task = load_task(task_id)
    for pair in task.train + task.test:
        np.testing.assert_array_equal(solve(task_id, pair.input), pair.output)


@tasks
def test_pairs_are_new_each_changes_a_cell_and_they_look_like_the_task_s_own(task_id):
    def cells(pairs, side):
        return {int(colour) for pair in pairs for colour in np.unique(getattr(pair, side))}

    def shares(pairs):
        return [(pair.input != 0).mean() for pair in pairs]

    task = load_task(task_id)
    own, pairs = task.train + task.test, generate_pairs(task_id, 200, seed=0)
    inputs = {(pair.input.shape, pair.input.tobytes()) for pair in (*pairs, *own)}
    assert len(inputs) == 200 + len({(p.input.shape, p.input.tobytes()) for p in own})
    assert Task(task_id, pairs[:3], pairs[3:]).same_size
    assert all((pair.input != pair.output).any() for pair in pairs)
    assert min(shares(own)) <= np.mean(shares(pairs)) <= max(shares(own))
    for side in ("input", "output"):
        assert cells(pairs, side) == cells(own, side)


@tasks
def test_a_seed_gives_the_same_pairs_again(task_id):
    few = generate_pairs(task_id, 5, seed=3)
    assert generate_pairs(task_id, 9, seed=3)[:5] == few
    assert generate_pairs(task_id, 5, seed=4) != few


def test_gaps_between_blue_cells_by_rewriting_rows_as_text():
    for pair in generate_pairs("a699fb00", 50, seed=0):
        for before, after in zip(pair.input, pair.output, strict=True):
            text = "".join(map(str, before))
            assert "".join(map(str, after)) == re.sub("(?<=1)0(?=1)", "2", text)


def test_drops_column_by_column():
    for pair in generate_pairs("3618c87e", 50, seed=0):
        for before, after in zip(pair.input.T.tolist(), pair.output.T.tolist(), strict=True):
            wanted = [*before[:-3], 0, 5, 1] if before[-3:] == [1, 5, 5] else before
            assert after == wanted


def test_the_border_is_a_frame_around_black():
    for pair in generate_pairs("6f8cd79b", 50, seed=0):
        height, width = pair.input.shape
        frame = np.pad(np.zeros((height - 2, width - 2)), 1, constant_values=8)
        np.testing.assert_array_equal(pair.output, frame)


def neighbours_alike(cells):
    """How many of the four neighbours of each cell are set, by a convolution."""
    cross = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])[None, None]
    return functional.conv2d(torch.tensor(cells)[None, None].float(), cross, padding=1)[0, 0]


def test_lone_red_cells_by_counting_neighbours():
    for pair in generate_pairs("aedd82e4", 50, seed=0):
        red = pair.input == 2
        lone = red & (neighbours_alike(red).numpy() == 0)
        np.testing.assert_array_equal(pair.output, np.where(lone, 1, pair.input))


def test_large_green_shapes_by_spreading_the_largest_number():
    for pair in generate_pairs("67385a82", 50, seed=0):
        green = torch.tensor(pair.input == 3)
        names = torch.arange(1, green.numel() + 1).view(green.shape) * green
        for _ in range(green.numel()):
            around = functional.pad(names, (1, 1, 1, 1))
            near = [around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1]]
            names = torch.stack([names, *near]).amax(dim=0) * green
        large = green & (torch.bincount(names.flatten())[names] >= 3)
        np.testing.assert_array_equal(pair.output, np.where(large, 8, pair.input))


def test_slips_are_said():
    with pytest.raises(ValueError, match="no generator for '007bbfb7'; there are: a699fb00"):
        generate_pairs("007bbfb7", 1, 0)
    with pytest.raises(ValueError, match="no generator for '007bbfb7'"):
        solve("007bbfb7", np.zeros((3, 3), dtype=int))
    with pytest.raises(ValueError, match="count is at least 1"):
        generate_pairs("a699fb00", 0, 0)
    with pytest.raises(ValueError, match="hardly more than"):
        generate_pairs("6f8cd79b", 400, 0)
