"""What a model, a batch and its losses must be like: one clear error each where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "may_mix_examples",
    "require_one_device",
    "require_one_loss_per_example",
    "require_separate_examples",
    "voter_indices",
    "voter_of",
]


def may_mix_examples(module: nn.Module) -> bool:
    """Whether a module is of a kind that can leave no example a gradient of its own."""
    return isinstance(module, _BatchNorm) or getattr(module, "scale_grad_by_freq", False)


def require_separate_examples(model: nn.Module, module: nn.Module) -> None:
    """Raise ValueError if `module`, a part of `model`, mixes the examples of a batch."""
    if isinstance(module, _BatchNorm):
        mixes = module.training or module.running_mean is None
        how = "normalizes over the batch"
        instead = (
            "use GroupNorm or LayerNorm, or call eval() on the layer to normalize by its running "
            "statistics"
        )
    else:
        mixes = may_mix_examples(module) and module.weight.requires_grad
        how = "divides a gradient by how often its token occurs in the batch"
        instead = "make it with scale_grad_by_freq=False"
    if mixes:
        name = next(n for n, m in model.named_modules() if m is module)
        raise ValueError(
            f"layer '{name}' ({type(module).__name__}) {how}, so that no example has a gradient "
            f"of its own: {instead}"
        )


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


def require_one_device(model: nn.Module, *tensors: Tensor) -> None:
    """Raise ValueError if a tensor is not on the model's device.

    A model spread over several devices moves its inputs itself and is not checked.
    """
    devices = {p.device for p in model.parameters()}
    if len(devices) != 1:
        return
    (device,) = devices
    for tensor in tensors:
        if tensor.device != device:
            raise ValueError(
                f"the model is on {device}, but a tensor of the batch is on {tensor.device}: "
                f"move it with .to('{device}')"
            )


def voter_indices(voters: Sequence[int] | Tensor | None, batch_size: int) -> list[Tensor]:
    """For each voter, in ascending order of its id, the indices of its examples.

    Args:
        voters: one integer id an example, (B,); None makes every example a voter.
        batch_size: B.

    Raises:
        ValueError: if the length is not B.
        TypeError: if an id is not an integer.
    """
    if voters is None:
        return list(torch.arange(batch_size).split(1))
    ids = torch.as_tensor(voters).cpu()
    if ids.shape != (batch_size,):
        raise ValueError(
            f"voters has shape {tuple(ids.shape)}, but the batch has {batch_size} examples: give "
            f"one voter id an example, shape ({batch_size},)"
        )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"voter ids are integers, not {ids.dtype}")
    return [(ids == voter).nonzero().flatten() for voter in ids.unique()]


def voter_of(examples: Tensor, groups: Sequence[Tensor] | None) -> int:
    """The first voter that has one of these examples; without groups each example is a voter."""
    bad = set(examples.tolist())
    if groups is None:
        return min(bad)
    return next(v for v, own in enumerate(groups) if bad & set(own.tolist()))
