"""The projections of nn.MultiheadAttention, found in the graph, beside one backward a voter."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import consensus_lib as cl
from tests import oracle
from tests.zoo import loss_fn

BATCH, STEPS, WIDTH = 3, 5, 8


class Attends(nn.Module):
    def __init__(self, call, **settings):
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, 2, **{"batch_first": True} | settings)
        self.call = call

    def forward(self, x):
        return self.call(self.layer, x)


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


def checkpointed(layer, x):
    return checkpoint(itself, layer, x, use_reentrant=False)


WHOLE = {
    "layer.in_proj_weight",
    "layer.in_proj_bias",
    "layer.out_proj.weight",
    "layer.out_proj.bias",
}
IN = {name for name in WHOLE if "in_proj" in name}
OWN = {"layer.q_proj_weight", "layer.k_proj_weight", "layer.v_proj_weight", "layer.in_proj_bias"}
# (call, settings): the parameters for which one backward pass a voter is needed
VARIANTS = {
    "plain": (itself, {}, set()),
    "by name, without weights": (by_name, {}, set()),
    "dropout": (itself, {"dropout": 0.5}, set()),
    "padding": (padded, {}, set()),
    "time first": (time_first, {"batch_first": False}, set()),
    "twice": (twice, {}, set()),
    "no bias": (itself, {"bias": False}, set()),
    "zero attention": (itself, {"add_zero_attn": True}, set()),
    "learned key": (itself, {"add_bias_kv": True}, {"layer.bias_k", "layer.bias_v"}),
    "across": (across, {}, IN),
    "of other width": (of_other_width, {"kdim": 6, "vdim": 6}, OWN),
    "checkpointed": (checkpointed, {}, WHOLE),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_right_and_says_what_was_slow(variant):
    call, settings, slow = VARIANTS[variant]
    torch.manual_seed(0)
    model = Attends(call, **settings).double()
    inputs, targets = torch.randn(BATCH, STEPS, WIDTH).double(), torch.randn(BATCH).double()
    with cl.record(model) as tape:
        losses = loss_fn(model(inputs), targets)
    expected = oracle.gradients_by_loop(model, losses)
    report = tape.backward(losses, cl.Consensus())
    assert set(report.fallback) == slow
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            update = oracle.each_weight(oracle.consensus_veto, expected[name])
            torch.testing.assert_close(parameter.grad, update, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("frozen", ["in_proj_weight", "out_proj.weight", "in_proj_bias"])
def test_frozen_weights_leave_the_others_fast(frozen):
    model = Attends(itself).double()
    dict(model.layer.named_parameters())[frozen].requires_grad_(False)
    inputs, targets = torch.randn(BATCH, STEPS, WIDTH).double(), torch.randn(BATCH).double()
    left = WHOLE - {f"layer.{frozen}"}
    with cl.record(model) as tape:
        losses = loss_fn(model(inputs), targets)
    report = tape.backward(losses, cl.Consensus())
    # a bias alone is added in an operation of its own, which says nothing of a matrix product
    assert set(report.fallback) <= {n for n in left if n.endswith("bias")}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == left


def test_autocast_streams():
    model = Attends(itself, dropout=0.1)
    inputs, targets = torch.randn(BATCH, STEPS, WIDTH), torch.randn(BATCH)
    with cl.record(model) as tape, torch.autocast("cpu", torch.bfloat16):
        losses = loss_fn(model(inputs).float(), targets)
    expected = oracle.gradients_by_loop(model, losses)
    assert tape.backward(losses, cl.Mean()).fallback == ()
    for name, parameter in model.named_parameters():
        mean = expected[name].mean(dim=0)
        torch.testing.assert_close(parameter.grad, mean, rtol=0.05, atol=0.05 * mean.abs().max())


def test_the_module_holds_nothing_that_the_graph_does_not():
    """The input of the first projection is a copy of the module's own, which may be freed."""
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True, norm_first=True)
    with cl.record(layer) as tape:
        layer(torch.randn(BATCH, STEPS, WIDTH))
    saved = {
        tensor.untyped_storage().data_ptr()
        for node in nodes(tape._edges[-1].node)
        for tensor in (getattr(node, name, None) for name in ("_saved_mat1", "_saved_self"))
        if isinstance(tensor, torch.Tensor)
    }
    held = [c.inputs.untyped_storage().data_ptr() for c in tape._calls if "proj" in str(c.names)]
    assert len(held) == 2
    assert set(held) <= saved


def nodes(node):
    found = [node]
    for one in found:
        found += [p for p, _ in one.next_functions if p is not None and p not in found]
    return found
