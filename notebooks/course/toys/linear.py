"""The linear toy: one weak feature that holds everywhere, and strong ones that change their sign.

After the linear example of Parascandolo et al. 2020 (Learning explanations that are hard to
vary, arXiv 2009.00329), where each environment is one noiseless example, and its strong feature
is absent (0) in the others. Here an environment has many noisy examples, and every feature.

Notation: E environments of n examples each. An example has a target y = +1 or -1 and features

    x = y (strength, code_1, ..., code_d) + noise

The first feature is the *invariant* one: weak, and the same in every environment. The others are
*shortcuts*: as good as the target itself within an environment, and nothing beyond it, since each
environment has a code of its own. The prediction is w . x, its loss 1/2 (w . x - y)^2; to predict
0 everywhere costs 1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor

import consensus_lib as cl

__all__ = ["NOISE", "STRENGTH", "descend", "draw_codes", "draw_examples", "least_loss", "mean_loss"]

STRENGTH = 0.3
NOISE = 0.3
_LOST = 1e6


def draw_codes(shape: tuple[int, ...], generator: torch.Generator, shared: int = 0) -> Tensor:
    """Codes of +1 and -1 by the flip of a coin: (E, ..., d), in float64.

    The first `shared` of the d are +1 in every environment.
    """
    codes = 2.0 * torch.randint(2, shape, generator=generator, dtype=torch.float64) - 1.0
    codes[..., :shared] = 1.0
    return codes


def draw_examples(
    codes: Tensor,
    examples: int,
    generator: torch.Generator,
    noise: float = NOISE,
    flipped: float = 0.0,
    strength: float = STRENGTH,
) -> tuple[Tensor, Tensor]:
    """Draw the examples of some environments.

    Args:
        codes: (E, ..., d), one code an environment; dimensions between are worlds of their own,
            to be learned side by side.
        examples: n, of each environment.
        generator: source of all draws.
        noise: standard deviation of what is added to every feature.
        flipped: probability that a target is the opposite of what the features say.
        strength: of the invariant feature; a shortcut has 1.

    Returns:
        Inputs (E, ..., n, 1 + d) and targets (E, ..., n), in float64.
    """
    told = draw_codes((*codes.shape[:-1], examples), generator)
    features = torch.cat([torch.full_like(codes[..., :1], strength), codes], dim=-1)
    inputs = told.unsqueeze(-1) * features.unsqueeze(-2)
    inputs = inputs + noise * torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)
    wrong = torch.rand(told.shape, generator=generator, dtype=told.dtype) < flipped
    return inputs, torch.where(wrong, -told, told)


def mean_loss(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """The loss over all environments and examples, of several weights side by side.

    Args:
        weights: (R, ..., 1 + d).
        inputs: (E, ..., n, 1 + d).
        targets: (E, ..., n).

    Returns:
        (R, ...).
    """
    predictions = (inputs.unsqueeze(1) @ weights.unsqueeze(-1)).squeeze(-1)
    return (predictions - targets.unsqueeze(1)).square().mean(dim=(0, -1)) / 2


def least_loss(noise: float = NOISE, flipped: float = 0.0, strength: float = STRENGTH) -> float:
    """The least expected loss of a prediction from the invariant feature alone.

    That feature x has E[x^2] = strength^2 + noise^2 and E[x y] = strength (1 - 2 flipped).
    """
    told = strength * (1 - 2 * flipped)
    return (1 - told**2 / (strength**2 + noise**2)) / 2


def descend(
    inputs: Tensor,
    targets: Tensor,
    rule: cl.Rule,
    rates: Tensor,
    steps: int = 200,
    starts: Tensor | None = None,
) -> Tensor:
    """Gradient descent with the environments as voters, at several learning rates side by side.

    What `consensus_lib.train` does with plain SGD, for many small problems in one tensor. A run
    whose weights grow beyond 1e6 has diverged and is left where it is.

    Args:
        inputs: (E, ..., n, 1 + d), of the training environments.
        targets: (E, ..., n).
        rule: how to reduce the environments' gradients; one that looks at each weight by itself.
        rates: (R,), the learning rates.
        steps: how many.
        starts: the first weights, (..., 1 + d); None is 0.

    Returns:
        The last weights, (R, ..., 1 + d).
    """
    # 1/2 (w . x - y)^2, averaged over an environment, is quadratic in w: its curvature and its
    # gradient at 0 say all, and a step need not look at the examples again.
    curvature = inputs.mT @ inputs / inputs.shape[-2]
    pull = (inputs.mT @ targets.unsqueeze(-1)).squeeze(-1) / inputs.shape[-2]
    if starts is None:
        starts = torch.zeros_like(pull[0])
    weights = starts.expand(len(rates), *starts.shape).clone()
    rates = rates.to(weights).reshape(-1, *[1] * starts.dim())
    for _ in range(steps):
        gradients = (curvature.unsqueeze(1) @ weights.unsqueeze(-1)).squeeze(-1) - pull.unsqueeze(1)
        moves = rates * rule.reduce(gradients)
        weights = torch.where(
            weights.abs().amax(-1, keepdim=True) < _LOST, weights - moves, weights
        )
    return weights
