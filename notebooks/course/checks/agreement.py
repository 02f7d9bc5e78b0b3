"""The checks of notebook 04: a floor for every threshold, a mask that hurts, a rule to write."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import consensus_lib as cl
from course.checks.tensors import difference
from course.checks.verdict import Case, Verdict, asked, check_function, not_yet, right, said, shown

__all__ = ["check_floor", "check_mask_hurts", "check_timid"]

THRESHOLD = 0.5
# The first case tells most of the usual mistakes apart.
_FLOORS = ((3, 0.3), (1, 1.0), (2, 1.0), (3, 1.0), (8, 1.0), (4, 0.5), (3, 0.6), (5, 0.6), (3, 0.0))
_LONGER_FLOORS = ((10, 0.75), (20, 0.5), (64, 0.25), (64, 1.0))
_SMALL = 1e-12


def check_floor(function: Callable[[int, float], float]) -> Verdict:
    """Is function(voters, threshold) the share of coin-flip weights with |s| >= threshold?

    |s| = |heads - tails| / voters is the mean sign of that many fair coins.
    """
    cases = [Case(pair, _floor(*pair)) for pair in (*_FLOORS, *_LONGER_FLOORS)]
    praise = "so you know what chance alone gives to any mask of the family."
    return check_function(function, cases, _nudge_floor, praise)


def _floor(voters: int, threshold: float) -> float:
    return _chance(voters, lambda heads: abs(2 * heads - voters) >= threshold * voters - _SMALL)


def _chance(voters: int, counts: Callable[[int], bool]) -> float:
    """The probability that the number of heads is one of those that count."""
    ways = (math.comb(voters, heads) for heads in range(voters + 1) if counts(heads))
    return sum(ways) / 2**voters


def _nudge_floor(case: Case, got: float) -> str:
    n, threshold = case.arguments
    needed = threshold * n
    told = [
        (lambda k: k in (0, n), "That is the floor of unanimity, whatever the threshold."),
        (lambda k: k >= needed, "That counts heads. |s| is heads *minus* tails, over all."),
        (
            lambda k: max(k, n - k) >= needed - _SMALL,
            "That is the share of the majority: 3 against 1 has |s| = 1/2 and not 3/4.",
        ),
        (lambda k: 2 * k - n >= needed - _SMALL, "Tails can win too."),
        (lambda k: abs(2 * k - n) > needed + _SMALL, "At the threshold itself a weight moves."),
    ]
    for counts, words in told:
        if math.isclose(got, _chance(n, counts), abs_tol=1e-9):
            return words
    return f"There are {2**n} outcomes: in how many is |heads - tails| at least {needed:g}?"


def check_mask_hurts(gradients: Sequence[Sequence[float]] | Tensor) -> Verdict:
    """Does nobody object to the mean, and somebody to AndMask(threshold=0.5)?

    Args:
        gradients: (N, P), an example a row; N at least 2.
    """
    try:
        g = torch.as_tensor(gradients, dtype=torch.float64)
        fits = g.dim() == 2 and len(g) >= 2 and g.numel() > 0 and bool(g.isfinite().all())
    except Exception:
        fits = False
    if not fits:
        return not_yet("expected one list of finite numbers for each example, all equally long.")
    by_mean, by_mask = (g @ rule.reduce(g) for rule in (cl.Mean(), cl.AndMask(THRESHOLD)))
    if by_mean.min() < -_SMALL:
        return not_yet(
            f"{_objects(by_mean)} to the mean. Give them a second weight, on which it serves them."
        )
    if by_mask.min() < -_SMALL:
        return right(f"nobody objects to the mean, and {_objects(by_mask)} to the mask.")
    hint = "The mask has to drop the very weight on which the mean serves an outvoted example."
    if (g @ cl.AndMask().reduce(g) == by_mask).all():
        hint = "It moves only weights on which all agree: let one weight be 3 against 1."
    return not_yet(f"nobody objects to the mean, and nobody to the mask. {hint}")


def _objects(products: Tensor) -> str:
    worst = int(products.argmin())
    return f"example {worst + 1} objects ({shown(products[worst].item())})"


def check_timid(rule: Any) -> Verdict:
    """Is this a `Rule`, given as class or instance, with the update s x min_i |g_i|, also streamed?

    s is the mean sign of the gradients.
    """
    try:
        made = rule() if inspect.isclass(rule) else rule
    except Exception as error:
        return not_yet(f"to make your rule raised {said(error)}.")
    if not isinstance(made, cl.Rule):
        return not_yet(f"expected a class made from cl.Rule, got {shown(rule)}.")
    for rows in _STACKS:
        g = torch.tensor(rows, dtype=torch.float64)
        wanted = g.sign().mean(dim=0) * g.abs().amin(dim=0)
        got = asked(made.reduce, g.clone(), about=f"on {shown(rows)}")
        if isinstance(got, Verdict):
            return got
        if fault := difference(got, wanted):
            return not_yet(f"on {shown(rows)} the update {fault}. {_timid_hint(got, g, wanted)}")
    try:
        streamed, wanted = _streamed(made)
    except KeyError as error:  # a stack answers every question, a tape only those of `needs`
        return not_yet(f"`update` asks for {error}, which `needs` does not name.")
    except Exception as error:
        return not_yet(f"right on stacks, but on a recorded model it raised {said(error)}.")
    if fault := difference(streamed, wanted):
        return not_yet(f"right on stacks, but on a recorded model the update {fault}.")
    return right(f"on stacks and streamed, from {len(made.needs)} numbers for each weight.")


_STACKS = (
    [[0.5], [2.0]],
    [[-3.0], [-1.0], [-2.0]],
    [[1.0], [1.0], [-1.0]],
    [[2.0], [-3.0], [-2.0], [-4.0]],
    [[0.0, 1.0, -0.5], [1.0, 1.0, -0.25], [2.0, 4.0, 3.0]],
)


def _timid_hint(got: Any, g: Tensor, wanted: Tensor) -> str:
    if not isinstance(got, Tensor):
        return "`update` returns a tensor."
    hints = {
        "It has lost the sign: Least() is a magnitude.": wanted.abs(),
        "It has the other sign: the optimizer subtracts it.": -wanted,
        "It is not weighted: 2 against 1 counts a third of 3 against 0.": (
            g.sign().sum(dim=0).sign() * g.abs().amin(dim=0)
        ),
        "Votes() is the *sum* of the signs: divide it by how many they are.": wanted * len(g),
    }
    close = (words for words, other in hints.items() if not difference(got, other))
    return next(close, "The formula is s · min |g|.")


def _streamed(rule: cl.Rule) -> tuple[Tensor, Tensor]:
    """The update of a recorded layer, and what it should be."""
    source = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(5, 3, generator=source, dtype=torch.float64) for _ in range(2))
    layer = nn.Linear(3, 3, bias=False).double()
    nn.init.zeros_(layer.weight)
    with cl.record(layer) as tape:
        losses = 0.5 * (layer(inputs) - targets).square().sum(dim=1)
    tape.backward(losses, rule)
    g = -targets[:, :, None] * inputs[:, None, :]  # the outputs are 0
    return layer.weight.grad, g.sign().mean(dim=0) * g.abs().amin(dim=0)
