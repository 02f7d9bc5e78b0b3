"""Layer rules of convolutions, over random settings, beside one backward pass for each example."""

import random

import pytest
import torch
from torch import nn

from consensus_lib import convolutions
from consensus_lib.convolutions import convolution, transposed

PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
# sums over up to thousands of cells
NEAR = {torch.float32: {"rtol": 1e-4, "atol": 1e-3}, torch.float64: {"rtol": 1e-9, "atol": 1e-9}}
CHANNELS = [(3, 5), (9, 2), (8, 16), (16, 8), (24, 8), (1, 1), (16, 3)]


def random_layer(draw, kinds):
    dims = draw.choice([1, 2, 2, 2, 3])
    some = lambda low, high: tuple(draw.randint(low, high) for _ in range(dims))  # noqa: E731
    before, after = draw.choice(CHANNELS)
    groups = draw.choice([1, 1, 1, 2])
    settings = {
        "stride": draw.choice([1, 1, some(1, 3)]),
        "dilation": draw.choice([1, 1, some(1, 3)]),
        "padding": draw.choice([0, some(0, 2)]),
        "groups": groups,
    }
    if kinds is PLAIN and draw.random() < 0.5:
        settings["padding_mode"] = draw.choice(["reflect", "replicate", "circular"])
    if kinds is PLAIN and draw.random() < 0.2:
        settings |= {"padding": "same", "stride": 1}
    layer = kinds[dims](before * groups, after * groups, some(1, 3), **settings)
    if kinds is TRANSPOSED:
        # torch allows as much output padding as is less than the stride or the dilation
        most = [max(pair) - 1 for pair in zip(layer.stride, layer.dilation, strict=True)]
        layer.output_padding = tuple(draw.randint(0, m) for m in most)
    # any run of an example leaves an output: windows reach 7 cells at most
    return layer, (before * groups, *some(8, 11))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kinds", [PLAIN, TRANSPOSED], ids=["plain", "transposed"])
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("large", [0, 2**18], ids=["large", "small"])
def test_as_one_backward_pass_for_each_example(kinds, dtype, seed, large, monkeypatch):
    monkeypatch.setattr(convolutions, "_LARGE", large)
    torch.manual_seed(seed)
    layer, shape = random_layer(random.Random(seed), kinds)
    layer = layer.to(dtype)
    inputs = torch.randn(3, *shape, dtype=dtype)
    outputs = layer(inputs)
    back = torch.randn_like(outputs)
    with torch.no_grad():
        found = (convolution if kinds is PLAIN else transposed)(layer, inputs, back)
    for i in range(3):
        for name, parameter in layer.named_parameters():
            (expected,) = torch.autograd.grad(outputs[i], parameter, back[i], retain_graph=True)
            torch.testing.assert_close(found[name][i], expected, **NEAR[dtype])


@pytest.mark.parametrize(("before", "after"), CHANNELS)
def test_inputs_that_are_not_contiguous(before, after, monkeypatch):
    monkeypatch.setattr(convolutions, "_LARGE", 0)
    layer = nn.Conv2d(before, after, 3, padding=1)
    inputs, back = torch.randn(4, 6, 5, before), torch.randn(4, 6, 5, after)
    strided = convolution(layer, inputs.movedim(3, 1), back.movedim(3, 1))
    packed = convolution(layer, inputs.movedim(3, 1).contiguous(), back.movedim(3, 1).contiguous())
    for name, gradients in packed.items():
        torch.testing.assert_close(strided[name], gradients, **NEAR[torch.float32])
