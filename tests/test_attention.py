"""nn.MultiheadAttention in all its variants, beside one backward pass for each example."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import consensus_lib as cl
from tests import oracle
from tests.steps import RULES, step
from tests.zoo import Lambda, loss_fn

BATCH, STEPS, WIDTH = 3, 5, 8

# what takes the exact way is slow, and may say so
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def itself(layer, x, **settings):
    return layer(x, x, x, **settings)[0]


def time_first(layer, x):
    return itself(layer, x.transpose(0, 1)).transpose(0, 1)


def twice(layer, x):
    return itself(layer, itself(layer, x))


def across(layer, x):
    return layer(x, x.flip(1), x.flip(1))[0]


def of_other_width(layer, x):
    return layer(x, x[..., :6], x[..., :6])[0]


def by_name(layer, x):
    return layer(query=x, key=x, value=x, need_weights=False)[0]


def padded(layer, x):
    absent = torch.arange(STEPS).expand(BATCH, STEPS) >= torch.tensor([[5], [3], [4]])
    return itself(layer, x, key_padding_mask=absent)


def causal(layer, x):
    return itself(layer, x, attn_mask=torch.ones(STEPS, STEPS, dtype=torch.bool).triu(1))


def checkpointed(layer, x):
    return checkpoint(itself, layer, x, use_reentrant=False)


# (call, settings, whether every parameter must stream)
VARIANTS = {
    "plain": (itself, {}, True),
    "by name, without weights": (by_name, {}, True),
    "dropout": (itself, {"dropout": 0.5}, True),
    "padding": (padded, {}, True),
    "causal": (causal, {}, True),
    "time first": (time_first, {"batch_first": False}, True),
    "twice": (twice, {}, True),
    "no bias": (itself, {"bias": False}, True),
    "zero attention": (itself, {"add_zero_attn": True}, True),
    "learned key": (itself, {"add_bias_kv": True}, False),
    "across": (across, {}, False),
    "of other width": (of_other_width, {"kdim": 6, "vdim": 6}, False),
    "checkpointed": (checkpointed, {}, False),
}


def attends(call, **settings):
    layer = nn.MultiheadAttention(WIDTH, 2, **{"batch_first": True} | settings)
    return Lambda(lambda m, x: call(m.layer, x), layer=layer)


def batch():
    return torch.randn(BATCH, STEPS, WIDTH), torch.randn(BATCH)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_right(variant, rule):
    call, settings, streams = VARIANTS[variant]
    model, (x, y) = attends(call, **settings).double(), batch()
    for _ in range(2):
        report = step(model, lambda m: loss_fn(m(x.double()), y.double()), rule).report
        assert not (streams and report.fallback)


@pytest.mark.parametrize("frozen", ["in_proj_weight", "out_proj.weight", "in_proj_bias"])
def test_frozen_weights_leave_the_others(frozen):
    model, (x, y) = attends(itself).double(), batch()
    dict(model.layer.named_parameters())[frozen].requires_grad_(False)
    report = step(model, lambda m: loss_fn(m(x.double()), y.double())).report
    # a bias alone is added in an operation of its own
    assert all(name.endswith("bias") for name in report.fallback)
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {n for n, _ in model.named_parameters()} - {f"layer.{frozen}"}


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_layers_with_masks_and_dropout_stream(norm_first):
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            WIDTH, 2, 16, dropout=0.3, batch_first=True, norm_first=norm_first
        ),
        num_layers=2,
        enable_nested_tensor=False,
    ).double()
    x, y = batch()
    absent = torch.arange(STEPS).expand(BATCH, STEPS) >= torch.tensor([[5], [3], [4]])
    for _ in range(2):
        report = step(
            model, lambda m: loss_fn(m(x.double(), src_key_padding_mask=absent), y.double())
        ).report
        assert report.fallback == ()


def test_autocast_streams():
    model, (x, y) = attends(itself, dropout=0.1), batch()
    with cl.record(model) as tape, torch.autocast("cpu", torch.bfloat16):
        losses = loss_fn(model(x).float(), y)
    expected = oracle.gradients_by_loop(model, losses)
    assert tape.backward(losses, cl.Mean()).fallback == ()
    for name, parameter in model.named_parameters():
        mean = expected[name].mean(dim=0)
        torch.testing.assert_close(parameter.grad, mean, rtol=0.05, atol=0.05 * mean.abs().max())
