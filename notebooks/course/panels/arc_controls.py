"""The controls of the ARC lab: one for every setting of a run, on tabs."""

from __future__ import annotations

from types import MappingProxyType

import torch

from course.figures.arc_runs import RULES, Settings
from course.panels.controls import Control, choice, ladder, number, tick

__all__ = ["make_controls"]

_TABS = MappingProxyType(
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


def make_controls() -> dict[str, Control]:
    """Return the controls, {name: control}; at first they say what `Settings()` says."""
    first = Settings()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    augmentations = [
        ("none", "none"),
        ("8 symmetries", "symmetries"),
        ("9 colour shifts", "colours"),
        ("both: 72 copies", "both"),
    ]
    made = {
        "task": choice("task", [(f"{name} {words}", name) for name, words in _TASKS.items()]),
        "augmentation": choice("augmentation", augmentations),
        "voters": choice("voters", [("each copy", "copies"), ("each pair", "pairs")]),
        "zero_unseen": tick("zero unseen colours"),
        "rule": choice("rule", RULES, first.rule),
        "zeros": choice("zeros", ["veto", "abstain"]),
        "threshold": number("threshold", 0.0, 1.0, 0.05, first.threshold),
        "p": number("p", -8.0, 2.0, 0.5, first.p),
        "hold_masked": tick("hold masked weights"),
        "optimizer": choice("optimizer", ["adam", "adamw", "sgd"]),
        "learning_rate": ladder("learning rate", _LEARNING_RATES, first.learning_rate),
        "weight_decay": ladder("weight decay", _WEIGHT_DECAYS),
        "steps": number("steps", 10, 2000, 10, first.steps),
        "seed": number("first seed", 0, 9999, 1, first.seeds[0]),
        "seeds": number("seeds", 1, 10, 1, len(first.seeds)),
        "width": number("width", 4, 128, 4, first.width),
        "depth": number("depth", 1, 6, 1, first.depth),
        "device": choice("device", devices),
    }
    tabs = {name: tab for tab, names in _TABS.items() for name in names}
    return {name: control.on(tabs[name]) for name, control in made.items()}
