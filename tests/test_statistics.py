"""Statistics fold and merge: however voters are split up, the answers are those of all."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import consensus_lib as cl
from consensus_lib.statistics import (
    Agreed,
    GradientStatistics,
    Least,
    LogPowerSum,
    Maximum,
    Minimum,
    Stack,
    Sum,
    Touched,
    Unopposed,
    Votes,
)
from tests.strategies import stacks

ALL = [Sum(), Votes(), Minimum(), Maximum(), Touched(), Least(), Agreed(), Unopposed()] + [
    LogPowerSum(p) for p in (-2.0, 0.0, 1.0, 2.5)
]


def gathered(stack, needs=ALL):
    """Statistics as a stream holds them: the answers only, without the stack."""
    return GradientStatistics(
        len(stack), {"w": {need: Stack(stack)[need] for need in needs}}, {"w": stack.dtype}
    )


@pytest.mark.parametrize("statistic", ALL, ids=repr)
@given(stack=stacks(), data=st.data())
def test_merging_the_parts_gives_the_whole_in_any_grouping(statistic, stack, data):
    stack = torch.cat([stack, stack.flip(0), -stack[:1]])
    i = data.draw(st.integers(1, len(stack) - 2))
    j = data.draw(st.integers(i + 1, len(stack) - 1))
    a, b, c = (Stack(part)[statistic] for part in (stack[:i], stack[i:j], stack[j:]))
    whole = Stack(stack)[statistic]
    torch.testing.assert_close(statistic.merge(statistic.merge(a, b), c), whole)
    torch.testing.assert_close(statistic.merge(a, statistic.merge(b, c)), whole)
    torch.testing.assert_close(statistic.merge(b, a), statistic.merge(a, b))


def test_what_the_names_mean():
    stack = torch.tensor([[1.0, 0, 0, 2], [-2, 3, 0, 1], [2, 5, 0, 4]])
    answers = cl.statistics_of({"w": stack}).by_parameter["w"]
    assert answers[Sum()].tolist() == [1, 8, 0, 7]
    assert answers[Votes()].tolist() == [1, 2, 0, 3]
    assert answers[Touched()].tolist() == [True, True, False, True]
    assert answers[Least()].tolist() == [1, 0, 0, 1]
    assert answers[Agreed()].tolist() == [0, 0, 0, 1]
    assert answers[Unopposed()].tolist() == [float("inf"), 3, 0, 1]


@given(stack=stacks())
def test_stacked_and_gathered_statistics_merge(stack):
    expected = cl.statistics_of({"w": torch.cat([stack, -stack])})
    kinds = [lambda s: cl.statistics_of({"w": s}), gathered]
    for first in kinds:
        for second in kinds:
            merged = first(stack).merge(second(-stack))
            assert merged.count == 2 * len(stack)
            for statistic in ALL:
                torch.testing.assert_close(
                    merged.by_parameter["w"][statistic], expected.by_parameter["w"][statistic]
                )


def test_a_rule_without_its_statistics_says_so():
    statistics = gathered(torch.ones(2, 3), needs=[Sum()])
    assert cl.Mean()(statistics)["w"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"Consensus.* needs Agreed\(\).*'w'.*rule\.needs"):
        cl.Consensus()(statistics)


def test_merging_what_does_not_match_is_refused():
    one = gathered(torch.ones(2, 3), needs=[Sum()])
    with pytest.raises(ValueError, match="same needs"):
        one.merge(gathered(torch.ones(2, 3), needs=[Agreed()]))
    with pytest.raises(ValueError, match=r"\['v', 'w'\]"):
        one.merge(cl.statistics_of({"v": torch.ones(2, 3)}))
    with pytest.raises(ValueError, match="meta and cpu|cpu and meta"):
        one.merge(gathered(torch.ones(2, 3, device="meta"), needs=[Sum()]))


def test_voters_must_be_as_many_for_every_parameter():
    with pytest.raises(ValueError, match="same number of voters"):
        cl.statistics_of({"a": torch.ones(2, 3), "b": torch.ones(3, 3)})
