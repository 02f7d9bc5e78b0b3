"""What a layer knows about its own per-example gradients.

A *layer rule* is a function (module, inputs, grad_outputs) -> {local parameter name: gradients}:

    inputs        (B, ...), what the module was called with
    grad_outputs  (B, ...), the gradient of the summed losses by the module's output
    gradients     (B, *parameter.shape), row b from row b of the inputs and of grad_outputs alone

Rules are looked up by the exact type of a module: a subclass may compute something else. Prove a
rule of your own with `consensus_lib.check_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["has_rule", "layer_rule", "read_call"]

LayerRule = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
Reader = Callable[[nn.Module, tuple, dict, object], tuple[Tensor, Tensor] | None]
SomeRule = TypeVar("SomeRule", bound=LayerRule)

_RULES: dict[type[nn.Module], tuple[LayerRule, Reader]] = {}


def one_tensor(
    module: nn.Module, args: tuple, kwargs: dict, output: object
) -> tuple[Tensor, Tensor] | None:
    """(input, output) of a call with one tensor that returned one; None for other calls."""
    if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
        return None
    # without a dimension beside the features there is no example: a Linear layer on (in,)
    enough = args[0].dim() >= (2 if args[0].is_floating_point() else 1)
    return (args[0], output) if enough and isinstance(output, Tensor) else None


def layer_rule(
    *types: type[nn.Module], read: Reader = one_tensor
) -> Callable[[SomeRule], SomeRule]:
    """Decorate the layer rule of these module types.

    Args:
        types: the module types.
        read: (module, args, kwargs, output) -> (inputs, outputs), the two tensors of a call that
            the rule speaks of, with the example as dimension 0; None for a call that the rule
            cannot explain. By default the one tensor that went in and the one that came out.

    >>> @layer_rule(MyScale)
    ... def my_scale(module, inputs, grad_outputs):
    ...     return {"scale": grad_outputs * inputs}
    """

    def register(rule: SomeRule) -> SomeRule:
        _RULES.update(dict.fromkeys(types, (rule, read)))
        return rule

    return register


def has_rule(module: nn.Module) -> bool:
    """Whether there is a layer rule for the module's type."""
    return type(module) in _RULES


def read_call(
    module: nn.Module, args: tuple, kwargs: dict, output: object
) -> tuple[LayerRule, Tensor, Tensor] | None:
    """(layer rule, inputs, outputs) of a call, None if no rule explains it."""
    rule, read = _RULES.get(type(module), (None, None))
    tensors = None if rule is None else read(module, args, kwargs, output)
    return None if tensors is None else (rule, *tensors)


def _over_positions(tensor: Tensor) -> Tensor:
    """Sum (B, ..., d) over everything between the example and the last dimension: (B, d)."""
    return tensor.flatten(1, -2).sum(dim=1) if tensor.dim() > 2 else tensor


@layer_rule(nn.Linear)
def linear(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """weight (out, in): sum over positions of grad_output times input; bias: of grad_output."""
    if inputs.dim() == 2:
        weight = grad_outputs.unsqueeze(2) * inputs.unsqueeze(1)
    else:
        weight = torch.bmm(grad_outputs.flatten(1, -2).transpose(1, 2), inputs.flatten(1, -2))
    return {"weight": weight, "bias": _over_positions(grad_outputs)}


@layer_rule(nn.Embedding)
def embedding(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """weight: the rows of grad_output, added where their token stands; none for padding_idx."""
    size = len(inputs)
    tokens = inputs.reshape(size, -1)
    rows = grad_outputs.reshape(*tokens.shape, module.embedding_dim)
    if module.padding_idx is not None:
        rows = rows * (tokens != module.padding_idx).unsqueeze(2)
    weight = rows.new_zeros(size, module.num_embeddings, module.embedding_dim)
    weight.scatter_add_(1, tokens.unsqueeze(2).expand_as(rows), rows)
    return {"weight": weight}


@layer_rule(nn.LayerNorm)
def layer_norm(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """weight: grad_output times the normalized input, summed over positions; bias: without it."""
    shape = module.normalized_shape
    normalized = functional.layer_norm(inputs, shape, eps=module.eps)
    return _affine(grad_outputs * normalized, grad_outputs, inputs.dim() - len(shape))


@layer_rule(nn.RMSNorm)
def rms_norm(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """As `layer_norm`, without bias."""
    shape = module.normalized_shape
    normalized = functional.rms_norm(inputs, shape, eps=module.eps)
    return _affine(grad_outputs * normalized, grad_outputs, inputs.dim() - len(shape))


def _affine(scale: Tensor, shift: Tensor, last_position: int) -> dict[str, Tensor]:
    positions = tuple(range(1, last_position))
    if not positions:
        return {"weight": scale, "bias": shift}
    return {"weight": scale.sum(dim=positions), "bias": shift.sum(dim=positions)}


@layer_rule(nn.GroupNorm)
def group_norm(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """weight, bias (C,): as `layer_norm`, with the channel as dimension 1."""
    normalized = functional.group_norm(inputs, module.num_groups, eps=module.eps)
    products = grad_outputs * normalized
    return {
        "weight": products.reshape(*products.shape[:2], -1).sum(dim=2),
        "bias": grad_outputs.reshape(*products.shape[:2], -1).sum(dim=2),
    }
