"""Each rule against its definition, and the properties that the course proves."""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import consensus_lib as cl
from tests import oracle
from tests.strategies import rules_with_oracles, stacks

TABLE = [  # gradients, mean, consensus with veto, consensus with abstain
    ([1, -2, 2], 1 / 3, 0, 0),
    ([0.4, 1.2, 0.3], 1.9 / 3, 0.3, 0.3),
    ([1, 2, 2], 5 / 3, 1, 1),
    ([0.5, 0.6, -0.8], 0.1, 0, 0),
    ([0.5, 0.6, 0.2], 1.3 / 3, 0.2, 0.2),
    ([-1, -2, -3], -2, -1, -1),
    ([0, 1, 2], 1, 0, 1),
    ([0, 0, 0], 0, 0, 0),
    ([1, -1], 0, 0, 0),
]
RULES = [pytest.param(*pair, id=repr(pair[0])) for pair in rules_with_oracles(cl)]
EVERY_RULE = [pair[0] for pair in rules_with_oracles(cl)]


@pytest.mark.parametrize(("g", "mean", "veto", "abstain"), TABLE)
def test_the_numbers_of_the_course(g, mean, veto, abstain):
    g = torch.tensor(g, dtype=torch.float64)
    assert cl.Mean().reduce(g).item() == pytest.approx(mean)
    assert cl.Consensus().reduce(g).item() == veto
    assert cl.Consensus(zeros="abstain").reduce(g).item() == abstain


@pytest.mark.parametrize(("rule", "definition"), RULES)
@given(stack=stacks())
def test_a_rule_is_its_definition(rule, definition, stack):
    expected = oracle.each_weight(definition, stack)
    torch.testing.assert_close(rule.reduce(stack), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
@given(stack=stacks(dtype=torch.float32))
def test_on_statistics_it_is_the_same_as_on_stacks(rule, stack):
    gradients = {"a": stack, "b": stack.flip(0) * 2}
    updates = rule(cl.statistics_of(gradients))
    for name, g in gradients.items():
        torch.testing.assert_close(updates[name], rule.reduce(g), rtol=0, atol=0)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
@given(stack=stacks(), order=st.randoms(use_true_random=False))
def test_odd_and_blind_to_the_order_of_voters(rule, stack, order):
    update = rule.reduce(stack)
    torch.testing.assert_close(rule.reduce(-stack), -update)
    shuffled = list(range(len(stack)))
    order.shuffle(shuffled)
    torch.testing.assert_close(rule.reduce(stack[shuffled]), update)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
@given(stack=stacks(), factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_scaling_every_voter_scales_the_update(rule, stack, factor):
    scale = 1.0 if isinstance(rule, cl.SignVote) else factor
    torch.testing.assert_close(rule.reduce(stack * factor), rule.reduce(stack) * scale)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
@given(stack=stacks())
def test_every_voter_twice_changes_nothing(rule, stack):
    torch.testing.assert_close(rule.reduce(torch.cat([stack, stack])), rule.reduce(stack))


@given(stack=stacks())
def test_one_voter_twice_changes_no_consensus(stack):
    for zeros in ("veto", "abstain"):
        rule = cl.Consensus(zeros=zeros)
        more = torch.cat([stack, stack[:1]])
        torch.testing.assert_close(rule.reduce(more), rule.reduce(stack), rtol=0, atol=0)


@given(stack=stacks())
def test_no_voter_objects_to_a_consensus_update(stack):
    veto = cl.Consensus().reduce(stack)
    abstain = cl.Consensus(zeros="abstain").reduce(stack)
    for g in stack:
        assert (veto * g).sum() >= veto.square().sum() - 1e-12
        assert (abstain * g).sum() >= -1e-12


def test_the_mean_has_no_such_guarantee():
    g = torch.tensor([1.0, -2.0, 2.0])
    assert (cl.Mean().reduce(g) * g).min() < 0


@given(stack=stacks())
def test_power_means_run_from_consensus_to_and_mask(stack):
    torch.testing.assert_close(cl.PowerMean(-math.inf).reduce(stack), cl.Consensus().reduce(stack))
    torch.testing.assert_close(cl.PowerMean(1.0).reduce(stack), cl.AndMask().reduce(stack))
    sizes = [cl.PowerMean(p).reduce(stack).abs() for p in (-math.inf, -2.0, 0.0, 1.0, 3.0)]
    for smaller, larger in itertools.pairwise(sizes):
        assert (smaller <= larger + 1e-9).all()


def test_negative_powers_of_tiny_gradients_do_not_overflow():
    g = torch.tensor([1e-20, 2e-20])
    torch.testing.assert_close(
        cl.PowerMean(-8.0).reduce(g).item() / 1e-20, 1.0896, rtol=1e-3, atol=0
    )


def test_thresholds_are_counted_in_whole_votes():
    five_to_one = torch.tensor([1.0, 1, 1, 1, 1, -1])  # |s| = 2/3
    assert cl.AndMask(threshold=2 / 3).reduce(five_to_one).item() == pytest.approx(2 / 3)
    four_to_two = torch.tensor([1.0, 1, 1, 1, -1, -1])
    assert cl.AndMask(threshold=2 / 3).reduce(four_to_two).item() == 0


def test_rescaling_divides_by_the_share_kept():
    stack = torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, -1.0, -1.0, -1.0]])
    assert cl.AndMask(rescale=True).reduce(stack).tolist() == [8.0, 0, 0, 0]
    nothing = torch.tensor([[1.0], [-2.0]])
    assert cl.AndMask(rescale=True).reduce(nothing).tolist() == [0.0]


@given(stack=stacks(), seed=st.integers(0, 999))
def test_a_random_mask_moves_as_many_weights_as_have_consensus(stack, seed):
    stack = stack + (stack == 0) * 0.25  # so that a zero mean is a cancellation, counted below
    update = cl.RandomMask(generator=torch.Generator().manual_seed(seed)).reduce(stack)
    mean = oracle.each_weight(oracle.mean, stack)
    moved = update != 0
    torch.testing.assert_close(update[moved], mean[moved])
    room = int((mean == 0).sum())
    agreed = int((oracle.each_weight(oracle.consensus_veto, stack) != 0).sum())
    assert agreed - room <= int(moved.sum()) <= agreed


def test_a_random_mask_is_random_and_has_the_ratio_asked_for():
    stack = torch.ones(2, 1000)
    masks = [cl.RandomMask(ratio=0.3).reduce(stack) for _ in range(2)]
    assert [int(mask.sum()) for mask in masks] == [300, 300]
    assert not torch.equal(*masks)
    assert cl.RandomMask(ratio=0.0).reduce(stack).sum() == 0
    assert cl.RandomMask(ratio=1.0).reduce(stack).sum() == 1000


def test_a_random_mask_is_not_wasted_on_dead_weights():
    stack = torch.zeros(2, 100)
    stack[:, :10] = 1.0
    assert cl.RandomMask(ratio=0.1).reduce(stack)[:10].tolist() == [1.0] * 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
def test_half_precisions_are_reduced_in_float32(rule, dtype):
    stack = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    update = rule.reduce(stack)
    assert update.dtype == dtype
    torch.testing.assert_close(update, rule.reduce(stack.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("rule", [*EVERY_RULE, cl.RandomMask()], ids=repr)
def test_bad_gradients_are_refused_in_words(rule):
    with pytest.raises(ValueError, match="empty batch"):
        rule.reduce(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="dimension 0 is the voter"):
        rule.reduce(torch.tensor(1.0))
    with pytest.raises(TypeError, match="int64"):
        rule.reduce(torch.tensor([1, 2]))
    with pytest.raises(TypeError, match="complex64 has no sign"):
        rule.reduce(torch.ones(2, 3, dtype=torch.complex64))
    with pytest.raises(FloatingPointError, match="voter 1"):
        rule.reduce(torch.tensor([[1.0], [float("inf")]]))
    with pytest.raises(FloatingPointError, match="voter 1"):
        rule.reduce(torch.tensor([1.0, float("nan"), 2.0]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: cl.Consensus(zeros="no"),
        lambda: cl.AndMask(threshold=1.5),
        lambda: cl.PowerMean(math.inf),
        lambda: cl.PowerMean(math.nan),
        lambda: cl.RandomMask(ratio=-0.1),
    ],
)
def test_bad_settings_are_refused(make):
    with pytest.raises(ValueError, match="not"):
        make()


def test_rules_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        cl.AndMask().threshold = 0.5
