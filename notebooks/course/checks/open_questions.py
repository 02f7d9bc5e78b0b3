"""The checks of notebook 09: voters until the floor, and a measure of flatness."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course.checks.verdict import Case, Verdict, check_function, not_yet, right, shown

__all__ = ["check_expected_rise", "check_voters_for_silence"]


def check_voters_for_silence(function: Callable[[int], int]) -> Verdict:
    """Is function(weights) the least number of voters at which coins agree on less than 1 weight?

    Args:
        function: takes the number of weights P >= 1; returns the least N with P 2^(1-N) < 1.
    """
    cases = [Case((p,), 2 + math.floor(math.log2(p))) for p in (22_000, 1, 2, 3, 4, 1000, 1024)]
    return check_function(
        function,
        cases,
        nudge=_nudge_voters,
        praise="a network of 22,000 weights needs 16 coin-flipping voters to fall silent.",
    )


def _nudge_voters(case: Case, answer: float) -> str:
    (weights,) = case.arguments
    if answer == case.expected - 1:
        if weights * 2.0 ** (1 - answer) == 1:
            return f"With {answer:g} voters coins still agree on exactly one weight: less is asked."
        return "The floor is 2^(1-N), not 2^(-N): the first voter may show either side."
    return f"With N voters, coins agree on {weights} x 2^(1-N) weights."


def check_expected_rise(function: Callable[..., Any]) -> Verdict:
    """Does function(loss, weights, radius) measure the mean rise at random steps of a length?

    The oracle is a closed form: for the loss 1/2 w^T H w around w = 0 shifted to its minimum,
    a random step of length r raises it by r^2 tr(H) / (2 P) in the mean.

    Args:
        function: takes a loss ((P,) -> scalar tensor), weights (P,) and the length of a step;
            returns the mean of loss(weights + step) - loss(weights) over many random steps.
    """
    source = torch.Generator().manual_seed(0)
    for scales, radius in (([1.0, 1.0, 1.0, 1.0], 0.5), ([10.0, 1.0, 0.1, 0.0], 0.2)):
        curvature = torch.tensor(scales, dtype=torch.float64)
        minimum = torch.randn(len(scales), generator=source, dtype=torch.float64)

        def loss(w: Tensor, h: Tensor = curvature, at: Tensor = minimum) -> Tensor:
            return 3.0 + 0.5 * (h * (w - at).square()).sum()

        kept = minimum.clone()
        try:
            rise = float(function(loss, minimum, radius))
        except Exception as error:
            return not_yet(f"it raised {type(error).__name__}: {error}")
        if not torch.equal(minimum, kept):
            return not_yet("it changed the weights it was given: step away from a copy.")
        wanted = radius**2 * curvature.mean().item() / 2
        if not math.isfinite(rise):
            return not_yet(f"expected a finite number, got {shown(rise)}.")
        if abs(rise - wanted) > 0.2 * wanted:
            return not_yet(
                f"for a bowl with curvatures {scales} and steps of length {radius} the mean rise "
                f"is {wanted:.3g}, yours is {shown(rise)}. {_nudge_rise(rise, wanted, scales)}"
            )
    return right("in a bowl the rise is length^2 x mean curvature / 2: flat means few curvatures.")


def _nudge_rise(rise: float, wanted: float, scales: list[float]) -> str:
    if abs(rise - 3.0 - wanted) < 0.2 * (3.0 + wanted):
        return "Subtract the loss before the step."
    if abs(rise / wanted - len(scales)) < 0.3 * len(scales):
        return "Scale the whole step to that length, not each weight's share of it."
    if rise < 0:
        return "After minus before, not before minus after."
    return "Take a thousand directions from torch.randn, each scaled to the length asked."
