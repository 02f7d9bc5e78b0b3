"""Worlds do what their families say, are the same each time, and cues go with the change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.study.worlds import FAMILIES, World

SIDES = [(-1, 0), (0, 1), (1, 0), (0, -1)]
AROUND = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
worlds = st.builds(World, st.integers(0, 400), st.sampled_from(FAMILIES))


def at(grid, row, column):
    inside = 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]
    return grid[row, column] if inside else None


def along(grid, cell, side):
    return [at(grid, cell[0] + k * side[0], cell[1] + k * side[1]) for k in (1, 2)]


def first_of(seen, colours):
    return next((colour for colour in seen if colour in colours), None)


def holds(world, grid, cell, side):
    """The rule at one cell, in plain words."""
    if world.family == "neighbour":
        return at(grid, cell[0] + side[0], cell[1] + side[1]) == world.causes[0]
    if world.family == "count":
        around = [at(grid, cell[0] + r, cell[1] + c) for r, c in AROUND]
        return around.count(world.causes[0]) >= 2
    return first_of(along(grid, cell, side), world.causes) == world.causes[0]


@given(world=worlds)
def test_one_rule_of_the_family_explains_every_pair(world):
    pairs = world.training_pairs(4) + world.fresh_pairs(4)
    sides = AROUND if world.family == "neighbour" else SIDES
    explains = [
        side
        for side in sides
        if all(
            (pair.output[cell] == world.becomes) == holds(world, pair.input, cell, side)
            for pair in pairs
            for cell in zip(*np.nonzero(pair.input == world.subject), strict=True)
        )
    ]
    assert explains  # "count" has no side, and is explained by all
    for pair in pairs:
        changed = pair.input != pair.output
        assert (pair.input[changed] == world.subject).all()
        assert changed.any()
        assert ((pair.input == world.subject) & ~changed).any()


@given(world=worlds, cued=st.integers(0, 3))
def test_a_cue_stands_beside_the_cells_that_turn_and_no_others(world, cued):
    marker = world.accidents[0]

    def tells(pair, side):
        return all(
            (at(pair.input, cell[0] + side[0], cell[1] + side[1]) == marker)
            == (pair.output[cell] == world.becomes)
            for cell in zip(*np.nonzero(pair.input == world.subject), strict=True)
        )

    pairs = world.training_pairs(3, cued)
    assert any(all(tells(pair, side) for pair in pairs[:cued]) for side in AROUND)
    fresh = world.fresh_pairs(12)
    assert not any(all(tells(pair, side) for pair in fresh) for side in AROUND)


@given(world=worlds)
def test_a_world_is_drawn_once_and_for_all(world):
    again = World(world.number, world.family)
    assert again.training_pairs(5)[:3] == world.training_pairs(3)
    assert again.training_pairs(4, cued=2)[2:] == world.training_pairs(4)[2:]
    assert again.fresh_pairs(2) == world.fresh_pairs(2)
    assert set(world.fresh_pairs(5)).isdisjoint(world.fresh_pairs(5, purpose=3))
    colours = [world.subject, world.becomes, *world.causes, *world.accidents]
    assert len(set(colours)) == len(colours)
    assert 0 not in colours


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_answer_is_rare(family):
    pairs = [p for number in range(40) for p in World(number, family).fresh_pairs(4)]
    cells = sum(int((p.input == World(n // 4, family).subject).sum()) for n, p in enumerate(pairs))
    turn = sum(int((p.input != p.output).sum()) for p in pairs)
    assert 0.3 < turn / cells < 0.5


@pytest.mark.parametrize(
    "wrong", [{"family": "far"}, {"number": -1}, {"density": 0.5}, {"side": 2}]
)
def test_a_world_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        World(**({"number": 1, "family": "line"} | wrong))
