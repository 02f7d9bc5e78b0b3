"""The panel of notebook 04: random examples that agree more or less, and nine rules beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from traitlets import Bytes

from consensus_lib.rules import (
    AgreementWeighted,
    AndMask,
    Consensus,
    Mean,
    PowerMean,
    RandomMask,
    Rule,
    SignVote,
    SmallestMagnitude,
)
from course.figures import style
from course.figures.one_weight import LOOKS
from course.panels.controls import ladder, number
from course.panels.panel import Panel, front_end

__all__ = ["WEIGHTS", "FamilyOfRules", "draw_examples", "draw_objections", "gains"]

WEIGHTS = 200
_MOST, _DRAWS = 12, 10
_TIMES = 5  # the target: so many times the weights of consensus
_OBJECTION = {"marker": "x", "color": "#B3261E", "markeredgewidth": 2.5}
_POWERS = (-10.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)


def draw_examples(
    voters: int, correlation: float, opponents: int, zeros: float, draw: int
) -> Tensor:
    """Random gradients (voters, WEIGHTS) in float64, the same for the same arguments.

    A gradient is sqrt(correlation) x what all share + sqrt(1 - correlation) x its own, both
    standard normal; the first `opponents` examples have the shared part with the other sign.
    Each entry is 0 with the probability `zeros`. To add an example, or to move a number a
    little, leaves all else as it was.
    """
    shared, own, lots, _ = (part.double() for part in _noise(draw).split([1, _MOST, _MOST, 1]))
    side = torch.ones(_MOST, 1, dtype=torch.float64)
    side[:opponents] = -1
    mixed = math.sqrt(correlation) * side * shared + math.sqrt(1 - correlation) * own
    return mixed.masked_fill(lots < zeros, 0.0)[:voters]


@cache
def _noise(draw: int) -> Tensor:
    """What a draw is made of: (1 + _MOST + _MOST + 1, WEIGHTS) in float32, which a page carries.

    What all share, what each has of its own, the lots of the zeros, and those of a random mask.
    """
    source = torch.Generator().manual_seed(draw)
    shared = torch.randn(1, WEIGHTS, generator=source, dtype=torch.float64)
    own = torch.randn(_MOST, WEIGHTS, generator=source, dtype=torch.float64)
    lots = torch.rand(_MOST, WEIGHTS, generator=source, dtype=torch.float64)
    mask = torch.rand(1, WEIGHTS, generator=torch.Generator().manual_seed(draw))
    return torch.cat([shared.float(), own.float(), lots.float(), mask])


def gains(update: Tensor, gradients: Tensor) -> Tensor:
    """The cosine between an update (P,) and each example's gradient (N, P): (N,), from -1 to 1.

    Below 0 the example objects. It is 0 where the update or the gradient is.
    """
    lengths = update.norm() * gradients.norm(dim=1)
    return gradients @ update / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)


def draw_objections(gradients: Tensor, rules: Mapping[str, Rule]) -> style.Picture:
    """Draw for each rule the share of weights that it moves, and what each example gains.

    Args:
        gradients: (N, P), an example a row.
        rules: {name: rule}; up to nine.
    """
    picture, (left, right) = style.new_figure(1, 2, size=(5.6, 4.4), sharey=True)
    told = []
    for row, (name, rule) in enumerate(rules.items()):
        update = rule.reduce(gradients)
        moved, found = _share_moved(update), gains(update, gradients)
        color = LOOKS[name]["color"] if name in LOOKS else style.NEUTRAL
        left.barh(row, moved, height=0.6, color=color)
        for bad, look in ((False, {"marker": "o", "color": color}), (True, _OBJECTION)):
            places = found[(found < 0) == bad] if moved else found[:0]
            right.plot(places, [row] * len(places), linestyle="", markersize=7, **look)
        told.append(f"{name} moves {moved:.1%}, {int((found < 0).sum())} object")
    floor = 2.0 ** (1 - len(gradients))
    left.axvline(floor, color=style.NEUTRAL, linewidth=2, linestyle=(0, (1, 2)))
    right.axvline(0, color=style.NEUTRAL, linewidth=1)
    left.set(xlim=(0, 1.02), ylim=(len(rules) - 0.4, -0.6))
    left.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    right.set_xlim(-1, 1)
    right.set_xticks([-1, 0, 1], ["−1", "0", "+1"])
    left.set_yticks(range(len(rules)), rules)
    for text in left.get_yticklabels():
        if text.get_text() in LOOKS:
            text.set(color=LOOKS[text.get_text()]["color"], fontweight="bold")
    for ax in (left, right):
        ax.tick_params(axis="y", length=0)
    style.label(left, "weights moved", x=f"share (floor {floor:.3g})")
    style.label(right, "examples' gains", x="cosine (× objects)")
    style.hold_still(picture, left=0.29, right=0.97, bottom=0.14, top=0.93, wspace=0.15)
    picture.alt = f"{len(gradients)} examples: {'; '.join(told)}"
    return picture


def _share_moved(update: Tensor) -> float:
    return (update != 0).double().mean().item()


class FamilyOfRules(Panel):
    """Nine rules on random examples: how many weights each moves, and who objects.

    Controls: `voters` (2 to 12), `correlation` (0 to 1, of any two examples), `opponents` (0 to
    3 examples on the other side), `zeros` (the share of gradients that are 0), `threshold` (of
    AND-mask and power mean), `p` (of the power mean), `draw` (another draw of the same kind).
    """

    target = (
        "somebody objects to the mean, nobody to an AND-mask that moves "
        f"{_TIMES} times consensus's weights."
    )
    presets: ClassVar = {
        "coins": {},
        "half shared": {"correlation": 0.5},
        "many coins": {"voters": 12},
        "one opponent": {"correlation": 0.5, "opponents": 1},
        "two against two": {"correlation": 0.5, "opponents": 2},
        "half of them silent": {"correlation": 0.5, "zeros": 0.5},
    }

    _esm = front_end("family_of_rules")
    noise = Bytes().tag(sync=True)
    controls: ClassVar = {
        "voters": number("voters N", 2, _MOST, 1, first=4),
        "correlation": number("correlation", 0.0, 1.0, 0.05, first=0.0),
        "opponents": number("opponents", 0, 3, 1, first=0),
        "zeros": number("zeros", 0.0, 0.9, 0.05, first=0.0),
        "threshold": number("threshold", 0.0, 1.0, 0.05, first=1.0),
        "p": ladder("power p", [("−∞", -math.inf), *_POWERS], first=0.0),
        "draw": number("draw", 0, _DRAWS - 1, 1, first=0),
    }

    def __init__(self) -> None:
        noise = torch.stack([_noise(draw) for draw in range(_DRAWS)])
        super().__init__(noise=noise.numpy().tobytes())

    @property
    def gradients(self) -> Tensor:
        """The examples that the controls ask for, (voters, WEIGHTS)."""
        names = ("voters", "correlation", "opponents", "zeros", "draw")
        return draw_examples(**{name: self.values[name] for name in names})

    @property
    def rules(self) -> dict[str, Rule]:
        """The nine rules, by the names in the picture."""
        threshold, p = self.values["threshold"], self.values["p"]
        lots = torch.Generator().manual_seed(self.values["draw"])
        return {
            "mean": Mean(),
            "consensus": Consensus(),
            "abstain": Consensus(zeros="abstain"),
            "AND-mask": AndMask(threshold),
            "power mean": PowerMean(p, threshold),
            "weighted": AgreementWeighted(),
            "sign vote": SignVote(),
            "least magnitude": SmallestMagnitude(),
            "random mask": RandomMask(generator=lots),
        }

    def draw(self) -> style.Picture:
        """Return what the rules do with these examples."""
        return draw_objections(self.gradients, self.rules)

    def judge(self) -> str | None:
        """Return what the mask moves, where it serves all whom the mean does not."""
        g, rules = self.gradients, self.rules
        names = ("mean", "AND-mask", "consensus")
        mean, mask, agreed = (rules[name].reduce(g) for name in names)
        served = gains(mean, g).min() < 0 <= gains(mask, g).min()
        if served and _share_moved(mask) >= max(_TIMES * _share_moved(agreed), 1 / WEIGHTS):
            shares = (
                f"{_share_moved(mask):.1%} of the weights, consensus {_share_moved(agreed):.1%}"
            )
            return f"the mask moves {shares}. Who has more?"
        return None
