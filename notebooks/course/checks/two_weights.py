"""The checks of notebook 02: two ways to stop, shared or crossing, and a rule that goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import consensus_lib as cl
from course.checks.tensors import difference, kind
from course.checks.verdict import Verdict, as_number, asked, not_yet, right, shown
from course.toys.basins import LOSS_AT_ZERO, NOWHERE, starts_by_lot, which_zero
from course.toys.landscapes import LANDSCAPES, hessians
from course.toys.paths import descend

__all__ = ["check_kind", "check_passes_valleys", "check_two_stops"]

RATE, STEPS = 0.3, 400
NEEDED = 0.9
_CLEARLY = 0.02


def check_two_stops(content: Sequence[float], quarrel: Sequence[float]) -> Verdict:
    """Does consensus stop on "patchwork" once with a content example, and once in a quarrel?

    Args:
        content: a start (a, b) with b > 0 from which it stops with one example at loss 0.
        quarrel: one with b < 0 from which it stops with every example far from loss 0.
    """
    landscape = LANDSCAPES["patchwork"]
    for name, start, side in (("content", content, +1), ("quarrel", quarrel, -1)):
        point = _point(start)
        if point is None or point[1] * side <= 0:
            where = "above" if side > 0 else "below"
            return not_yet(
                f"{name} = {shown(start)} is no such start: two numbers from -3 to 3, b {where} 0."
            )
        paths = descend(landscape, [point], cl.Consensus(), RATE, STEPS)
        losses = paths.losses[-1, 0].tolist()
        told = f"from {name} = {shown(list(point))} the losses come to "
        told += " and ".join(f"{loss:.3f}" for loss in losses)
        if which_zero(landscape, paths.ends).item() != NOWHERE:
            return not_yet(f"{told}: it finds a zero point. Start on the other side of a valley.")
        if LOSS_AT_ZERO <= min(losses) < _CLEARLY:
            return not_yet(f"{told}: one is small but not 0. Take a start that leaves no doubt.")
        if (min(losses) < LOSS_AT_ZERO) != (name == "content"):
            found = "no example is content" if name == "content" else "one example is content"
            return not_yet(f"{told}: {found}. Look at the losses beside the map in the panel.")
    return right(
        "a content example has the gradient zero and blocks both weights; in a quarrel each "
        "weight has somebody against it."
    )


def _point(start: Any) -> tuple[float, float] | None:
    try:
        a, b = (as_number(x) for x in start)
    except Exception:
        return None
    fits = a is not None and b is not None and abs(a) <= 3 and abs(b) <= 3
    return (a, b) if fits else None


def check_kind(function: Callable[[Tensor], str]) -> Verdict:
    """Does function(hessians (B, 2, 2)) say "shared" or "crossing" of a zero point?

    Shared: every example's own Hessian is positive definite.
    """
    for name, stack, expected, hint in _kind_cases():
        got = asked(function, stack.clone(), about=f"for {name}")
        if isinstance(got, Verdict):
            return got
        if got != expected:
            return not_yet(f"for {name} it returned {kind(got)}, expected {expected!r}. {hint}")
    return right("a point is shared if each example alone is held there from all sides.")


def _kind_cases() -> list[tuple[str, Tensor, str, str]]:
    flat = "An example whose loss is flat along one direction does not hold the weights there."
    each = "Ask every example by itself: the mean of two valleys is curved in all directions."
    tilted = "A valley may run at an angle: look at eigenvalues, not at the diagonal."
    cases = [
        ("two round wells", [[[2, 0], [0, 2]], [[1, 0], [0, 3]]], "shared", ""),
        ("two valleys along the axes", [[[1, 0], [0, 0]], [[0, 0], [0, 1]]], "crossing", each),
        ("a round well and a valley", [[[2, 0], [0, 2]], [[0, 0], [0, 1]]], "crossing", flat),
        ("a valley and a round well", [[[0, 0], [0, 1]], [[2, 0], [0, 2]]], "crossing", flat),
        ("valleys at an angle", [[[1, 1], [1, 1]], [[1, -1], [-1, 1]]], "crossing", tilted),
        ("narrow wells", [[[2, 1.9], [1.9, 2]], [[2, -1.9], [-1.9, 2]]], "shared", tilted),
        ("one example, a round well", [[[0.1, 0], [0, 0.2]]], "shared", "Small is not zero."),
        (
            "three examples, the last a valley",
            [[[1, 0], [0, 1]], [[2, 0], [0, 1]], [[1, 0], [0, 0]]],
            "crossing",
            flat,
        ),
    ]
    made = [(name, torch.tensor(h, dtype=torch.float64), e, hint) for name, h, e, hint in cases]
    for name, landscape in LANDSCAPES.items():
        for point in filter(landscape.inside, landscape.zero_points):
            where = torch.tensor([point.a, point.b], dtype=torch.float64)
            rounding = "Rounding leaves 1e-16 where there should be 0: allow for it."
            made.append((f"a point of {name!r}", hessians(landscape, where), point.kind, rounding))
    return made


def check_passes_valleys(function: Callable[[Tensor], Tensor]) -> Verdict:
    """Does function(gradients (N, ...)) move only where all agree, and yet reach zero on "waves"?

    It has to from 9 of 10 starts drawn by lot, with plain steps at learning rate 0.3.
    """
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(2, 50, 2, generator=generator, dtype=torch.float64)
    agreed = cl.Consensus().reduce(gradients)
    about = f"for gradients of shape {tuple(gradients.shape)}"
    update = asked(function, gradients.clone(), about=about)
    if isinstance(update, Verdict):
        return update
    if fault := _fault(update, agreed):
        return not_yet(f"{about} the update {fault}.")
    if (update[agreed == 0] != 0).any():
        return not_yet("it moves weights on which the examples disagree: mask them.")
    if (update * agreed < 0).any():
        return not_yet("it has another sign than the gradients: the optimizer subtracts it.")
    descent = asked(lambda: _descend_by(function), about="on a descent")
    if isinstance(descent, Verdict):
        return descent
    reached, starts = descent
    told = f"from {reached} of {starts} starts it reaches a zero point of the waves"
    if reached < NEEDED * starts:
        return not_yet(
            f"{told}, at least {NEEDED * starts:.0f} are needed. Near a valley one gradient is "
            "nearly zero. Does your update vanish with it? Or does it never come to rest?"
        )
    return right(f"{told}, and it moves no weight on which the examples disagree.")


def _fault(update: Any, expected: Tensor) -> str:
    if not isinstance(update, Tensor) or update.shape != expected.shape:
        return difference(update, expected)
    return "" if update.isfinite().all() else "is not finite"


def _descend_by(function: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    landscape = LANDSCAPES["waves"]
    # By lot: in a grid whole rows may lie level with a zero point, and walk straight into it.
    weights = starts_by_lot(landscape, 100)
    for _ in range(STEPS):
        weights = weights - RATE * function(landscape.gradients(weights))
    return int((which_zero(landscape, weights) != NOWHERE).sum()), len(weights)
