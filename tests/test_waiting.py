"""On a device the host waits for it a fixed number of times a pass, however many the layers."""

import warnings
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import consensus_lib as cl
from consensus_lib import linear, report, rules
from consensus_lib.linear import outer_product_statistics
from consensus_lib.statistics import Stack
from tests.test_linear import ALL
from tests.zoo import Affine, Scale, loss_fn

# numbers, shapes and branches that depend on what a tensor holds
OPERATIONS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"}
METHODS = {"tolist", "cpu", "numpy"}


class _Operations(TorchDispatchMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        self.seen.update({name} & OPERATIONS)
        return function(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.update({getattr(function, "__name__", "")} & METHODS)
        return function(*args, **(kwargs or {}))


@contextmanager
def looks():
    """Counts, by name, all for which the host would wait for a device."""
    seen = Counter()
    with _Operations(seen), _Methods(seen):
        yield seen


@pytest.fixture
def elsewhere(monkeypatch):
    """As on a device, where a look at numbers is not free."""
    for module in (linear, report, rules):
        monkeypatch.setattr(module, "looks_are_free", lambda tensor: False)


def perceptron(layers):
    pairs = (part for _ in range(layers) for part in (nn.Linear(160, 160), nn.ReLU()))
    return nn.Sequential(*pairs), (160,)


def convolutions(layers):
    pairs = (part for _ in range(layers) for part in (nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()))
    return nn.Sequential(*pairs, nn.GroupNorm(1, 2)), (2, 5, 5)


def encoder(layers):
    blocks = (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(layers)
    )
    return nn.Sequential(*blocks), (4, 8)


def recurrent(layers):
    rnns = (nn.RNN(4, 4, batch_first=True) for _ in range(layers))
    return nn.Sequential(*(part for rnn in rnns for part in (rnn, First()))), (3, 4)


def bare(layers):
    pairs = (part for _ in range(layers) for part in (Affine(), Scale(), nn.Linear(3, 4)))
    return nn.Sequential(*pairs), (4,)


class First(nn.Module):
    """The first of several outputs."""

    def forward(self, outputs):
        return outputs[0]


MODELS = {m.__name__: m for m in (perceptron, convolutions, encoder, recurrent, bare)}
RULES = [cl.Consensus(), cl.Consensus("abstain"), cl.AndMask(), cl.RandomMask()]
BATCHES = {
    "a batch": ([5], None),
    "voters": ([5], [3, 1, 1, 3, 2]),
    "groups": ([3, 2], None),
    "groups and voters": ([3, 2], [3, 1, 1, 3, 2]),
}


def one_step(model, shape, rule, sizes, voters, device="cpu"):
    inputs = [torch.randn(size, *shape, device=device) for size in sizes]
    targets = [torch.randn(size, device=device) for size in sizes]
    return lambda: cl.backward(model, loss_fn, inputs, targets, rule, voters)


def counted(kind, layers, rule, batch):
    """The looks of a first step, which is also proved, of a second, and of reading its report."""
    if kind == "perceptron":  # int8 products are tried once in a process, for each shape
        one_step(*MODELS[kind](1), rule, *BATCHES[batch])()
    model, shape = MODELS[kind](layers)
    found = []
    for _ in range(2):
        step = one_step(model, shape, rule, *BATCHES[batch])
        with looks() as seen:
            report = step()
        found.append(seen)
    with looks() as seen:
        assert report.total.size == sum(p.numel() for p in model.parameters())
    return [*found, seen]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("batch", BATCHES)
def test_looks_do_not_grow_with_the_layers(elsewhere, kind, rule, batch):
    few, many = (counted(kind, layers, rule, batch) for layers in (2, 6))
    assert few == many
    assert few[0].total() > 0  # that all gradients are finite is looked at


def test_the_shortcuts_of_the_cpu_are_seen_by_the_count():
    few, many = (counted("perceptron", n, cl.Consensus(), "a batch")[1] for n in (2, 6))
    assert many.total() >= few.total() + 4


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_without_looks_the_update_is_the_same(monkeypatch, rule):
    model, shape = perceptron(2)
    found = []
    for free in (True, False):
        for module in (linear, report, rules):
            monkeypatch.setattr(module, "looks_are_free", lambda tensor, free=free: free)
        model.zero_grad()
        torch.manual_seed(0)
        one_step(model, shape, rule, [7], None)()
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("needs", [*({s} for s in ALL), ALL], ids=repr)
@pytest.mark.parametrize("chunk", [1, 2**23])
def test_the_statistics_of_a_linear_layer_need_no_look(needs, chunk):
    """Whatever depends on numbers raises on the meta device, which has none."""
    activations, backprops = (torch.empty(5, n, device="meta") for n in (200, 100))
    stack = Stack(torch.empty(5, 100, 200, device="meta"))
    found = outer_product_statistics(activations, backprops, frozenset(needs), chunk)
    for need in needs:
        assert (found[need].shape, found[need].dtype) == (stack[need].shape, stack[need].dtype)
        assert found[need].is_meta


@pytest.mark.cuda
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("batch", BATCHES)
def test_on_a_gpu_the_driver_counts_as_many_for_more_layers(kind, batch):
    found = []
    for layers in (2, 6):
        model, shape = MODELS[kind](layers)
        step = one_step(model.cuda(), shape, cl.Consensus(), *BATCHES[batch], device="cuda")
        step()  # proves, and warms up
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found.append(sum("synchronizing" in str(warning.message) for warning in seen))
    assert found[0] == found[1]
