"""Lesson 04's claims on the rules: who is never objected to, and what a finite step may do."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import consensus_lib as cl
from tests.strategies import stacks

UNANIMOUS = [
    cl.Consensus(),
    cl.Consensus(zeros="abstain"),
    cl.AndMask(),
    *(cl.PowerMean(p) for p in (-3.0, -1.0, 0.0, 0.5, 2.0)),
]


def gains(rule, stack):
    """(the inner product of the update with each voter's gradient, that with itself)"""
    g = stack.reshape(len(stack), -1)
    update = rule.reduce(g)
    return g @ update, update @ update


@pytest.mark.parametrize("rule", UNANIMOUS, ids=repr)
@given(stack=stacks())
def test_who_moves_only_where_all_agree_is_met_by_no_objection(rule, stack):
    assert gains(rule, stack)[0].min() >= -1e-12


@pytest.mark.parametrize(
    ("rule", "stack"),
    [
        (cl.Mean(), [[1.0], [-3.0]]),
        (cl.AgreementWeighted(), [[1.0], [1.0], [-1.0]]),
        (cl.SignVote(), [[1.0], [1.0], [-1.0]]),
        (cl.AndMask(threshold=0.5), [[1.0], [1.0], [1.0], [-1.0]]),
        (cl.PowerMean(0, threshold=0.5), [[1.0], [1.0], [1.0], [-1.0]]),
        (cl.SmallestMagnitude(), [[1.0], [-3.0]]),
    ],
    ids=repr,
)
def test_the_others_are_objected_to(rule, stack):
    assert gains(rule, torch.tensor(stack))[0].min() < 0


@pytest.mark.parametrize(
    ("rule", "stack"),
    [
        (cl.AndMask(), [[0.1], [5.0]]),
        (cl.PowerMean(-1), [[0.1], [5.0]]),
        (cl.Consensus(zeros="abstain"), [[0.0], [5.0]]),
    ],
    ids=repr,
)
def test_only_veto_grants_everyone_the_square_of_the_step(rule, stack):
    g = torch.tensor(stack)
    found, size = gains(rule, g)
    assert 0 <= found.min() < size
    found, size = gains(cl.Consensus(), g)
    assert found.min() >= size


@given(
    stack=stacks(),
    learning_rate=st.floats(0.0, 2.0),
    curvatures=st.lists(st.floats(0.0, 3.0), min_size=6, max_size=6),
)
def test_on_parabolas_nobody_pays_up_to_two_over_the_curvature(stack, learning_rate, curvatures):
    """Voter i has the loss g_i.x + 1/2 b_i |x|^2 at the step x, with a curvature b_i of its own."""
    g = stack.reshape(len(stack), -1)
    b = torch.tensor(curvatures[: len(g)], dtype=g.dtype)
    step = -learning_rate / b.max().clamp(min=0.1) * cl.Consensus().reduce(g)
    assert (g @ step + 0.5 * b * (step @ step)).max() <= 1e-9


@given(stack=stacks(), shares=st.lists(st.floats(0.01, 1.0), min_size=6, max_size=6))
def test_consensus_is_no_longer_than_any_mixture(stack, shares):
    """It is the shortest point of the box that contains all mixtures."""
    g = stack.reshape(len(stack), -1)
    weights = torch.tensor(shares[: len(g)], dtype=g.dtype)
    mixture = weights / weights.sum() @ g
    assert (cl.Consensus().reduce(g).abs() <= mixture.abs() + 1e-12).all()
