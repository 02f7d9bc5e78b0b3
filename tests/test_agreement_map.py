"""The agreement map and its recordings, driven without a browser."""

import itertools
import statistics
import zlib

import numpy as np
import pytest
import torch

import consensus_lib as cl
from course.arc import TinyConv, cell_loss, encode_pairs, load_task
from course.panels import recording as recordings
from course.panels.agreement_map import AgreementMap
from course.panels.recording import Recipe, decode, encode, examine, layers, packed, record, votes

SECONDS = 120
SHORT = Recipe(width=6, steps=12)


@pytest.fixture(scope="module")
def panel():
    panel = AgreementMap()
    panel.set(steps=20)
    panel.start()
    assert panel.wait(SECONDS)
    assert panel.problem is None
    return panel


def test_codes_keep_signs_exactly_and_sizes_to_a_fifth():
    numbers = torch.cat([torch.logspace(-11, 3, 300), -torch.logspace(-11, 3, 300), torch.zeros(3)])
    found = decode(encode(numbers))
    assert np.array_equal(np.sign(found), numbers.sign().numpy())
    seen = numbers != 0
    assert np.abs(found[seen] / numbers[seen].numpy() - 1).max() < 0.2


def test_votes_are_those_of_the_signs():
    codes = np.array([*itertools.product([-5, 0, 7], repeat=3)], dtype=np.int8).T
    for three, found in zip(codes.T, votes(codes), strict=True):
        signs = {int(np.sign(code)) for code in three}
        expected = {(-1,): 1, (1,): -1, (0,): 2}.get(tuple(signs), 0)
        assert found == expected


@pytest.mark.parametrize("rule", [cl.Mean(), cl.Consensus()])
def test_what_is_recorded_is_what_the_library_saw(rule):
    task = load_task("a699fb00")
    recording = record(task, rule, SHORT, lambda: False)
    examine(task, recording, SHORT, lambda step: False)
    model = TinyConv(SHORT.width, SHORT.depth)
    groups = encode_pairs(task.train)
    for step in (0, 5, 12):
        torch.nn.utils.vector_to_parameters(recording.weights[step], model.parameters())
        inputs, targets = [g.inputs for g in groups], [g.targets for g in groups]
        report = cl.backward(model, cell_loss, inputs, targets, cl.Consensus())
        agreed = (np.abs(votes(recording.codes[step])) == 1).mean()
        # Rounding may turn the sign of what is nearly 0.
        assert agreed == pytest.approx(report.consensus_ratio, abs=2e-3)
        assert statistics.mean(recording.losses[step]) == pytest.approx(report.loss, rel=1e-4)


def test_what_is_packed_comes_back():
    task = load_task("a699fb00")
    made = [record(task, rule, SHORT, lambda: False) for rule in (cl.Mean(), cl.Consensus())]
    for recording in made:
        examine(task, recording, SHORT, lambda step: False)
    row = np.frombuffer(zlib.decompress(packed(made)), dtype=np.uint8)
    changes = row.reshape(2, *made[0].codes.shape)
    codes = np.cumsum(changes, axis=1, dtype=np.uint8).view(np.int8)
    for recording, back in zip(made, codes, strict=True):
        assert np.array_equal(recording.codes, back)
    assert sum(layer["size"] for layer in layers(SHORT)) == codes.shape[-1]


def test_recording_costs_little():
    task = load_task("3618c87e")
    kept, plain = [], []
    for _ in range(5):
        recipe = Recipe(steps=60)
        kept.append(record(task, cl.Consensus(), recipe, lambda: False).seconds)
        plain.append(record(task, cl.Consensus(), recipe, lambda: False, keep=False).seconds)
    assert min(kept) <= 1.1 * statistics.median(plain)


def test_an_example_that_is_switched_off_is_not_heard(panel):
    codes = panel.recordings["mean"].codes[10]
    signs = np.sign(codes.astype(int))
    panel.set(without=[2])
    heard = signs[[0, 2]]
    assert panel.shares("mean", 10)["agreed"] == (np.abs(heard.sum(axis=0)) == 2).mean()
    panel.set(without=[])
    shares = panel.shares("mean", 10)
    for left_out, share in shares["alone"].items():
        others = np.delete(signs, left_out - 1, axis=0)
        free = np.abs(others.sum(axis=0)) == 2
        assert share == (free & (np.abs(signs.sum(axis=0)) != 3)).mean()


def test_it_is_stopped_at_any_time(panel, monkeypatch):
    mine = AgreementMap()
    mine.start()
    mine.stop()
    assert mine.wait(SECONDS)
    assert mine.status == "Stopped."

    def stop_there(*arguments):
        mine.stop()
        return examine(*arguments)

    mine.set(steps=10)
    monkeypatch.setattr("course.panels.agreement_map.examine", stop_there)
    mine.start()
    assert mine.wait(SECONDS)
    assert mine.status == "Stopped."
    assert mine.recordings == {}
    assert mine.png().startswith(b"\x89PNG")


def test_a_picture_and_a_reset(panel):
    before = panel.png()
    panel.set(moment=15)
    assert panel.png() != before
    fresh = AgreementMap()
    fresh.recordings, fresh.made = panel.recordings, panel.made
    fresh.reset()
    assert (fresh.recordings, fresh.run, fresh.recording) == ({}, {}, b"")


def test_no_random_state_is_touched():
    before = torch.get_rng_state()
    layers(SHORT)
    record(load_task("3618c87e"), cl.Mean(), Recipe(steps=1), lambda: False)
    assert torch.equal(torch.get_rng_state(), before)
    assert recordings.Recipe().steps == 200
