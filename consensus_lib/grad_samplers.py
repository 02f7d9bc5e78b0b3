"""One formula a kind of operation: the gradient of each example by what the operation shared.

An operation takes *activations*, whose rows belong to examples, and an *operand*, the same for
all of them: a weight, a bias, a scale, a token put before every sentence. From the activations
and the *backprops*, the gradient of the summed losses by the output, follows

    (activations (n, ...), backprops (n, ...)) -> per-example gradients (n, *operand.shape)

where row i needs row i of both alone: a *grad sampler*. The table below is asked whenever a
function of torch runs in a recording. Add a formula for a module of your own with `grad_sampler`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn import functional as F  # noqa: N812 - its usual name

from consensus_lib.convolutions import weight_gradients

__all__ = ["MODULE_SAMPLERS", "OPENED", "READERS", "Use", "aliased", "grad_sampler", "use"]

Sampler = Callable[[Tensor | None, Tensor], Tensor]
ModuleSampler = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
Result = tuple[Tensor, list["Use | None"]]
# of (function, arguments, keyword arguments): the output, and a use for each operand; None for a
# call of which the table knows no formula
Reader = Callable[[Callable, Sequence[Any], dict[str, Any]], Result | None]

READERS: dict[Callable, Reader] = {}
MODULE_SAMPLERS: dict[type[nn.Module], ModuleSampler] = {}


@dataclass(eq=False, slots=True)
class Use:
    """One operand of one operation.

    Attributes:
        operand: what all examples share.
        alias: its node in the graph that no other operation has.
        sampler: the formula.
        activations: what the formula is given beside the backprops, detached; None if nothing.
        sums_rows: whether the formula takes (n, k, ...) as well, for examples of k rows each.
        version: how often operand and activations had been changed in place.
    """

    operand: Tensor
    alias: Node
    sampler: Sampler
    activations: Tensor | None
    sums_rows: bool
    version: int = 0

    def version_now(self) -> int:
        """How often operand and activations have been changed in place so far."""
        x = self.activations
        return self.operand._version + (0 if x is None or x.is_inference() else x._version)


def aliased(operand: Any) -> Any:
    """A view that gives this one use of the operand a node of its own in the graph."""
    known = type(operand) in (Tensor, nn.Parameter)  # a subclass may mean something else by a view
    return operand.view_as(operand) if known and operand.requires_grad else operand


def use(
    operand: Tensor | None,
    alias: Tensor | None,
    sampler: Sampler,
    activations: Tensor | None = None,
    sums_rows: bool = True,
) -> Use | None:
    """The use of an operand, None where it has no gradient."""
    if operand is None or alias is operand:
        return None
    held = None if activations is None else activations.detach()
    one = Use(operand, alias.grad_fn, sampler, held, sums_rows)
    one.version = one.version_now()
    return one


def grad_sampler(*module_types: type[nn.Module]) -> Callable[[ModuleSampler], ModuleSampler]:
    """Decorate the grad sampler of modules of exactly these types.

    It is a function (module, activations, backprops) -> {local parameter name: gradients}:
    activations (n, ...) is the one tensor that the module was called with, backprops (n, ...)
    the gradient of the summed losses by its one output, gradients (n, *parameter.shape). It
    speaks for all parameters inside the module. Prove it with `check_gradients`.

    >>> @grad_sampler(MyScale)
    ... def my_scale(module, activations, backprops):
    ...     return {"scale": backprops * activations}
    """

    def register(sampler: ModuleSampler) -> ModuleSampler:
        MODULE_SAMPLERS.update(dict.fromkeys(module_types, sampler))
        return sampler

    return register


def _reads(*functions: Callable) -> Callable[[Reader], Reader]:
    """Decorate the reader of calls of these functions of torch."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(functions, reader))
        return reader

    return register


def _given(names: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """{name: value} of the arguments of a call."""
    return dict(zip(names.split(), args, strict=False)) | kwargs


# -- sums that the formulas share -------------------------------------------------------------


def _sum_to(g: Tensor, shape: Sequence[int], trailing: int = 0) -> Tensor:
    """(n, ...) summed to (n, *shape) over all that it was broadcast along, and trailing ones."""
    aligned = (1,) * (g.dim() - len(shape) - trailing) + tuple(shape) + (1,) * trailing
    over = [i for i in range(1, g.dim()) if aligned[i] == 1 and g.shape[i] != 1]
    return (g.sum(dim=over) if over else g).reshape(len(g), *shape)


def sum_positions(_: Tensor | None, g: Tensor) -> Tensor:
    """(n, ..., d) summed to (n, d)."""
    return g.flatten(1, -2).sum(dim=1) if g.dim() > 2 else g


def inner_products(x: Tensor, g: Tensor) -> Tensor:
    """Of (n, ..., in) and (n, ..., out), their products summed over positions: (n, in, out)."""
    if g.dim() == 2:
        return x.unsqueeze(2) * g.unsqueeze(1)
    return torch.bmm(x.flatten(1, -2).transpose(1, 2), g.flatten(1, -2))


def outer_products(x: Tensor, g: Tensor) -> Tensor:
    """The same as (n, out, in)."""
    return inner_products(g, x)


# -- products of matrices ---------------------------------------------------------------------


@_reads(F.linear)
def _linear(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """weight (out, in): backprops times activations; bias (out,): backprops."""
    given = _given("input weight bias", args, kwargs)
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    if x.dim() < 2 or weight.dim() != 2:
        return None
    w, b = aliased(weight), aliased(bias)
    return function(x, w, b), [use(weight, w, outer_products, x), use(bias, b, sum_positions)]


@_reads(
    *(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.mm, torch.Tensor.mm),
    *(torch.addmm, torch.Tensor.addmm),
)
def _matmul(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """weight (in, out): activations times backprops; what `addmm` adds: backprops."""
    if kwargs or len(args) not in (2, 3):
        return None
    bias, x, weight = args if len(args) == 3 else (None, *args)
    if x.dim() < 2 or weight.dim() != 2 or (bias is not None and bias.dim() > 1):
        return None
    w, b = aliased(weight), aliased(bias)

    def shift(_: None, g: Tensor) -> Tensor:
        return _sum_to(sum_positions(None, g), bias.shape)

    output = function(x, w) if bias is None else function(b, x, w)
    return output, [use(weight, w, inner_products, x), use(bias, b, shift)]


_TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


@_reads(torch.conv1d, torch.conv2d, torch.conv3d, *_TRANSPOSED)
def _convolution(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """weight: sum over positions of backprops times the window that each saw; bias: backprops."""
    transposed = function in _TRANSPOSED
    rest = "output_padding groups dilation" if transposed else "dilation groups"
    given = _given(f"input weight bias stride padding {rest}", args, kwargs)
    x, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
    if x.dim() != weight.dim():  # without a dimension for examples
        return None
    w, b = aliased(weight), aliased(bias)
    output = function(x, w, b, **given)
    given.pop("output_padding", None)
    space = tuple(range(2, x.dim()))

    def sampler(x: Tensor, g: Tensor) -> Tensor:
        seen, seeing = (g, x) if transposed else (x, g)
        return weight_gradients(seen, seeing, weight.shape[2:], **given)

    return output, [
        use(weight, w, sampler, x, sums_rows=False),
        use(bias, b, lambda _, g: g.sum(dim=space), sums_rows=False),
    ]


@_reads(F.embedding)
def _embedding(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """weight (tokens, width): each backprop added where its token stands; none for padding."""
    names = "input weight padding_idx max_norm norm_type scale_grad_by_freq sparse"
    given = _given(names, args, kwargs)
    tokens, weight, padding = given["input"], given["weight"], given.get("padding_idx")
    by_frequency, sparse = given.get("scale_grad_by_freq"), given.get("sparse")
    if by_frequency or sparse or given.get("max_norm") is not None or tokens.dim() < 1:
        return None
    w = aliased(weight)
    count, width = weight.shape

    def sampler(tokens: Tensor, g: Tensor) -> Tensor:
        tokens = tokens.reshape(len(tokens), -1)
        rows = g.reshape(*tokens.shape, width)
        if padding is not None:
            rows = rows * (tokens != padding % count).unsqueeze(2)
        places = tokens.unsqueeze(2).expand_as(rows)
        return rows.new_zeros(len(rows), count, width).scatter_add_(1, places, rows)

    return function(tokens, w, padding), [use(weight, w, sampler, tokens)]


_NORMALIZATIONS = {
    F.layer_norm: "input normalized_shape weight bias eps",
    F.rms_norm: "input normalized_shape weight eps",
    F.group_norm: "input num_groups weight bias eps",
    F.batch_norm: "input running_mean running_var weight bias training momentum eps",
}


@_reads(*_NORMALIZATIONS)
def _normalized(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """weight: backprops times normalized activations; bias: backprops; summed to their shape."""
    given = _given(_NORMALIZATIONS[function], args, kwargs)
    x, weight, bias = given.pop("input"), given.pop("weight", None), given.pop("bias", None)
    over_batch = given.get("training") or given.get("running_mean", x) is None
    # weight and bias are those of the last dimensions, or of the channels, in dimension 1
    last = len(given["normalized_shape"]) if "normalized_shape" in given else x.dim() - 1
    trailing = 0 if "normalized_shape" in given else x.dim() - 2
    if over_batch or x.dim() <= last:
        return None
    w, b = aliased(weight), aliased(bias)
    operands = {k: t for k, t in (("weight", w), ("bias", b)) if t is not None}

    def scale(x: Tensor, g: Tensor) -> Tensor:
        return _sum_to(g * function(x, **given), weight.shape, trailing)

    def shift(_: None, g: Tensor) -> Tensor:
        return _sum_to(g, bias.shape, trailing)

    of_last = last < x.dim() - 1
    return function(x, **given, **operands), [
        use(weight, w, scale, x, sums_rows=of_last),
        use(bias, b, shift, sums_rows=of_last),
    ]


# -- element by element -----------------------------------------------------------------------

_T = torch.Tensor
_ADD = {torch.add, _T.add, _T.__add__, _T.__radd__, _T.add_, _T.__iadd__}
_SUB = {torch.sub, _T.sub, _T.__sub__, _T.sub_, _T.__isub__}
_MUL = {torch.mul, _T.mul, _T.__mul__, _T.__rmul__, torch.multiply}
_DIV = {torch.div, _T.div, _T.__truediv__, torch.true_divide}
_IN_PLACE = {_T.add_, _T.__iadd__, _T.sub_, _T.__isub__}


def _shared(operand: Any, other: Any) -> bool:
    """Whether an operand meets every row of another tensor."""
    if not (isinstance(operand, Tensor) and operand.requires_grad and other.dim()):
        return False
    repeated = operand.dim() == other.dim() and operand.shape[0] == 1 < other.shape[0]
    return operand.dim() < other.dim() or repeated


@_reads(*_ADD, *_SUB, *_MUL, *_DIV)
def _elementwise(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """Of a sum: backprops; of a product: times the other factor; summed to the operand's shape."""
    if kwargs or len(args) != 2 or not all(isinstance(t, Tensor) for t in args):
        return None
    second = _shared(args[1], args[0])
    if not second and (function in _IN_PLACE or not _shared(*args)):
        return None
    operand, other = (args[1], args[0]) if second else args
    shape = torch.broadcast_shapes(operand.shape, other.shape)
    alias, held = aliased(operand), operand.detach()
    output = function(other, alias) if second else function(alias, other)
    sign = -1 if second and function in _SUB else 1

    def shift(_: None, g: Tensor) -> Tensor:
        return sign * _sum_to(g, operand.shape)

    def scale(x: Tensor, g: Tensor) -> Tensor:
        if function in _MUL:
            return _sum_to(g * x, operand.shape)
        return _sum_to(-g * x / held.square() if second else g / x, operand.shape)

    of_last = operand.dim() <= len(shape) - 2 or (len(shape) == 2 and operand.dim() < 2)
    if function in _ADD | _SUB:
        return output, [use(operand, alias, shift, sums_rows=of_last)]
    return output, [use(operand, alias, scale, other.expand(shape), sums_rows=of_last)]


@_reads(_T.expand, _T.expand_as, _T.repeat, torch.broadcast_to, _T.broadcast_to)
def _expanded(function: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Result | None:
    """What is repeated for every example, such as a class token: backprops."""
    operand = args[0]
    if kwargs or not operand.requires_grad:
        return None
    alias = aliased(operand)
    output = function(alias, *args[1:])
    copies = output.dim() > 0 and output.shape[0] > 1
    for_all = copies and (operand.dim() < output.dim() or operand.shape[0] == 1)
    if not for_all or (output.shape[1:].numel() != operand.numel() and function is _T.repeat):
        return output, []
    return output, [use(operand, alias, lambda _, g: _sum_to(g, operand.shape), sums_rows=False)]


# -- functions that are made of others --------------------------------------------------------


def _opened(function: Callable) -> Callable:
    """A copy that does not hand itself over to a mode, so that the mode sees its parts."""
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    copy = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


OPENED = {F.multi_head_attention_forward: _opened(F.multi_head_attention_forward)}
