"""The panel of notebook 02: a start on a landscape of two weights, and where two rules take it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from consensus_lib.rules import AgreementWeighted, AndMask, Consensus, Mean, Rule
from course.figures import style
from course.figures.two_weights_descent import draw_descent, where_it_ends
from course.panels.controls import choice, ladder, number
from course.panels.panel import Panel, front_end
from course.toys.landscapes import LANDSCAPES, Landscape, Wells
from course.toys.paths import OPTIMIZERS, Paths, side_by_side

__all__ = ["RULES", "TwoWeights"]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "mean": Mean(),
        "consensus": Consensus(),
        "abstain": Consensus(zeros="abstain"),
        "AND-mask": AndMask(),
        "weighted": AgreementWeighted(),
    }
)
_NO_RULE = "none"
_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0)


class TwoWeights(Panel):
    """The way from one start by one rule or two, and the map of all starts.

    Controls: `landscape`, `rule`, `beside` (a second rule, or "none"), `optimizer`,
    `learning_rate`, `steps`, the start, `a` and `b`, and `basins` ("off", "of the rule" or "of
    the one beside": which map of all starts a page lays over the landscape).
    """

    _esm = front_end("two_weights")
    target = (
        "find a start with b < 0 from which the mean ends at a crossing, and consensus at a "
        "shared zero."
    )
    controls: ClassVar = {
        "landscape": choice("landscape", LANDSCAPES),
        "rule": choice("rule", RULES),
        "beside": choice("beside", [*RULES, _NO_RULE], first="consensus"),
        "optimizer": choice("optimizer", OPTIMIZERS),
        "learning_rate": ladder("learning rate", _RATES, first=0.3),
        "steps": number("steps", 10, 300, 10, first=200),
        "a": number("start a", -3.0, 3.0, 0.05, first=-2.0),
        "b": number("start b", -3.0, 3.0, 0.05, first=1.0),
        "basins": choice("map of all starts", ["off", "of the rule", "of the one beside"]),
    }
    presets: ClassVar = {
        "stalled beside the shared zero": {},
        "both find the shared zero": {"a": -2.0, "b": -1.5},
        "only consensus finds it": {"a": -2.5, "b": 0.5},
        "only the mean finds it": {"a": -0.5, "b": 0.9},
        "stopped by the first valley": {"a": 2.5, "b": -1.5},
        "turned: stopped at once": {"landscape": "turned", "a": -2.5, "b": 0.5},
        "one weight each: veto, abstain": {
            "landscape": "one weight each",
            "rule": "consensus",
            "beside": "abstain",
        },
        "a wave": {"landscape": "waves", "a": 0.5, "b": 0.5},
        "a wave, by the AND-mask": {
            "landscape": "waves",
            "rule": "consensus",
            "beside": "AND-mask",
            "a": 0.5,
            "b": 0.5,
        },
        "the wrong wave, shared by all": {
            "landscape": "wave pairs",
            "learning_rate": 0.5,
            "a": 2.8,
            "b": 2.5,
        },
    }

    @property
    def runs(self) -> dict[str, Paths]:
        """The paths of the chosen rules from the start; raises as `side_by_side`."""
        values = self.values
        names = [name for name in (values["rule"], values["beside"]) if name != _NO_RULE]
        rules = {name: RULES[name] for name in names}
        settings = {name: values[name] for name in ("learning_rate", "steps", "optimizer")}
        start = [(values["a"], values["b"])]
        return side_by_side(self._landscape, start, rules, **settings)

    def facts(self) -> dict[str, Any]:
        """What a page needs to know of the landscapes."""
        return {"landscapes": {name: _facts(land) for name, land in LANDSCAPES.items()}}

    def draw(self) -> style.Picture:
        """Return the descent from this start."""
        return draw_descent(self._landscape, self.runs)

    def judge(self) -> str | None:
        """Return the start, where the mean ends at a crossing and consensus at a shared zero."""
        a, b = self.values["a"], self.values["b"]
        if b >= 0 or {self.values["rule"], self.values["beside"]} != {"mean", "consensus"}:
            return None
        ends = {n: where_it_ends(self._landscape, run.ends[0]) for n, run in self.runs.items()}
        if (ends["mean"], ends["consensus"]) != ("crossing", "shared"):
            return None
        start = f"({a:.2f}, {b:.2f})".replace("-", "−")
        return f"from {start} the mean ends at a crossing, consensus at a shared zero."

    @property
    def _landscape(self) -> Landscape:
        return LANDSCAPES[self.values["landscape"]]


def _facts(land: Landscape) -> dict[str, Any]:
    zeros = [{"a": point.a, "b": point.b, "kind": point.kind} for point in land.zero_points]
    shared = {"corners": land.corners, "zeros": zeros}
    if isinstance(land, Wells):
        return shared | {"kind": "wells", "at": land.at.tolist(), "shape": land.shape.tolist()}
    inputs, targets = land.inputs.tolist(), land.targets.tolist()
    return shared | {"kind": "waves", "inputs": inputs, "targets": targets, "truth": land.truth}
