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
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

__all__ = ["Use", "has_rule", "layer_reader", "layer_rule", "linear", "uses_in"]

LayerRule = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
SomeRule = TypeVar("SomeRule", bound=LayerRule)


@dataclass(frozen=True, eq=False)
class Use:
    """What a call of a layer did with some of its parameters.

    Attributes:
        rule: the layer rule that explains it.
        inputs: (B, ...), what the rule is given.
        edge: where the gradient of the outputs can be asked for.
        names: {local name the rule speaks of: local name in the module}; None: they are the same.
        rows: brings that gradient to (B, ...); None: it comes so.
    """

    rule: LayerRule
    inputs: Tensor
    edge: GradientEdge
    names: dict[str, str] | None = None
    rows: Callable[[Tensor], Tensor] | None = None


Reader = Callable[[nn.Module, tuple, dict, object], list[Use]]
SomeReader = TypeVar("SomeReader", bound=Reader)

_READERS: dict[type[nn.Module], Reader] = {}


def layer_reader(*types: type[nn.Module]) -> Callable[[SomeReader], SomeReader]:
    """Decorate a function (module, args, kwargs, output) -> uses that reads calls of these types.

    For layers whose parameters are not all used by one operation with one tensor.
    """

    def register(reader: SomeReader) -> SomeReader:
        _READERS.update(dict.fromkeys(types, reader))
        return reader

    return register


def layer_rule(*types: type[nn.Module]) -> Callable[[SomeRule], SomeRule]:
    """Decorate the layer rule of these module types.

    It speaks of calls with one tensor that return one, with the example as dimension 0.

    >>> @layer_rule(MyScale)
    ... def my_scale(module, inputs, grad_outputs):
    ...     return {"scale": grad_outputs * inputs}
    """

    def register(rule: SomeRule) -> SomeRule:
        layer_reader(*types)(partial(_one_use, rule))
        return rule

    return register


def _one_use(
    rule: LayerRule, module: nn.Module, args: tuple, kwargs: dict, output: object
) -> list[Use]:
    """The use that a call with one tensor made of its layer; none for other calls."""
    if len(args) != 1 or kwargs or not (isinstance(args[0], Tensor) and isinstance(output, Tensor)):
        return []
    (inputs,) = args
    # without a dimension beside the features there is no example: a Linear layer on (in,)
    enough = inputs.dim() >= (2 if inputs.is_floating_point() else 1)
    if not (enough and output.requires_grad and len(inputs) == len(output)):
        return []
    return [Use(rule, inputs, get_gradient_edge(output))]


def has_rule(module: nn.Module) -> bool:
    """Whether calls of the module's type can be explained."""
    return type(module) in _READERS


def uses_in(module: nn.Module, args: tuple, kwargs: dict, output: object) -> list[Use]:
    """The uses of a module's parameters by a call, so far as they can be explained."""
    reader = _READERS.get(type(module))
    return [] if reader is None else reader(module, args, kwargs, output)


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
