"""A Linear layer's statistics without its gradients, against those of the gradients themselves."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import consensus_lib as cl
from consensus_lib.linear import outer_product_statistics
from consensus_lib.statistics import (
    Agreed,
    Least,
    LeastNonzero,
    LogPowerSum,
    Maximum,
    Minimum,
    Stack,
    Sum,
    Touched,
    Unopposed,
    Votes,
)
from tests import oracle
from tests.strategies import rules_with_oracles

ALL = frozenset(
    {Sum(), Votes(), Minimum(), Maximum(), Touched(), Least(), LeastNonzero(), Agreed()}
    | {Unopposed(), *(LogPowerSum(p) for p in (-8.0, -1.0, 0.0, 0.5, 3.0))}
)


def compare(activations, backprops, needs=ALL, chunk=2**18):
    """Every statistic of the outer products without them, against that of their stack."""
    stack = Stack(backprops.unsqueeze(2) * activations.unsqueeze(1))
    found = outer_product_statistics(activations, backprops, needs, chunk)
    assert found.keys() == needs
    for need in needs:
        assert found[need].dtype == stack[need].dtype
        loose = {}
        if isinstance(need, LogPowerSum) and activations.dtype == torch.float32:
            loose = {"rtol": 1e-5, "atol": 1e-5}  # the products of the stack are rounded before
        torch.testing.assert_close(
            found[need], stack[need], **loose, msg=lambda text, need=need: f"{need}: {text}"
        )


def tensor(batch_size, size, zeros, positive, dtype):
    found = torch.randn(batch_size, size) * (torch.rand(batch_size, size) >= zeros)
    return (found.abs() if positive else found).to(dtype)


shares = st.sampled_from([0.0, 0.3, 0.95, 1.0])
sides = st.tuples(st.sampled_from([1, 2, 8, 17, 50]), shares, st.booleans())


@given(
    batch_size=st.sampled_from([1, 2, 3, 8, 31, 32, 33, 64, 65, 130]),
    activations=sides,
    backprops=sides,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    chunk=st.sampled_from([1, 2**18]),
    seed=st.integers(0, 99),
)
@settings(max_examples=300)
@example(64, (50, 0.5, False), (50, 0.5, False), torch.float32, 2**18, 0)
@example(2, (1, 0.0, False), (1, 0.0, False), torch.float32, 2**18, 0)
def test_every_statistic_is_that_of_the_outer_products(
    batch_size, activations, backprops, dtype, chunk, seed
):
    torch.manual_seed(seed)
    compare(
        tensor(batch_size, *activations, dtype), tensor(batch_size, *backprops, dtype), chunk=chunk
    )


@pytest.mark.parametrize("need", sorted(ALL, key=repr), ids=repr)
def test_each_statistic_needs_no_other(need):
    compare(tensor(40, 30, 0.3, False, torch.float64), torch.randn(40, 20).double(), {need})


@pytest.mark.parametrize("p", [-8.0, -1.0, 0.5, 3.0])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_powers_neither_overflow_nor_vanish(p, scale):
    """Magnitudes 60 orders apart in one sum; float64 holds their products, not the powers."""
    backprops = torch.rand(9, 20, dtype=torch.float64) + 0.1
    backprops[::2] *= scale**4
    activations = torch.rand(9, 30, dtype=torch.float64) + 0.1
    activations[1::3] /= scale**4
    compare(activations, backprops, {LogPowerSum(p)})


def test_products_too_small_for_their_dtype_are_zeros():
    compare(torch.full((3, 4), 1e-30), torch.full((3, 5), 1e-30), {Agreed(), Unopposed(), Least()})


def with_zeros(batch_size, size, dead):
    """(B, size) without a zero but for one example in each of the first `dead` columns."""
    found = torch.randn(batch_size, size, dtype=torch.float64)
    found[torch.arange(dead) % batch_size, torch.arange(dead)] = 0
    return found


@pytest.mark.parametrize("batch_size", [4, 40])
@pytest.mark.parametrize("dead_inputs", [0, 5, 20])
@pytest.mark.parametrize("dead_outputs", [0, 3, 15])
def test_rows_and_columns_with_a_zero_are_left_out(batch_size, dead_inputs, dead_outputs):
    activations = with_zeros(batch_size, 20, dead_inputs)
    backprops = with_zeros(batch_size, 15, dead_outputs)
    for few in (activations[:, -2:], backprops[:, -2:]):  # the last ones agree, if not dead
        few.abs_()
    compare(activations, backprops)
    agreed = outer_product_statistics(activations, backprops, {Agreed()}, 2**18)[Agreed()] != 0
    assert not agreed[:dead_outputs].any()
    assert not agreed[:, :dead_inputs].any()
    assert agreed.any() == (dead_inputs < 20 and dead_outputs < 15)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize(("rule", "definition"), rules_with_oracles(cl))
def test_rules_on_wide_layers_are_their_definitions_on_a_loops_gradients(
    activation, rule, definition
):
    model = nn.Sequential(nn.Linear(60, 70), activation(), nn.Linear(70, 50)).double()
    inputs = torch.randn(40, 60).double()
    inputs[:, :5].abs_()
    with cl.record(model) as tape:
        losses = (model(inputs) * (torch.rand(40, 50) - 0.3)).sum(dim=1)
    expected = oracle.gradients_by_loop(model, losses)
    tape.backward(losses, rule)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, oracle.each_weight(definition, expected[name]))


def test_without_int8_products_votes_are_counted_in_float(monkeypatch):
    def refuses(*_):
        raise RuntimeError("self.size(0) needs to be greater than 16")

    monkeypatch.setattr(torch, "_int_mm", refuses)
    for size in (29, 61):  # a shape that was tried before is not tried again
        compare(*(tensor(size, n, 0.3, False, torch.float32) for n in (37, 43)))
