"""The checks of notebook 01: one weight whose examples disagree."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterable

from course.checks.verdict import Case, Verdict, as_number, check_function, not_yet, right, shown

__all__ = ["check_at_least_k", "check_mean_hurts_two", "check_merge"]

LEARNING_RATE = 0.1

_BY_HAND = (
    *([+0.4, +1.2, +0.3], [+1.0, -2.0, +2.0], [+1.0, +2.0, +2.0], [+0.5, +0.6, -0.8]),
    *([+0.5, +0.6, +0.2], [-1.0, -2.0, -3.0], [0.0, +1.0, +2.0], [0.0, 0.0, 0.0]),
    *([+1.0, -1.0], [-0.7]),
)


def check_mean_hurts_two(gradients: Iterable[float]) -> Verdict:
    """Is the step of the mean bad for at least two of these three examples?

    Args:
        gradients: three numbers; example i has the loss 1/2 (w + gradients[i])^2, and the step
            leads from w = 0 to w = -0.1 x mean.
    """
    try:
        numbers = [as_number(g) for g in gradients]
    except Exception:
        return not_yet(f"expected a list of three numbers, got {shown(gradients)}.")
    if len(numbers) != 3 or any(g is None or not math.isfinite(g) for g in numbers):
        return not_yet(f"expected three finite numbers, got {shown(numbers)}.")
    w = -LEARNING_RATE * math.fsum(numbers) / 3
    changes = [0.5 * (w + g) ** 2 - 0.5 * g**2 for g in numbers]
    worse = [i for i, change in enumerate(changes, start=1) if change > 1e-12]
    found = f"the mean of {shown(numbers)} moves w to {shown(w)}"
    if len(worse) >= 2:
        names = " and ".join(map(str, worse))
        return right(f"{found}, and examples {names} get worse.")
    who = f"only example {worse[0]} gets" if worse else "no example gets"
    if w == 0:
        hint = "A mean of 0 moves nothing: unbalance the three."
    elif worse:
        hint = "Who pulls the mean to their side can be alone, if that one is loud enough."
    else:
        hint = "They need to disagree: an example loses when its gradient opposes the mean."
    return not_yet(f"{found}, and {who} worse. Expected two of three. {hint}")


def check_at_least_k(function: Callable[[list[float], int], float]) -> Verdict:
    """Is function(gradients, k) the least magnitude among the k or more that agree?

    With p positive and n negative gradients, N in all and N/2 < k <= N: the least of the
    positive ones if p >= k, minus the least magnitude of the negative ones if n >= k, else 0.
    """
    cases = [
        Case((gradients, k), _at_least_k(gradients, k))
        for gradients in (*_BY_HAND, *_drawn())
        for k in range(len(gradients), len(gradients) // 2, -1)
    ]
    return check_function(
        function,
        cases,
        _nudge_at_least_k,
        "at k = N it is consensus, and below it a minority can be overruled.",
    )


def check_merge(function: Callable[[float, float], float]) -> Verdict:
    """Does folding function(a, b) over a list of gradients, in any order, give their consensus?"""
    pairs = [(+0.4, +1.2), (+1.2, +0.3), (-1.0, -2.0), (+1.0, -2.0), (-2.0, +1.0), (0.0, +2.0)]
    pairs += [(-2.0, 0.0), (0.0, 0.0), (+1.0, +1.0)]
    cases = [Case(pair, _consensus(pair)) for pair in pairs]
    praise = "met one at a time, the gradients need no more memory than one number a weight."
    verdict = check_function(function, cases, _nudge_merge, praise)
    if not verdict:
        return verdict
    for gradients in (*_BY_HAND, *_drawn()):
        for order in (gradients, gradients[::-1]):
            expected = _consensus(order)
            try:
                got = functools.reduce(function, order)
                wrong = not math.isclose(float(got), expected, rel_tol=1e-6, abs_tol=1e-9)
            except Exception as error:
                return not_yet(f"folding over {shown(order)} raised {type(error).__name__}.")
            if wrong:
                return not_yet(
                    f"folding over {shown(order)} gave {shown(got)}. "
                    f"Expected {shown(expected)}. Once two have disagreed nothing may undo it."
                )
    return verdict


def _drawn() -> list[list[float]]:
    """Lists with signs mostly alike and an occasional zero, the same in every run."""
    source = random.Random(0)
    return [
        [source.choice((1, 1, 1, 1, 0, -1)) * source.randint(1, 9) / 4 for _ in range(5)]
        for _ in range(30)
    ]


def _consensus(gradients: Iterable[float]) -> float:
    return max(0.0, min(gradients)) + min(0.0, max(gradients))


def _at_least_k(gradients: list[float], k: int) -> float:
    up = [g for g in gradients if g > 0]
    down = [g for g in gradients if g < 0]
    if len(up) >= k:
        return min(up)
    return max(down) if len(down) >= k else 0.0


def _nudge_at_least_k(case: Case, got: float) -> str:
    gradients, k = case.arguments
    expected = case.expected
    up, down = sum(g > 0 for g in gradients), sum(g < 0 for g in gradients)
    votes = f"Count: {up} positive, {down} negative, and k is {k}."
    if expected == 0:
        return f"{votes} Neither side has enough; a zero belongs to neither."
    if math.isclose(got, -expected):
        return "The update has the sign of the gradients; subtracting it is the optimizer's part."
    agreeing = [g for g in gradients if g * expected > 0]
    if any(math.isclose(got, math.fsum(of) / len(of)) for of in (gradients, agreeing)):
        return "That is a mean: of those that agree, take the one nearest to zero."
    if math.isclose(abs(got), min(map(abs, gradients)), abs_tol=1e-12):
        return f"{votes} Look among those that agree only."
    if math.isclose(got, max(agreeing, key=abs)):
        return f"That is the one farthest from zero.{_below_zero(expected)}"
    return votes


def _nudge_merge(case: Case, got: float) -> str:
    a, b = case.arguments
    if a * b <= 0:
        return "They do not share a non-zero sign, so nothing is left."
    if math.isclose(got, -case.expected):
        return "They agree: the update has their sign."
    if math.isclose(got, (a + b) / 2):
        return "That is the mean of the two: take the one nearest to zero."
    return f"They agree: take the one nearest to zero.{_below_zero(a)}"


def _below_zero(value: float) -> str:
    return " Of negative numbers the nearest to zero is the max." if value < 0 else ""
