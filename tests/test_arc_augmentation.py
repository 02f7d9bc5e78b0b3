"""Augmentation: the copies are those of the square and of the colour circle, each once."""

from collections import Counter

import numpy as np
import pytest
import torch

import consensus_lib as cl
from course import arc
from course.arc import Pair, augment_pairs

# No symmetry and every colour: all copies differ.
PAIR = Pair([[0, 1, 2], [3, 4, 5]], [[5, 6, 7], [8, 9, 0]])


def grids(copies):
    return [copy.input.tolist() for copy in copies]


def test_without_augmentation_the_pairs_stay_as_they_are():
    assert augment_pairs([PAIR, PAIR]) == ((PAIR, PAIR), (0, 1))


def test_the_eight_symmetries_by_hand():
    copies, origins = augment_pairs([PAIR], "symmetries")
    assert copies[0] == PAIR
    assert origins == (0,) * 8
    by_hand = [
        [[0, 1, 2], [3, 4, 5]],
        [[2, 1, 0], [5, 4, 3]],
        [[3, 4, 5], [0, 1, 2]],
        [[5, 4, 3], [2, 1, 0]],
        [[0, 3], [1, 4], [2, 5]],
        [[3, 0], [4, 1], [5, 2]],
        [[2, 5], [1, 4], [0, 3]],
        [[5, 2], [4, 1], [3, 0]],
    ]
    assert sorted(map(str, grids(copies))) == sorted(map(str, by_hand))
    for copy in copies:
        # every cell of the input still has its partner in the output
        partners = zip(copy.input.flat, copy.output.flat, strict=True)
        assert sorted(partners) == sorted(zip(PAIR.input.flat, PAIR.output.flat, strict=True))


def test_colours_move_on_in_a_circle_and_black_stays():
    copies, _ = augment_pairs([PAIR], "colours")
    assert len(copies) == 9
    assert copies[1].input.tolist() == [[0, 2, 3], [4, 5, 6]]
    assert copies[1].output.tolist() == [[6, 7, 8], [9, 1, 0]]
    for copy in copies:
        assert np.array_equal(copy.input == 0, PAIR.input == 0)
    one_cell = Counter(int(copy.input[0, 1]) for copy in copies)
    assert one_cell == dict.fromkeys(range(1, 10), 1)


def test_both_are_all_combinations():
    copies, origins = augment_pairs([PAIR, PAIR], "both")
    assert len(set(copies)) == 72
    assert Counter(origins) == {0: 72, 1: 72}


def test_a_copy_that_is_no_other_pair_is_left_out():
    alike = Pair([[1]], [[2]])
    copies, origins = augment_pairs([alike, PAIR], "symmetries")
    assert copies[0] == alike
    assert Counter(origins) == {0: 1, 1: 8}
    assert augment_pairs([Pair([[0]], [[0]])], "both") == ((Pair([[0]], [[0]]),), (0,))


def test_hidden_outputs_stay_hidden():
    copies, _ = augment_pairs([Pair([[1, 2]])], "symmetries")
    assert {copy.output for copy in copies} == {None}
    assert len(copies) == 4


def as_task(copies):
    task = arc.load_task("3618c87e")
    return arc.Task("by hand", tuple(copies), task.test)


def test_copies_vote_as_training_pairs_of_their_own():
    task = arc.load_task("3618c87e")
    copies, _ = augment_pairs(task.train, "symmetries")
    ours = arc.fit(task, cl.Consensus(), steps=4, augmentation="symmetries")
    by_hand = arc.fit(as_task(copies), cl.Consensus(), steps=4)
    assert ours.loss == by_hand.loss
    assert ours.floor[0] == 2.0 ** (1 - len(copies)) < arc.fit(task, cl.Mean(), steps=1).floor[0]


def test_a_pair_and_its_copies_can_vote_as_one():
    task = arc.load_task("3618c87e")
    settings = {"steps": 4, "augmentation": "symmetries", "voters": "pairs"}
    consensus = arc.fit(task, cl.Consensus(), **settings)
    assert consensus.floor[0] == 2.0 ** (1 - len(task.train))
    # the oracle: gradients by hand, the mean over each pair's copies, then the rule
    copies, origins = augment_pairs(task.train, "symmetries")
    (batch,) = arc.encode_pairs(copies)
    model = arc.fit(task, cl.Consensus(), stop=lambda history: True).model
    gradients = cl.per_example_gradients(model, arc.cell_loss, batch.inputs, batch.targets)
    agreed = total = 0
    members = [[i for i, o in enumerate(origins) if o == pair] for pair in range(3)]
    for stack in gradients.values():
        update = cl.Consensus().reduce(torch.stack([stack[m].mean(dim=0) for m in members]))
        agreed += int((update != 0).sum())
        total += update.numel()
    assert consensus.consensus_ratio[0] == pytest.approx(agreed / total, abs=2e-3)


def test_zeroing_unseen_colours_knows_the_copies():
    task = arc.load_task("3618c87e")
    plain, recoloured = (
        arc.fit(task, cl.Mean(), steps=1, zero_unseen=True, augmentation=augmentation)
        for augmentation in ("none", "colours")
    )
    assert not plain.model.layers[0].weight[:, 8].any()
    assert recoloured.model.layers[0].weight[:, 8].any()
