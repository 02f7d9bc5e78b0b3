"""Stacked per-example gradients: the plain version that everyone can read, for study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consensus_lib.preconditions import (
    require_one_device,
    require_one_loss_per_example,
    require_separate_examples,
)
from consensus_lib.statistics import require_real

__all__ = ["per_example_gradients"]

LossFunction = Callable[[Tensor, Tensor], Tensor]


def per_example_gradients(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    """The gradient of each example's loss by each trainable parameter, all at once.

    It runs the model once per example, so dropout draws anew for each, and it needs B times the
    memory of the parameters: to train, use `record`. The examples run together under
    `torch.func.vmap`, or one after the other if the model has a layer that vmap cannot run
    (GRU and LSTM are such). Buffers and attributes that the model writes, or lists
    of its own that it fills, are as before.

    Args:
        model: any module whose examples do not see each other.
        loss_fn: (outputs, targets) -> one loss an example, (B,).
        inputs: (B, ...).
        targets: (B, ...).
        chunk_size: how many examples vmap runs at a time; None is all.

    Returns:
        {parameter name: (B, *parameter.shape)}, in the parameter's dtype.

    Raises:
        ValueError: for an empty batch, a wrongly shaped loss, BatchNorm in training mode, or
            inputs that are not on the model's device.
        TypeError: for a complex parameter.
    """
    require_one_device(model, inputs, targets)
    for module in model.modules():
        require_separate_examples(model, module)
    if len(inputs) == 0:
        raise ValueError(f"an empty batch, inputs of shape {tuple(inputs.shape)}, has no gradient")
    trainable = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    for name, parameter in trainable.items():
        require_real(name, parameter.dtype)
    buffers = dict(model.named_buffers())

    def loss_of_one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        state = parameters | {name: buffer.clone() for name, buffer in buffers.items()}
        losses = loss_fn(functional_call(model, state, (x.unsqueeze(0),)), y.unsqueeze(0))
        require_one_loss_per_example(losses, batch_size=1)
        return losses[0]

    gradient = grad(loss_of_one)
    batched = vmap(gradient, in_dims=(None, 0, 0), chunk_size=chunk_size, randomness="different")
    with _left_as_it_was(model):
        try:
            return batched(trainable, inputs, targets)
        except RuntimeError:
            rows = [gradient(trainable, x, y) for x, y in zip(inputs, targets, strict=True)]
    return {name: torch.stack([row[name].to_dense() for row in rows]) for name in trainable}


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what the model sets on itself: a tensor of torch.func is of no use outside of it."""
    attributes = [vars(module) for module in model.modules()]
    inner = [v for own in attributes for v in own.values() if isinstance(v, list | dict | set)]
    before = [(container, copy(container)) for container in [*attributes, *inner]]
    try:
        yield
    finally:
        for container, old in before:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(old)
