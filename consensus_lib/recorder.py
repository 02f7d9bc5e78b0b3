"""What is recorded while the model runs: each operation of the table, with what it was given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode

from consensus_lib.grad_samplers import MODULE_SAMPLERS, OPENED, READERS, Use, aliased, use
from consensus_lib.statistics import widened

__all__ = ["Call", "Recorder"]


@dataclass(eq=False, slots=True)
class Call:
    """One operation, whose output may hold a row, or several, for each example.

    Attributes:
        edge: where the gradient by its output can be asked for.
        shape: of the output.
        uses: of its operands.
        layout: how rows belong to the B examples, once that is proved: "Bk" for (B * k, ...),
            "kB" for (k * B, ...), "TB" for (T, B, ...); None where they do not.
        layouts: those that the shapes allow, the likeliest first.
        size: B.
        backprops: (B, ...) or (B, k, ...), while the backward pass has come by and they are used.
    """

    edge: GradientEdge
    shape: torch.Size
    uses: list[Use]
    layout: str | None = None
    layouts: tuple[str, ...] = ()
    size: int = 0
    backprops: Tensor | None = None

    def belongs_to(self, size: int) -> bool:
        """Note the layouts that the shapes allow for a batch of this size; whether there is one."""
        shapes = [one.activations.shape for one in self.uses if one.activations is not None]
        sums_rows = all(one.sums_rows for one in self.uses)
        found: list[str] = []
        if self.shape[0] % size == 0 and all(shape[0] == self.shape[0] for shape in shapes):
            found += ["Bk", "kB"] if sums_rows and self.shape[0] > size else ["Bk"]
        if sums_rows and len(self.shape) > 2 and self.shape[1] == size:
            found += ["TB"] if all(shape[:2] == self.shape[:2] for shape in shapes) else []
        self.size, self.layouts = size, tuple(found)
        return bool(found)

    def arranged(self, tensor: Tensor, layout: str | None = None) -> Tensor:
        """The tensor as (B, ...), or (B, k, ...) for examples of several rows."""
        layout = layout or self.layout
        if layout == "TB":
            return tensor.transpose(0, 1)
        if tensor.shape[0] == self.size:
            return tensor
        if layout == "Bk":
            return tensor.unflatten(0, (self.size, -1))
        return tensor.unflatten(0, (-1, self.size)).transpose(0, 1)

    def gradients(
        self, operands: Container[int], rows: slice | Tensor | None, magnitudes: bool
    ) -> Iterator[tuple[Use, Tensor]]:
        """Each use of operands of these ids, with gradients (n, *operand.shape) of rows.

        With `magnitudes` these are those of the magnitudes of activations and backprops: a bound
        on what was summed, and so on how much of it is rounding.
        """
        g = widened(self.backprops if rows is None else self.backprops[rows])
        g = g.abs() if magnitudes else g
        several = self.layout == "TB" or self.shape[0] != self.size
        for one in self.uses:
            if id(one.operand) not in operands:
                continue
            x = one.activations
            if x is not None:
                x = self.arranged(x) if rows is None else self.arranged(x)[rows]
                if x.is_floating_point():
                    x = widened(x).abs() if magnitudes else widened(x)
            if one.sums_rows or not several:
                yield one, one.sampler(x, g)
            else:
                flat = one.sampler(x if x is None else x.flatten(0, 1), g.flatten(0, 1))
                yield one, flat.unflatten(0, g.shape[:2]).sum(dim=1)


class Recorder(TorchFunctionMode):
    """Notes each call of a function that the table knows.

    Attributes:
        calls: noted so far, in the order in which they ran.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._sampled = {id(m) for m in modules if type(m) in MODULE_SAMPLERS}
        self._inside: nn.Module | None = None
        self._aliases: dict[str, tuple[Tensor, Tensor]] = {}
        self._places: list[tuple[nn.Module, str, Tensor]] = []

    def listening(self) -> ExitStack:
        """Note what runs from now on, in compiled models too, until the stack is closed."""
        within = ExitStack()
        if self._sampled:  # hooks of all modules, for a copy of the model would keep its own
            left = register_module_forward_hook(self._left, with_kwargs=True, always_call=True)
            within.callback(left.remove)
            within.callback(register_module_forward_pre_hook(self._entered).remove)
        if "torch._dynamo" in sys.modules:  # else nothing can have been compiled
            within.enter_context(torch.compiler.set_stance("force_eager"))
        within.enter_context(self)
        return within

    def __torch_function__(
        self,
        function: Callable,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in OPENED and self._inside is None:
            with self:
                return OPENED[function](*args, **kwargs)
        reader = READERS.get(function)
        if reader is None or self._inside or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        transformed = torch._C._functorch.maybe_current_level() is not None
        read = None if transformed else reader(function, args, kwargs)
        if read is None:
            return function(*args, **kwargs)
        self._note(*read)
        return read[0]

    def _note(self, output: Tensor, uses: Sequence[Use | None]) -> None:
        own = [one for one in uses if one is not None]
        if own and output.dim() and output.is_floating_point() and output.grad_fn is not None:
            self.calls.append(Call(get_gradient_edge(output), output.shape, own))

    def _entered(self, module: nn.Module, _args: tuple[Any, ...]) -> None:
        """Give the parameters inside a module with a sampler of its own their aliases."""
        if self._inside or id(module) not in self._sampled or not torch.is_grad_enabled():
            return
        self._inside = module
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._aliases = {name: (p, aliased(p)) for name, p in trained.items()}
        by_id = {id(p): alias for p, alias in self._aliases.values()}
        for part in module.modules():
            for local, parameter in part._parameters.items():
                if id(parameter) in by_id:
                    self._places.append((part, local, parameter))
                    part._parameters[local] = by_id[id(parameter)]

    def _left(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        """Give the module its parameters back, and note the call if it is of the kind asked for."""
        if module is not self._inside:
            return
        for part, local, parameter in self._places:
            part._parameters[local] = parameter
        aliases, self._aliases, self._places, self._inside = self._aliases, {}, [], None
        if len(args) == 1 and not kwargs and all(isinstance(t, Tensor) for t in (*args, output)):
            uses = [
                use(p, alias, partial(_by_name, module, name, p.shape), args[0], sums_rows=False)
                for name, (p, alias) in aliases.items()
            ]
            self._note(output, uses)


def _by_name(module: nn.Module, name: str, shape: torch.Size, x: Tensor, g: Tensor) -> Tensor:
    """What a module's own sampler says of one of its parameters."""
    found = MODULE_SAMPLERS[type(module)](module, x, g).get(name)
    if found is None or found.shape != (len(g), *shape):
        what = "nothing" if found is None else f"a tensor of shape {tuple(found.shape)}"
        raise ValueError(
            f"the grad sampler of {type(module).__name__} gives {what} for its parameter "
            f"'{name}', where one gradient an example has shape {(len(g), *shape)}"
        )
    return found
