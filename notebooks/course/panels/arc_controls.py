"""The controls of the ARC lab: a widget for every setting of a run, in tabs."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import ipywidgets as widgets

from course.figures.arc_runs import RULES, Settings

__all__ = ["TABS", "make_controls"]

TABS = MappingProxyType(
    {
        "Task": ("task", "augmentation", "voters", "zero_unseen"),
        "Rule": ("rule", "zeros", "threshold", "p", "hold_masked"),
        "Train": ("optimizer", "learning_rate", "weight_decay", "steps", "seed", "seeds"),
        "Net": ("width", "depth", "device"),
    }
)
_LEARNING_RATES = [float(f"{d}e{power}") for power in range(-5, 4) for d in (1, 2, 3, 5)]
_WEIGHT_DECAYS = [0.0, *(float(f"{d}e{power}") for power in range(-5, 1) for d in (1, 3))]
_TASKS = MappingProxyType(
    {
        "a699fb00": "gaps",
        "3618c87e": "drop",
        "6f8cd79b": "border",
        "a9f96cdd": "corners",
        "4612dd53": "frames",
        "c0f76784": "squares",
        "67385a82": "shapes",
        "aedd82e4": "lone cells",
        "a65b410d": "stairs",
        "dc1df850": "red rings",
        "0ca9ddb6": "plus, cross",
        "4258a5f9": "grey rings",
    }
)


def make_controls() -> dict[str, widgets.Widget]:
    """Return new controls, {name: widget}; at first they say what `Settings()` says."""
    first = Settings()

    def choice(name: str, options: object, label: str = "") -> widgets.Dropdown:
        return widgets.Dropdown(
            options=options, value=getattr(first, name), description=label or name
        )

    def ladder(name: str, rungs: Sequence[float]) -> widgets.SelectionSlider:
        # A slider of logarithms would move 0.003 to the nearest of its own steps.
        return widgets.SelectionSlider(
            options=[(f"{rung:g}", rung) for rung in rungs],
            value=getattr(first, name),
            description=name.replace("_", " "),
        )

    def tick(name: str, label: str) -> widgets.Checkbox:
        return widgets.Checkbox(value=getattr(first, name), description=label, indent=False)

    return {
        "task": choice("task", [(f"{name} {words}", name) for name, words in _TASKS.items()]),
        "augmentation": choice(
            "augmentation",
            [
                ("none", "none"),
                ("8 symmetries", "symmetries"),
                ("9 colour shifts", "colours"),
                ("both: 72 copies", "both"),
            ],
        ),
        "voters": choice("voters", [("each copy", "copies"), ("each pair", "pairs")]),
        "zero_unseen": tick("zero_unseen", "zero unseen colours"),
        "rule": choice("rule", [*RULES]),
        "zeros": choice("zeros", ["veto", "abstain"]),
        "threshold": widgets.FloatSlider(
            first.threshold, min=0.0, max=1.0, step=0.05, description="threshold"
        ),
        "p": widgets.FloatSlider(first.p, min=-8.0, max=2.0, step=0.5, description="p"),
        "hold_masked": tick("hold_masked", "hold masked weights"),
        "optimizer": choice("optimizer", ["adam", "adamw", "sgd"]),
        "learning_rate": ladder("learning_rate", _LEARNING_RATES),
        "weight_decay": ladder("weight_decay", _WEIGHT_DECAYS),
        "steps": widgets.IntSlider(first.steps, min=10, max=2000, step=10, description="steps"),
        "seed": widgets.BoundedIntText(first.seeds[0], min=0, max=9999, description="first seed"),
        "seeds": widgets.IntSlider(len(first.seeds), min=1, max=10, description="seeds"),
        "width": widgets.IntSlider(first.width, min=4, max=128, step=4, description="width"),
        "depth": widgets.IntSlider(first.depth, min=1, max=6, description="depth"),
        "device": choice("device", ["cpu", "cuda"]),
    }
