"""The check of a layer rule of one's own: is it right, does it say why not, and is it used?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import consensus_lib as cl
from course.checks.tensors import difference, kind
from course.checks.verdict import Verdict, not_yet, right, said

__all__ = ["check_layer_rule"]

LayerRule = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]


def check_layer_rule(rule: LayerRule, layer: nn.Module, inputs: Tensor) -> Verdict:
    """Is `rule`, registered with `cl.layer_rule`, right for this layer on these inputs?

    Args:
        rule: (module, inputs, grad_outputs) -> {parameter name: (B, *parameter.shape)}.
        layer: any module with parameters that maps one tensor (B, ...) to one tensor (B, ...).
        inputs: (B, ...), B at least 2.
    """
    if not callable(rule) or not isinstance(layer, nn.Module):
        return not_yet("expected the rule, a function, and then the layer, an nn.Module.")
    try:
        targets = _off_target(layer(inputs))
        expected, grad_outputs = _one_by_one(layer, inputs, targets)
    except Exception as error:
        return not_yet(f"the layer itself does not learn on these inputs: {said(error)}.")
    try:
        found = rule(copy.deepcopy(layer), inputs.detach().clone(), grad_outputs.clone())
    except Exception as error:
        return not_yet(f"your rule raised {said(error)}.")
    if fault := _misshapen(found, expected):
        return not_yet(fault)
    try:
        cl.check_gradients(layer, _half_squares, inputs, targets)
    except cl.GradientMismatch as mismatch:
        hints = (_hint(found[name], gradients) for name, gradients in expected.items())
        return not_yet(f"{mismatch}. {next(filter(None, hints), '')}".rstrip())
    with cl.record(layer) as tape:
        losses = _half_squares(layer(inputs), targets)
    if slow := tape.statistics(losses, cl.Consensus().needs).fallback:
        return not_yet(
            f"no rule was used for '{slow[0]}', which went the slow way: decorate yours with "
            f"@cl.layer_rule({type(layer).__name__})."
        )
    return right(f"check_gradients agrees at {', '.join(expected)}, and nothing went the slow way.")


def _half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance of each example from its target, (B,)."""
    return 0.5 * (outputs - targets).square().flatten(1).sum(dim=1)


def _off_target(outputs: Tensor) -> Tensor:
    """Random targets away from the outputs, for a zero gradient would agree with any rule.

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
    (grad_outputs,) = torch.autograd.grad(losses.sum(), outputs, retain_graph=True)
    rows = [
        torch.autograd.grad(loss, list(parameters.values()), retain_graph=True) for loss in losses
    ]
    stacks = map(torch.stack, zip(*rows, strict=True))
    return dict(zip(parameters, stacks, strict=True)), grad_outputs


def _misshapen(found: Any, expected: dict[str, Tensor]) -> str:
    """What cannot be one gradient an example, whatever its values are."""
    if not isinstance(found, dict):
        return f"your rule returned {kind(found)}. Expected {{parameter name: gradients}}."
    for name, gradients in expected.items():
        if name not in found:
            return f"your rule says nothing about the parameter '{name}'."
        got = found[name]
        if not isinstance(got, Tensor) or got.shape != gradients.shape:
            hint = ""
            if isinstance(got, Tensor) and got.shape == gradients.shape[1:]:
                hint = " The examples were summed up: keep dimension 0."
            elif isinstance(got, Tensor) and got.dim() > gradients.dim():
                hint = " Sum over what lies within one example."
            return (
                f"for '{name}' your rule returned {kind(got)}. Expected {tuple(gradients.shape)}, "
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
