"""The check of a grad sampler of one's own: is it right, does it say why not, and is it used?"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import consensus_lib as cl
from course.checks.tensors import difference, kind
from course.checks.verdict import Verdict, not_yet, right, said

__all__ = ["check_grad_sampler"]

_FEWEST = 3  # of fewer the library takes one backward pass each, and asks no sampler

GradSampler = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]


def check_grad_sampler(sampler: GradSampler, layer: nn.Module, inputs: Tensor) -> Verdict:
    """Is `sampler`, registered with `cl.grad_sampler`, right for this layer on these inputs?

    Args:
        sampler: (module, activations, backprops) -> {parameter name: (B, *parameter.shape)}.
        layer: any module with parameters that maps one tensor (B, ...) to one tensor (B, ...).
        inputs: (B, ...), B at least 3: fewer are not streamed.
    """
    if not callable(sampler) or not isinstance(layer, nn.Module):
        return not_yet("expected the grad sampler, a function, and then the layer, an nn.Module.")
    if not isinstance(inputs, Tensor) or inputs.dim() == 0 or len(inputs) < _FEWEST:
        return not_yet(f"expected inputs (B, ...) of at least {_FEWEST} examples.")
    try:
        targets = _off_target(layer(inputs))
        expected, backprops = _one_by_one(layer, inputs, targets)
    except Exception as error:
        return not_yet(f"the layer itself does not learn on these inputs: {said(error)}.")
    try:
        found = sampler(copy.deepcopy(layer), inputs.detach().clone(), backprops.clone())
    except Exception as error:
        return not_yet(f"your sampler raised {said(error)}.")
    if fault := _misshapen(found, expected):
        return not_yet(fault)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exact way: the verdict says it
        try:
            cl.check_gradients(layer, _half_squares, inputs, targets)
        except cl.GradientMismatch as mismatch:
            hints = (_hint(found[name], gradients) for name, gradients in expected.items())
            return not_yet(f"{mismatch}. {next(filter(None, hints), '')}".rstrip())
        with cl.record(layer) as tape:
            losses = _half_squares(layer(inputs), targets)
        slow = tape.statistics(losses, cl.Consensus().needs).fallback
    if slow:
        return not_yet(
            f"no grad sampler was used for '{slow[0]}', which took the exact way: decorate yours "
            f"with @cl.grad_sampler({type(layer).__name__})."
        )
    return right(
        f"check_gradients agrees at {', '.join(expected)}, and nothing took the exact way."
    )


def _half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance of each example from its target, (B,)."""
    return 0.5 * (outputs - targets).square().flatten(1).sum(dim=1)


def _off_target(outputs: Tensor) -> Tensor:
    """Random targets away from the outputs, for a zero gradient would agree with any sampler.

    Their seed is none that a reader would choose: with numbers equal to the inputs, products
    are symmetric, and a transposed answer would pass.
    """
    noise = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(846_264_338))
    return outputs.detach() + noise.to(outputs)


def _one_by_one(
    layer: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """{parameter name: (B, *shape)} by a backward pass an example; the gradient by the outputs."""
    parameters = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    outputs = layer(inputs)
    losses = _half_squares(outputs, targets)
    (backprops,) = torch.autograd.grad(losses.sum(), outputs, retain_graph=True)
    rows = [
        torch.autograd.grad(loss, list(parameters.values()), retain_graph=True) for loss in losses
    ]
    stacks = map(torch.stack, zip(*rows, strict=True))
    return dict(zip(parameters, stacks, strict=True)), backprops


def _misshapen(found: Any, expected: dict[str, Tensor]) -> str:
    """What cannot be one gradient an example, whatever its values are."""
    if not isinstance(found, dict):
        return f"your sampler returned {kind(found)}. Expected {{parameter name: gradients}}."
    for name, gradients in expected.items():
        if name not in found:
            return f"your sampler says nothing about the parameter '{name}'."
        got = found[name]
        if not isinstance(got, Tensor) or got.shape != gradients.shape:
            hint = ""
            if isinstance(got, Tensor) and got.shape == gradients.shape[1:]:
                hint = " The examples were summed up: keep dimension 0."
            elif isinstance(got, Tensor) and got.dim() > gradients.dim():
                hint = " Sum over what lies within one example."
            return (
                f"for '{name}' your sampler returned {kind(got)}. Expected {tuple(gradients.shape)}, "
                f"one gradient an example.{hint}"
            )
    return ""


def _hint(got: Tensor, expected: Tensor) -> str:
    if not difference(got, expected):
        return ""
    if got.dim() > 2 and not difference(got.mT, expected):
        return "It is the transpose of the right answer."
    if not difference(got, expected.sum(dim=0).expand_as(expected)):
        return "Each row has the sum over all examples: row b is of example b alone."
    if not difference(-got, expected):
        return "It has the wrong sign."
    return "Write out one entry of the output, and differentiate it by one weight."
