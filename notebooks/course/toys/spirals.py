"""Two spirals to be told apart, beside a signature of each environment that tells the same.

After the synthetic memorization dataset of Parascandolo et al. 2020 (Learning explanations that
are hard to vary, arXiv 2009.00329, section 4.1) and their published code.

Notation: E environments of n examples each, all turned into one tensor (E, n, 2 + d). The first
two inputs are a point on one of two spirals that wind around each other, the same in every
environment: which of the two is the *invariant* answer, and hard to learn. The other d inputs
are the *signature*: a row of numbers of the environment's own, with the sign of the label, which
a single weight can read. In the test environment each example has a signature of its own, drawn
without regard to its label.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

import consensus_lib as cl

__all__ = [
    "Data",
    "Outcome",
    "Recipe",
    "accuracy",
    "alike_everywhere",
    "draw_data",
    "draw_points",
    "draw_signed",
    "environment_losses",
    "fit",
    "make_network",
]

_HELD_OUT = 8
_TESTED = 2048


@dataclass(frozen=True)
class Recipe:
    """The size of a task and of its network.

    The defaults are cut down so that a run takes seconds. The paper's code has 16 environments
    of 1024 examples, 16 dimensions, 3 turns and a width of 256, and steps on a quarter of the
    examples.

    Attributes:
        environments: E, to train on.
        dimensions: d, of the signature.
        examples: n, of each environment.
        turns: how often a spiral winds.
        width: of the three hidden layers.
        steps: of training, each on all examples.
    """

    environments: int = 12
    dimensions: int = 8
    examples: int = 64
    turns: float = 1.0
    width: int = 32
    steps: int = 500


@dataclass(frozen=True)
class Data:
    """Inputs (E, n, 2 + d) and labels 0 or 1, (E, n), of three kinds of environments.

    Attributes:
        train: to learn from.
        held_out: 8 environments with signatures of their own, to choose settings by.
        test: one environment of 2048 examples, whose signatures tell nothing.
    """

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def draw_points(
    environments: int, examples: int, turns: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points on two spirals, (E, n, 2) with a standard deviation of 1, and which one, (E, n)."""
    shape = (environments, examples)
    radius = 0.08 + 0.92 * torch.rand(shape, generator=generator)
    labels = torch.randint(2, shape, generator=generator)
    angle = 2 * math.pi * turns * radius + math.pi * labels
    radius = radius + 0.04 * torch.rand(shape, generator=generator) - 0.02
    points = torch.stack([angle.cos(), angle.sin()], dim=-1) * radius.unsqueeze(-1)
    return points / points.std(dim=(0, 1)), labels


def draw_signed(
    signatures: Tensor, examples: int, turns: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The examples of environments with these signatures (E, d): (E, n, 2 + d) and (E, n)."""
    points, labels = draw_points(len(signatures), examples, turns, generator)
    signed = (2 * labels - 1).unsqueeze(-1) * signatures.unsqueeze(1)
    return torch.cat([points, signed], dim=-1), labels


def draw_data(recipe: Recipe, seed: int) -> Data:
    """Draw signatures and examples; signatures are standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    numbers = (recipe.environments + _HELD_OUT, recipe.dimensions)
    signatures = torch.randn(numbers, generator=generator)
    kinds = signatures.split([recipe.environments, _HELD_OUT])
    seen, held_out = (draw_signed(s, recipe.examples, recipe.turns, generator) for s in kinds)
    points, labels = draw_points(1, _TESTED, recipe.turns, generator)
    fresh = torch.randn(1, _TESTED, recipe.dimensions, generator=generator)
    return Data(seen, held_out, (torch.cat([points, fresh], dim=-1), labels))


def alike_everywhere(data: Data) -> int:
    """How many of the d signature inputs tell the label by the same sign in all environments."""
    inputs, labels = data.train
    told = (inputs[..., 2:] * (2 * labels - 1).unsqueeze(-1)).sign()
    return int((told == told[0, 0]).all(dim=(0, 1)).sum())


def make_network(recipe: Recipe, seed: int) -> nn.Sequential:
    """Three hidden layers of LeakyReLU and one output, > 0 for label 1: (..., 2 + d) -> (..., 1).

    First weights as in the paper's code: He's normal ones, biases of 0.01.
    """
    generator = torch.Generator().manual_seed(seed)
    widths = [2 + recipe.dimensions, *[recipe.width] * 3, 1]
    layers: list[nn.Module] = []
    for size, following in itertools.pairwise(widths):
        layer = nn.utils.skip_init(nn.Linear, size, following)
        nn.init.kaiming_normal_(layer.weight, generator=generator)
        nn.init.constant_(layer.bias, 0.01)
        layers += [layer, nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


def environment_losses(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean logistic loss of each environment: (E, n, 1), (E, n) -> (E,).

    For the library an environment is then one example of n rows: a voter, whose gradient is the
    mean over what is in it. It says the same as `voters=` with one loss a row, and is cheaper.
    """
    told = labels.to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(
        outputs.squeeze(-1), told, reduction="none"
    ).mean(dim=1)


@torch.no_grad()
def accuracy(network: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of examples, of all environments together, whose label the network tells."""
    return ((network(inputs).squeeze(-1) > 0) == (labels == 1)).double().mean().item()


@dataclass(repr=False)
class Outcome:
    """A run: its history, and accuracies seen on the way and at the end.

    Attributes:
        network: as trained.
        history: of every step.
        seen: (step, train, test accuracy), now and then and at the end.
        train, held_out, test: accuracies at the end.
    """

    network: nn.Module
    history: cl.History
    seen: list[tuple[int, float, float]] = field(default_factory=list)
    train: float = math.nan
    held_out: float = math.nan
    test: float = math.nan


def fit(
    recipe: Recipe,
    rule: cl.Rule,
    learning_rate: float,
    weight_decay: float = 0.0,
    seed: int = 0,
    hold_masked: bool = False,
    every: int = 10,
    on_look: Callable[[Outcome], bool] | None = None,
) -> Outcome:
    """Train by Adam with the environments as voters.

    Args:
        recipe: the size.
        rule: how to reduce the environments' gradients.
        learning_rate: of Adam.
        weight_decay: of Adam: this times the weight is added to the rule's update.
        seed: of the data and of the first weights.
        hold_masked: keep weights without an update where they are; else Adam and the decay go
            on moving them.
        every: steps between two looks at the accuracies.
        on_look: called with the outcome so far after each look; true ends the run.

    Returns:
        The outcome; of a run that diverged, `history.stopped` is "diverged".
    """
    data, network = draw_data(recipe, seed), make_network(recipe, seed)
    adam = torch.optim.Adam(network.parameters(), learning_rate, weight_decay=weight_decay)
    if hold_masked:
        cl.hold_masked_weights(adam)
    outcome, enough = Outcome(network, cl.History()), False

    def look(step: int, _: cl.Report | None = None) -> None:
        nonlocal enough
        if step % every == 0 or step == recipe.steps:
            outcome.seen.append(
                (step, accuracy(network, *data.train), accuracy(network, *data.test))
            )
            enough = on_look is not None and on_look(outcome)

    try:
        outcome.history = cl.train(
            network,
            environment_losses,
            *data.train,
            rule,
            adam,
            recipe.steps,
            on_step=look,
            stop=lambda _: enough,
        )
    except cl.Diverged as error:
        outcome.history = error.history
    if outcome.history.stopped == "steps":
        look(recipe.steps)
    outcome.train, outcome.held_out, outcome.test = (
        accuracy(network, *part) for part in (data.train, data.held_out, data.test)
    )
    return outcome
