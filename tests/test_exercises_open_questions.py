"""The checks of notebook 09 pass its solutions, and name what is wrong with other answers."""

import math

import pytest
import torch

from course.checks import open_questions as check


def silence(weights):
    n = 1
    while weights * 2.0 ** (1 - n) >= 1:
        n += 1
    return n


def test_a_silent_crowd():
    assert check.check_voters_for_silence(silence)
    assert check.check_voters_for_silence(lambda p: 2 + math.floor(math.log2(p)))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda p: silence(p) - 1, "the first voter may show either side"),
        (lambda p: 1 + math.ceil(math.log2(p)), "less is asked"),
        (lambda p: 7, "coins agree on"),
        (lambda p: None, "Not yet"),
    ],
)
def test_wrong_crowds(answer, hint):
    verdict = check.check_voters_for_silence(answer)
    assert not verdict
    assert hint in verdict.message


def rise(loss, weights, radius, count=1000):
    rises = []
    for _ in range(count):
        step = torch.randn_like(weights)
        rises.append(loss(weights + radius * step / step.norm()) - loss(weights))
    return sum(rises) / count


def test_the_rise_of_the_solution():
    assert check.check_expected_rise(rise)


def unscaled(loss, weights, radius):
    steps = [torch.randn_like(weights) for _ in range(1000)]
    return sum(loss(weights + radius * step) - loss(weights) for step in steps) / 1000


def stepping_in_place(loss, weights, radius):
    before = loss(weights)
    weights += radius * torch.ones_like(weights) / 2
    return loss(weights) - before


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda loss, w, r: rise(loss, w, r) + loss(w), "Subtract the loss before"),
        (unscaled, "Scale the whole step"),
        (lambda loss, w, r: -rise(loss, w, r), "After minus before"),
        (stepping_in_place, "changed the weights"),
        (lambda loss, w, r: float("nan"), "finite"),
        (lambda loss, w, r: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_other_rises(answer, hint):
    verdict = check.check_expected_rise(answer)
    assert not verdict
    assert hint in verdict.message
