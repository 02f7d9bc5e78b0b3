"""Parameters without a layer: a learned scale or shift, a position added to a word.

A module may use a parameter of its own in an operation, as in `x * self.scale + self.shift`. No
hook sees that, but every torch function can be watched while the model runs. Where such a
parameter, or a view of one, is added to a tensor of examples or multiplied with it, the operation
is a layer call: from what went in and the gradient of what came out follow per-example gradients.
Other uses of such a parameter are left to the exact way for any module. To stream these too, one
would have to know of every function what each example contributes to its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from consensus_lib.layers import LayerRule, Use, has_rule

__all__ = ["Operations", "bare_parameters"]

# By the name of the function: whether it multiplies, and the sign of its second argument.
_WATCHED = {
    "add": (False, 1),
    "add_": (False, 1),
    "sub": (False, -1),
    "sub_": (False, -1),
    "mul": (True, 1),
}

Note = Callable[[nn.Module, str, Use, Tensor], None]


def bare_parameters(model: nn.Module) -> dict[int, tuple[nn.Module, str]]:
    """{id(parameter): (its module, local name)} of trainable ones that no layer rule speaks of."""
    ruled = {id(part) for layer in model.modules() if has_rule(layer) for part in layer.modules()}
    return {
        id(parameter): (module, local)
        for module in model.modules()
        if id(module) not in ruled
        for local, parameter in module._parameters.items()
        if parameter is not None and parameter.requires_grad
    }


class Operations(TorchFunctionMode):
    """While it is entered, tells of each watched operation on a bare parameter."""

    def __init__(self, bare: dict[int, tuple[nn.Module, str]], note: Note) -> None:
        """Watch some parameters.

        Args:
            bare: as `bare_parameters` gives them.
            note: called with (module, local name, use, operand); the operand is the parameter
                or the view of it that was used.
        """
        super().__init__()
        self._bare = bare
        self._note = note

    @torch.compiler.disable  # what runs compiled cannot be watched
    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        watched = _WATCHED.get(getattr(function, "__name__", ""))
        if watched and len(args) == 2 and not kwargs:
            self._look(*args, output, *watched)
        return output

    def _look(self, a: Any, b: Any, output: Tensor, multiplies: bool, sign: int) -> None:
        of_a, of_b = self._parameter(a), self._parameter(b)
        if (of_a is None) == (of_b is None):
            return
        operand, parameter, other = (a, of_a, b) if of_b is None else (b, of_b, a)
        sign = 1 if operand is a else sign
        if not isinstance(other, Tensor) or other.shape != output.shape:
            return
        one_for_all = operand.dim() < other.dim() or operand.shape[:1] == (1,)
        learns = output.requires_grad and output.is_floating_point()
        if not (one_for_all and other.dim() and learns):
            return
        module, local = self._bare[id(parameter)]
        # a shift needs no inputs: to hold them would cost memory
        inputs = other if multiplies else other.detach().new_empty(()).expand(other.shape)
        rule = _rule(local, operand, parameter, multiplies, sign)
        self._note(module, local, Use(rule, inputs, get_gradient_edge(output)), operand)

    def _parameter(self, tensor: Any) -> Tensor | None:
        """The watched parameter that a tensor is, or is a view of."""
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            return None
        if id(tensor) in self._bare:
            return tensor
        base = tensor._base
        known = base is not None and id(base) in self._bare
        return base if known and base.is_contiguous() and base.dtype == tensor.dtype else None


def _rule(local: str, operand: Tensor, parameter: Tensor, multiplies: bool, sign: int) -> LayerRule:
    """The layer rule of one operation."""
    shape, whole = operand.shape, parameter.shape
    places = None
    if operand.numel() != parameter.numel() or not operand.is_contiguous():
        offset = operand.storage_offset() - parameter.storage_offset()
        numbers = torch.arange(parameter.numel(), device=parameter.device)
        places = numbers.as_strided(shape, operand.stride(), offset).flatten()

    def rule(_module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
        rows = grad_outputs * inputs if multiplies else sign * grad_outputs
        rows = _summed(rows, shape)
        if places is not None:
            nothing = rows.new_zeros(len(rows), whole.numel())
            rows = nothing.index_add_(1, places, rows.reshape(len(rows), -1))
        return {local: rows.reshape(len(rows), *whole)}

    return rule


def _summed(rows: Tensor, shape: torch.Size) -> Tensor:
    """Sum (n, ...) to (n, *shape) over what a tensor of this shape was repeated for."""
    own = shape[1:] if len(shape) == rows.dim() else shape
    repeated = rows.dim() - 1 - len(own)
    return rows.sum_to_size(len(rows), *[1] * repeated, *own).reshape(len(rows), *shape)
