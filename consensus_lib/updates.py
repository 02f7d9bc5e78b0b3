"""From an update to the weights: into `.grad`, and kept from the optimizer where it is 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from consensus_lib.statistics import require_real

__all__ = ["HeldWeights", "accumulate", "apply_update", "hold_masked_weights"]


def apply_update(model: nn.Module, updates: Mapping[str, Tensor]) -> None:
    """Add each update to the `.grad` of its parameter, as an ordinary backward pass would.

    The weight of an embedding with sparse=True gets a sparse `.grad`, of the rows that are not
    all 0. Hooks of `register_post_accumulate_grad_hook` are called.

    Args:
        model: the model whose parameters are meant.
        updates: {parameter name: tensor of the parameter's shape}, as a rule returns it.

    Raises:
        KeyError: if the model has no parameter of that name; then no `.grad` is touched.
        ValueError: if a shape differs from the parameter's; then no `.grad` is touched.
        TypeError: if a parameter is complex; then no `.grad` is touched.
    """
    parameters = dict(model.named_parameters())
    for name, update in updates.items():
        if name not in parameters:
            raise KeyError(f"the model has no parameter '{name}'; it has {sorted(parameters)}")
        require_real(name, parameters[name].dtype)
        if update.shape != parameters[name].shape:
            raise ValueError(
                f"the update of parameter '{name}' has shape {tuple(update.shape)}, the parameter "
                f"{tuple(parameters[name].shape)}"
            )
    accumulate(model, {name: update.detach().clone() for name, update in updates.items()})


@torch.no_grad()
def accumulate(model: nn.Module, updates: Mapping[str, Tensor]) -> None:
    """As `apply_update`, of updates that fit and that may become `.grad` themselves."""
    parameters, sparse = dict(model.named_parameters()), _with_sparse_gradients(model)
    for name, update in updates.items():
        parameter = parameters[name]
        # an update of one number for all weights may come as a view of that number
        update = update.to(parameter.dtype).contiguous()
        if id(parameter) in sparse:
            update = update.to_sparse(1)
        if (before := parameter.grad) is not None:
            # torch adds sparse to dense, not dense to sparse
            update = before + update if update.is_sparse else update + before
        parameter.grad = update
        for hook in list((parameter._post_accumulate_grad_hooks or {}).values()):
            hook(parameter)


def _with_sparse_gradients(model: nn.Module) -> set[int]:
    """The ids of the parameters that only embeddings with sparse=True have."""
    sparse: dict[int, bool] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            sparse[id(parameter)] = getattr(module, "sparse", False) and sparse.get(
                id(parameter), True
            )
    return {key for key, only in sparse.items() if only}


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
                masked = parameter.grad.to_dense() == 0
                parameter.copy_(torch.where(masked, before, parameter))
        self._before = {}


def hold_masked_weights(optimizer: torch.optim.Optimizer) -> HeldWeights:
    """Keep weights whose update is 0 exactly where they are when the optimizer steps.

    Momentum, Adam and weight decay move a weight even when its gradient is 0. Held, a masked
    weight waits; the optimizer's own state (moments, step counts) goes on as usual. In a sparse
    `.grad` the rows that are not stored are 0.

    Args:
        optimizer: any torch optimizer; its `step` is left in place and hooked.

    Returns:
        A handle; `remove()` ends the holding.
    """
    return HeldWeights(optimizer)
