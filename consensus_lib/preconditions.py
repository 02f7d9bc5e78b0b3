"""What a model, a batch and its losses must be like: one clear error each where they are not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from consensus_lib.statistics import require_real

__all__ = [
    "require_one_device",
    "require_one_loss_per_example",
    "require_readable_losses",
    "require_separate_examples",
]

_WRAPPERS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}


def require_separate_examples(model: nn.Module) -> list[nn.Module]:
    """All modules of a model; raises ValueError, with its name, where one mixes the examples."""
    modules = list(model.modules())
    for module in modules:
        doubt = _doubt(type(module))
        if doubt is not None and (fault := doubt(module)):
            name = next(name for name, other in model.named_modules() if other is module)
            raise ValueError(f"layer '{name}' ({type(module).__name__}) {fault}")
    return modules


@cache
def _doubt(kind: type[nn.Module]) -> Callable[[nn.Module], str] | None:
    """What tells the fault of a module of this type; None where none has any."""
    if wrapper := _WRAPPERS & {base.__name__ for base in kind.__mro__}:
        return lambda module: (
            f"is wrapped in {min(wrapper)}, which averages gradients or splits a batch by itself: "
            "record the module inside it, and let processes share by "
            "tape.statistics(...).all_reduce()"
        )
    if issubclass(kind, _BatchNorm):
        return lambda module: (
            "normalizes over the batch, so that no example has a gradient of its own: use "
            "GroupNorm or LayerNorm, or call eval() on the layer to normalize by its running "
            "statistics"
            if module.training or module.running_mean is None
            else ""
        )
    if issubclass(kind, nn.Embedding | nn.EmbeddingBag):
        return lambda module: (
            "divides a gradient by how often its token occurs in the batch, so that no example "
            "has a gradient of its own: make it with scale_grad_by_freq=False"
            if module.scale_grad_by_freq and module.weight.requires_grad
            else ""
        )
    return None


def require_one_loss_per_example(losses: Tensor, batch_size: int | None = None) -> None:
    """Raise ValueError unless losses has the shape (B,), B >= 1 and, if given, B = batch_size."""
    shape = tuple(losses.shape)
    if len(shape) != 1:
        raise ValueError(
            f"the losses have shape {shape}, but one loss an example is needed, shape (B,): "
            "compute them with reduction='none' and average over every dimension but the first"
        )
    if shape[0] == 0:
        raise ValueError("an empty batch has no gradient: the losses have shape (0,)")
    if batch_size is not None and shape[0] != batch_size:
        raise ValueError(
            f"the losses have shape {shape}, but the batch has {batch_size} example"
            f"{'s' if batch_size > 1 else ''}: one loss an example is needed, shape ({batch_size},)"
        )


def require_readable_losses(losses: Tensor) -> None:
    """Raise ValueError unless there is one loss an example, with a graph; FloatingPointError,
    naming the example, for a nan or inf.
    """
    require_one_loss_per_example(losses)
    require_real("the losses", losses.dtype)
    if not losses.requires_grad:
        raise ValueError(
            "the losses carry no graph: run the model and the loss without torch.no_grad() and "
            "without detach()"
        )
    finite = torch.isfinite(losses.detach())
    if not finite.all():
        example = int((~finite).nonzero()[0])
        raise FloatingPointError(
            f"the loss of example {example} is {losses[example].item()}: look at that example, or "
            "lower the learning rate"
        )


def require_one_device(model: nn.Module, *tensors: Tensor) -> None:
    """Raise ValueError if a tensor is on another device than the model, unless it is on several."""
    devices = {p.device for p in model.parameters()}
    for tensor in tensors:
        if len(devices) == 1 and tensor.device not in devices:
            (device,) = devices
            raise ValueError(
                f"the model is on {device}, but a tensor of the batch is on {tensor.device}: "
                f"move it with .to('{device}')"
            )
