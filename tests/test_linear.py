"""Statistics of large Linear layers, which need no per-example gradients, against loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import consensus_lib as cl
from tests import oracle
from tests.benchmarks.memory import peak_bytes
from tests.names import Agreed, Least, Sum, Touched, Unopposed, Votes

NEEDS = (Sum(), Votes(), Touched(), Agreed(), Unopposed(), Least())
LARGE = 400  # wide enough that products of signs are worth it


def compare(model, inputs, weights, needs=frozenset(NEEDS), chunk_bytes=2**23):
    """Recorded statistics of linear losses against the statistics of the loop's gradients."""
    with cl.record(model, chunk_bytes=chunk_bytes) as tape:
        losses = (model(inputs) * weights).sum(dim=1)
    gradients = oracle.gradients_by_loop(model, losses)
    recorded = tape.statistics(losses, needs)
    assert recorded.fallback == ()
    expected = cl.statistics_of(gradients)
    for name in gradients:
        for need in needs:
            torch.testing.assert_close(
                recorded.by_parameter[name][need],
                expected.by_parameter[name][need],
                msg=lambda text, name=name, need=need: f"{name} {need}: {text}",
            )
    return gradients


@given(
    batch_size=st.one_of(st.integers(1, 8), st.sampled_from([31, 32, 33, 64, 65])),
    width=st.integers(1, 12),
    last=st.sampled_from([1, 9, LARGE]),
    activation=st.sampled_from([nn.ReLU, nn.Tanh]),
    like_minded=st.booleans(),
    chunk_bytes=st.sampled_from([1, 2**23]),
    needs=st.sets(st.sampled_from(NEEDS), min_size=1),
)
@settings(max_examples=40)
def test_every_shape_with_many_zeros_and_with_none(
    batch_size, width, last, activation, like_minded, chunk_bytes, needs
):
    model = nn.Sequential(
        nn.Linear(LARGE // 2, width), activation(), nn.Linear(width, last)
    ).double()
    inputs = torch.randn(batch_size, LARGE // 2, dtype=torch.float64)
    weights = torch.randn(batch_size, last, dtype=torch.float64)
    if like_minded:  # so many weights agree that to search for them does not pay
        inputs, weights = 0.01 * inputs.abs(), 1 + weights.abs()
    compare(model, inputs, weights, frozenset(needs), chunk_bytes)


def with_zeros(batch_size, size, dead):
    """(B, size) without a zero but for one example in each of the first `dead` columns."""
    tensor = torch.randn(batch_size, size, dtype=torch.float64)
    tensor[torch.arange(dead) % batch_size, torch.arange(dead)] = 0
    return tensor


@pytest.mark.parametrize("batch_size", [4, 40])
@pytest.mark.parametrize("dead_inputs", [0, 5, LARGE])
@pytest.mark.parametrize("dead_outputs", [0, 3, 60])
def test_rows_and_columns_with_a_zero_are_left_out(batch_size, dead_inputs, dead_outputs):
    layer = nn.Linear(LARGE, 60).double()
    inputs = with_zeros(batch_size, LARGE, dead_inputs)
    weights = with_zeros(batch_size, 60, dead_outputs)
    for few in (inputs[:, -2:], weights[:, -2:]):  # the last ones agree, if they are not dead
        few.abs_()
    weight = compare(layer, inputs, weights)["weight"]
    agreed = cl.statistics_of({"w": weight}).by_parameter["w"][Agreed()] != 0
    assert not agreed[:dead_outputs].any()
    assert not agreed[:, :dead_inputs].any()
    assert agreed.any() == (dead_inputs < LARGE and dead_outputs < 60)


@pytest.mark.parametrize("need", NEEDS, ids=repr)
@pytest.mark.parametrize("agreeing", [0, 0.1, 0.2, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_however_many_weights_agree(need, agreeing, dtype):
    layer = nn.Linear(LARGE, 10, dtype=dtype)
    inputs = torch.randn(60, LARGE, dtype=dtype)
    inputs[:, : int(LARGE * agreeing)].abs_()
    compare(layer, inputs, torch.rand(60, 10, dtype=dtype) + 0.1, frozenset({need}))


def test_votes_of_a_large_layer_are_counted_without_its_gradients():
    """At batch 256 these alone would be 256 times the layer."""
    layer, inputs = nn.Linear(784, 512), torch.randn(256, 784)

    def step():
        with cl.record(layer) as tape:
            losses = layer(inputs).square().sum(dim=1)
        tape.backward(losses, cl.Consensus())

    for _ in range(2):
        step()
    assert peak_bytes(step, "cpu") < 10 * 4 * layer.weight.numel()
