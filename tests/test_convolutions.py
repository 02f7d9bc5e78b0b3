"""Convolutions of random settings, recorded, beside one backward pass for each example."""

import random

import pytest
import torch
from torch import nn

from tests.steps import RULES, step

PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NEAR = {torch.float32: 1e-3, torch.float64: 1e-9}
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
        "bias": draw.random() < 0.8,
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


def losses(outputs):
    flat = outputs.flatten(1)
    return (flat * torch.linspace(-1, 1, flat.shape[1], dtype=flat.dtype).cos() + flat.sin()).sum(1)


@pytest.mark.parametrize("dtype", NEAR, ids=str)
@pytest.mark.parametrize("kinds", [PLAIN, TRANSPOSED], ids=["plain", "transposed"])
@pytest.mark.parametrize("seed", range(8))
def test_random_settings(kinds, dtype, seed):
    torch.manual_seed(seed)
    layer, shape = random_layer(random.Random(seed), kinds)
    x = torch.randn(3, *shape, dtype=dtype)
    for rule in RULES:
        report = step(layer.to(dtype), lambda m: losses(m(x)), rule, tol=NEAR[dtype]).report
        assert report.fallback == ()


@pytest.mark.parametrize("chunk_bytes", [1, 2**23])
@pytest.mark.parametrize("size", [6, 40])
@pytest.mark.parametrize(("before", "after"), CHANNELS)
def test_small_and_large_images_that_are_not_contiguous(before, after, size, chunk_bytes):
    layer = nn.Conv2d(before, after, 3, padding=1).double()
    x = torch.randn(4, size, size, before).double().movedim(3, 1)

    def turned(m):
        return losses(m(x).mT.roll(1, 2))

    assert step(layer, turned, chunk_bytes=chunk_bytes).report.fallback == ()
