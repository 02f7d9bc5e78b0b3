"""A Linear layer's statistics without its gradients, against loops of ordinary backward passes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import consensus_lib as cl
from consensus_lib import folding, linear
from consensus_lib.linear import FACTORISED
from consensus_lib.statistics import Agreed, Unopposed
from tests import oracle


def compare(model, inputs, weights, needs=FACTORISED, chunk_bytes=2**23):
    """Recorded statistics of linear losses against the statistics of the loop's gradients."""
    with cl.record(model, chunk_bytes) as tape:
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


@pytest.fixture
def always(monkeypatch):
    """Small layers go the way of large ones."""
    monkeypatch.setattr(folding, "_FACTORISE", 0)


sizes = st.integers(1, 12)


@given(
    batch_size=st.one_of(st.integers(1, 8), st.sampled_from([31, 32, 33, 64, 65, 80])),
    shape=st.tuples(sizes, sizes, sizes, sizes),
    activation=st.sampled_from([nn.ReLU, nn.Tanh]),
    like_minded=st.booleans(),
    chunk_bytes=st.sampled_from([1, 2**23]),
    needs=st.sets(st.sampled_from(sorted(FACTORISED, key=repr)), min_size=1),
)
@settings(max_examples=60, deadline=None)
def test_every_shape_with_many_zeros_and_with_none(
    batch_size, shape, activation, like_minded, chunk_bytes, needs
):
    model = nn.Sequential(
        nn.Linear(shape[0], shape[1]),
        activation(),
        nn.Linear(shape[1], shape[2]),
        activation(),
        nn.Linear(shape[2], shape[3]),
    ).double()
    inputs = torch.randn(batch_size, shape[0], dtype=torch.float64)
    weights = torch.randn(batch_size, shape[3], dtype=torch.float64)
    if like_minded:  # so many weights agree that to search for them does not pay
        inputs, weights = 0.01 * inputs.abs(), 1 + weights.abs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "_FACTORISE", 0)
        compare(model, inputs, weights, frozenset(needs), chunk_bytes)


def with_zeros(batch_size, size, dead):
    """(B, size) without a zero but for one example in each of the first `dead` columns."""
    tensor = torch.randn(batch_size, size, dtype=torch.float64)
    tensor[torch.arange(dead) % batch_size, torch.arange(dead)] = 0
    return tensor


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("batch_size", [4, 40])
@pytest.mark.parametrize("dead_inputs", [0, 5, 20])
@pytest.mark.parametrize("dead_outputs", [0, 3, 15])
def test_rows_and_columns_with_a_zero_are_left_out(batch_size, dead_inputs, dead_outputs):
    layer = nn.Linear(20, 15).double()
    inputs = with_zeros(batch_size, 20, dead_inputs)
    weights = with_zeros(batch_size, 15, dead_outputs)
    for few in (inputs[:, -2:], weights[:, -2:]):  # the last ones agree, if they are not dead
        few.abs_()
    weight = compare(layer, inputs, weights)["weight"]
    agreed = cl.statistics_of({"w": weight}).by_parameter["w"][Agreed()] != 0
    assert not agreed[:dead_outputs].any()
    assert not agreed[:, :dead_inputs].any()
    assert agreed.any() == (dead_inputs < 20 and dead_outputs < 15)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("need", [Agreed(), Unopposed()])
@pytest.mark.parametrize("agreeing", [0, 0.1, 0.2, 1])
def test_where_many_agree_the_products_are_folded_instead(monkeypatch, need, agreeing):
    folded = []
    honest = linear._folded
    monkeypatch.setattr(linear, "_folded", lambda *a: folded.append(1) or honest(*a))
    layer = nn.Linear(40, 10).double()
    inputs = torch.randn(60, 40).double()
    inputs[:, : int(40 * agreeing)].abs_()
    compare(layer, inputs, torch.rand(60, 10).double() + 0.1, frozenset({need}))
    assert bool(folded) == (agreeing > linear._MANY)


@pytest.mark.parametrize(("width", "factorises"), [(50, False), (200, True)])
def test_small_layers_are_not_worth_it(monkeypatch, width, factorises):
    asked = []
    honest = folding.outer_product_statistics
    monkeypatch.setattr(
        folding, "outer_product_statistics", lambda *a: asked.append(1) or honest(*a)
    )
    assert (20 * width * 20 > folding._FACTORISE) == factorises
    compare(nn.Linear(width, 20).double(), torch.randn(20, width).double(), torch.randn(20, 20))
    assert bool(asked) == factorises
