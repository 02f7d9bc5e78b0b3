"""From an update to the weights: into `.grad`, and kept from the optimizer where it is 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["HeldWeights", "accumulate", "apply_update", "hold_masked_weights"]


def apply_update(model: nn.Module, updates: Mapping[str, Tensor]) -> None:
    """Add each update to the `.grad` of its parameter, as an ordinary backward pass would.

    Args:
        model: the model whose parameters are meant.
        updates: {parameter name: tensor of the parameter's shape}, as a rule returns it.

    Raises:
        KeyError: if the model has no parameter of that name; then no `.grad` is touched.
        ValueError: if a shape differs from the parameter's; then no `.grad` is touched.
    """
    parameters = dict(model.named_parameters())
    for name, update in updates.items():
        if name not in parameters:
            raise KeyError(f"the model has no parameter '{name}'; it has {sorted(parameters)}")
        if update.shape != parameters[name].shape:
            raise ValueError(
                f"the update of parameter '{name}' has shape {tuple(update.shape)}, the parameter "
                f"{tuple(parameters[name].shape)}"
            )
    for name, update in updates.items():
        accumulate(parameters[name], update.detach().to(parameters[name].dtype, copy=True))


def accumulate(parameter: nn.Parameter, update: Tensor) -> None:
    """Add an update of the parameter's shape and dtype to its `.grad`, or become it."""
    # an update of one number for all weights may come as a view of that number
    parameter.grad = update.contiguous() if parameter.grad is None else parameter.grad + update


class HeldWeights:
    """Holds masked weights until `remove` is called; `hold_masked_weights` makes one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._before: dict[Tensor, Tensor] = {}
        self._hooks = [
            optimizer.register_step_pre_hook(self._remember),
            optimizer.register_step_post_hook(self._restore),
        ]

    def remove(self) -> None:
        """Let the optimizer move every weight again."""
        for hook in self._hooks:
            hook.remove()

    def _remember(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        self._before = {p: p.detach().clone() for p in parameters}

    @torch.no_grad()
    def _restore(self, *_: Any) -> None:
        for parameter, before in self._before.items():
            if parameter.grad is not None:
                parameter.copy_(torch.where(parameter.grad == 0, before, parameter))
        self._before = {}


def hold_masked_weights(optimizer: torch.optim.Optimizer) -> HeldWeights:
    """Keep weights whose update is 0 exactly where they are when the optimizer steps.

    Momentum, Adam and weight decay move a weight even when its gradient is 0. Held, a masked
    weight waits; the optimizer's own state (moments, step counts) goes on as usual.

    Args:
        optimizer: any torch optimizer; its `step` is left in place and hooked.

    Returns:
        A handle; `remove()` ends the holding.
    """
    return HeldWeights(optimizer)
