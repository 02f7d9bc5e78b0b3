"""The fast engine: which parameters stream, and what happens to those that must not."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import consensus_lib as cl
from consensus_lib.graph import Graph
from consensus_lib.proof import _PROOFS
from tests import oracle
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.problems import PROBLEMS
from tests.zoo import ZOO, build, loss_fn

SLOW = {"batch norm in eval", "gru", "lstm"}
SLOW |= {"bare parameter"}  # one of its uses is neither a sum nor a product with examples


def consensus_and_oracle(model, inputs, targets, forward=None, rtol=1e-5, atol=1e-7):
    """The report, and whether every update is the consensus of ordinary gradients."""
    forward = model if forward is None else forward
    model.zero_grad()
    with cl.record(model) as tape:
        losses = loss_fn(forward(inputs), targets)
    gradients = oracle.gradients_by_loop(model, losses)
    report = tape.backward(losses, cl.Consensus())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            expected = oracle.each_weight(oracle.consensus_veto, gradients[name])
            torch.testing.assert_close(
                parameter.grad.to_dense().double(), expected, rtol=rtol, atol=atol
            )
    return report


@pytest.mark.parametrize("kind", ZOO)
def test_only_unknown_layers_take_the_slow_way_and_are_named(kind):
    animal = build(kind)
    report = consensus_and_oracle(animal.model, animal.inputs(3), torch.randn(3).double())
    assert bool(report.fallback) == (kind in SLOW)
    assert set(report.fallback) <= {name for name, _ in animal.model.named_parameters()}


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind not in SLOW])
@pytest.mark.parametrize("voters", [None, [5, 3, 5, 4, 3]])
def test_small_chunks_give_the_same(kind, voters):
    animal = build(kind)
    inputs, targets = animal.inputs(5), torch.randn(5).double()
    for parameter in animal.model.parameters():
        parameter.grad = None
    with cl.record(animal.model, chunk_bytes=500) as tape:
        losses = loss_fn(animal.model(inputs), targets)
    gradients = oracle.gradients_by_loop(animal.model, losses)
    if voters is not None:
        gradients = oracle.voter_means(gradients, voters)
    tape.backward(losses, cl.Consensus(zeros="abstain"), voters)
    for name, parameter in animal.model.named_parameters():
        if parameter.requires_grad:
            expected = oracle.each_weight(oracle.consensus_abstain, gradients[name])
            torch.testing.assert_close(parameter.grad.to_dense(), expected, rtol=1e-6, atol=1e-9)


BUDGET = 2**23
MEMORY_RULES = [cl.Consensus(), cl.Consensus(zeros="abstain"), cl.AndMask()]


@pytest.mark.parametrize("rule", MEMORY_RULES, ids=repr)
@pytest.mark.parametrize(
    ("problem", "batch"), [("mlp", 16), ("mlp", 128), ("convolutions", 64), ("encoder", 48)]
)
def test_memory_is_bounded_by_the_parameters_and_a_fixed_budget(problem, batch, rule):
    def peak(backward):
        workload = PROBLEMS[problem].make(batch, "cpu")
        found = 0
        for _ in range(2):  # the first step is also proved
            workload.model.zero_grad()
            found = peak_bytes(lambda: backward(workload), "cpu")
        return found, workload.parameter_bytes

    def ours(workload):
        with cl.record(workload.model, BUDGET) as tape:
            losses = workload.losses()
        tape.backward(losses, rule)

    ordinary, parameters = peak(lambda workload: workload.losses().mean().backward())
    assert peak(ours)[0] - ordinary <= 2 * parameters + BUDGET


def test_the_earliest_layers_are_those_that_depend_on_no_other():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(4))
    x = torch.randn(3, 2)
    a, b = layers[0](x), layers[1](x)  # side by side
    c = layers[2](a + b) + a  # past a layer
    losses = layers[3](c).sum(dim=1)
    nodes = [t.grad_fn for t in (a, b, c)]
    graph = Graph(losses)
    assert graph.earliest(nodes) == set(nodes[:2])
    assert graph.earliest(nodes[2:]) == {c.grad_fn}
    assert all(graph.uses[id(p)] == 1 for p in layers.parameters())
    assert layers[0](x).grad_fn not in graph


class TimeFirst(nn.Module):
    """Calls its layer with time as dimension 0, which a layer rule takes for the example."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).tanh().transpose(0, 1)


@pytest.mark.parametrize("steps", [4, 5])
def test_rows_that_are_not_the_examples_are_found_out(steps):
    model = TimeFirst().double()
    inputs, targets = torch.randn(4, steps, 3).double(), torch.randn(4).double()
    for _ in range(2):  # the second time by the stored proof
        report = consensus_and_oracle(model, inputs, targets)
        assert report.fallback == ("layer.weight", "layer.bias")


def test_gradients_of_zero_prove_nothing():
    model = TimeFirst().double()
    inputs, targets = torch.randn(4, 4, 3).double(), torch.randn(4).double()
    with cl.record(model) as tape:
        losses = loss_fn(model(inputs), targets) * 0
    tape.backward(losses, cl.Consensus())
    report = consensus_and_oracle(model, inputs, targets)
    assert report.fallback == ("layer.weight", "layer.bias")


class Sneaky(nn.Module):
    """Uses a layer's weight also where no layer rule looks."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) @ self.layer.weight


def test_a_use_outside_the_layer_is_not_missed():
    report = consensus_and_oracle(
        Sneaky().double(), torch.randn(3, 3).double(), torch.randn(3).double()
    )
    assert report.fallback == ("layer.weight",)


class Bare(nn.Module):
    """A view of a bare parameter, added to the examples and, if asked, used once more."""

    def __init__(self, forward):
        super().__init__()
        self.bare, self.run = nn.Parameter(torch.randn(1, 3)), forward

    def forward(self, x):
        return self.run(x, self.bare)


def twice(x, bare):
    view = bare.view(3)
    return (x + view) * view.exp()


def examples_last(x, bare):
    return (x.T * bare.view(3, 1)).T.cos()


@pytest.mark.parametrize(
    ("forward", "streams"),
    [
        (lambda x, bare: x.sin() * bare + bare, True),
        (lambda x, bare: bare - x.sin() * bare[0, :2].sum(), False),
        (lambda x, bare: x @ bare.view(3, 1), False),
        (lambda x, bare: bare.exp() * x, False),
        (lambda x, bare: torch.add(x, bare, alpha=2).sin(), False),
        (lambda x, bare: x[:, :1].sin() * bare, False),
        (lambda x, bare: (x * bare.detach()).sin() + bare, True),
        (lambda x, bare: (x * bare.expand(5, 3)[0]).sin(), True),
        (lambda x, bare: (x[:, None, :2] + bare.unfold(1, 2, 1)[0]).sin(), False),
        (lambda x, bare: (x[:, None, :2].repeat(1, 2, 1) * bare.unfold(1, 2, 1)[0]).sin(), True),
        (twice, False),
        (examples_last, False),
    ],
)
def test_bare_parameters_stream_where_they_are_added_or_multiplied(forward, streams):
    model = Bare(forward).double()
    for batch_size in (1, 3, 4):
        if forward is not examples_last or batch_size == 3:
            inputs, targets = torch.randn(batch_size, 3).double(), torch.randn(batch_size).double()
            report = consensus_and_oracle(model, inputs, targets)
            assert report.fallback == (() if streams else ("bare",))


def test_a_use_of_a_view_that_comes_later_is_not_missed():
    """The proof is stored by then: the graph alone can tell."""
    model = Bare(lambda x, bare: (x * bare.view(3)).sin()).double()
    inputs, targets = torch.randn(4, 3).double(), torch.randn(4).double()
    assert consensus_and_oracle(model, inputs, targets).fallback == ()
    model.run = lambda x, bare: (x * (view := bare.view(3))).sin() + view.exp()
    assert consensus_and_oracle(model, inputs, targets).fallback == ("bare",)


def test_bare_parameters_stream_under_checkpointing_autocast_and_groups():
    model = Bare(lambda x, bare: (x * bare).sin() + bare).double()
    inputs, targets = torch.randn(4, 3).double(), torch.randn(4).double()
    report = consensus_and_oracle(
        model, inputs, targets, lambda x: checkpoint(model, x, use_reentrant=False)
    )
    assert report.fallback == ()
    expected = model.bare.grad.clone()
    model.zero_grad()
    report = cl.backward(
        model, loss_fn, [inputs[:1], inputs[1:]], [targets[:1], targets[1:]], cl.Consensus()
    )
    assert report.fallback == ()
    torch.testing.assert_close(model.bare.grad, expected)
    half = nn.Sequential(nn.Linear(3, 3), Bare(lambda x, bare: x * bare))
    with torch.autocast("cpu", torch.bfloat16):
        report = consensus_and_oracle(half, inputs.float(), targets.float(), rtol=1e-2, atol=1e-2)
    assert report.fallback == ()


def test_compiled_models_with_bare_parameters_are_right():
    for kind in ("scale and shift", "positions"):
        animal = build(kind)
        torch.compiler.reset()
        report = consensus_and_oracle(
            animal.model,
            animal.inputs(3),
            torch.randn(3).double(),
            torch.compile(animal.model, backend="eager"),
        )
        assert report.fallback == ()


def test_a_tape_may_be_read_inside_the_recording():
    model = Bare(lambda x, bare: (x * bare).sin()).double()
    inputs, targets = torch.randn(4, 3).double(), torch.randn(4).double()
    expected = oracle.gradients_by_loop(model, loss_fn(model(inputs), targets))["bare"]
    with cl.record(model) as tape:
        losses = loss_fn(checkpoint(model, inputs, use_reentrant=False), targets)
        statistics = tape.statistics(losses, cl.Mean().needs)
    assert statistics.fallback == ()
    torch.testing.assert_close(cl.Mean()(statistics)["bare"], expected.mean(dim=0))


def test_a_rule_for_a_module_speaks_for_the_bare_parameters_inside(monkeypatch):
    monkeypatch.setattr("consensus_lib.layers._READERS", {})
    cl.layer_rule(nn.Sequential)(lambda m, x, grads: {"0.bare": (x * grads)[:, None]})
    model = nn.Sequential(Bare(lambda x, bare: x * bare)).double()
    inputs, targets = torch.randn(4, 3).double(), torch.randn(4).double()
    assert consensus_and_oracle(model, inputs, targets).fallback == ()


def test_an_output_that_no_loss_needs_is_no_use():
    class Wasteful(Sneaky):
        def forward(self, x):
            self.layer(2 * x)
            return self.layer(x)

    consensus_and_oracle(Wasteful().double(), torch.randn(3, 3).double(), torch.randn(3).double())


def test_parametrized_weights_are_right():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).double()
    consensus_and_oracle(model, torch.randn(3, 3).double(), torch.randn(3).double())


def test_inputs_that_are_not_contiguous_are_right():
    model = nn.Conv2d(2, 3, 3).double()
    inputs = torch.randn(3, 5, 6, 2).double().permute(0, 3, 1, 2)
    report = consensus_and_oracle(model, inputs, torch.randn(3).double())
    assert report.fallback == ()


def test_checkpointed_layers_are_right_and_reentrant_ones_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    inputs, targets = torch.randn(3, 3).double(), torch.randn(3).double()
    consensus_and_oracle(
        model, inputs, targets, lambda x: checkpoint(model, x, use_reentrant=False)
    )
    with cl.record(model) as tape:
        outputs = checkpoint(model, inputs.requires_grad_(), use_reentrant=True)
    with pytest.raises(ValueError, match="use_reentrant=False"):
        tape.backward(loss_fn(outputs, targets), cl.Consensus())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(8,), (6, 8)], ids=str)
def test_autocast_streams(shape, seed):
    """The ordinary gradient, which proves ours, is rounded to bf16 on its way."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with cl.record(model) as tape, torch.autocast("cpu", torch.bfloat16):
        losses = model(torch.randn(2 + seed, *shape)).float().square().flatten(1).sum(dim=1)
    assert tape.backward(losses, cl.Consensus()).fallback == ()


def test_autocast_gives_the_update_to_the_precision_it_has():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    inputs, targets = torch.randn(2, 8), torch.randn(2)
    updates = []
    for enabled in (False, True):
        model.zero_grad()
        with cl.record(model) as tape, torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = loss_fn(model(inputs).float(), targets)
        report = tape.backward(losses, cl.Consensus())
        assert report.fallback == ()
        updates.append(model[2].weight.grad)
    torch.testing.assert_close(*updates, rtol=0.05, atol=0.05)


def test_an_input_changed_in_place_is_refused():
    model = nn.Linear(3, 2)
    inputs = torch.randn(3, 3)
    with cl.record(model) as tape:
        losses = loss_fn(model(inputs), torch.zeros(3))
    inputs += 1
    with pytest.raises(RuntimeError, match="input of layer '' was changed in place"):
        tape.backward(losses, cl.Consensus())
    assert model.weight.grad is None


class Gain(nn.Module):
    """A student's own layer."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.gain * x


@pytest.mark.parametrize("wrong", [False, True])
def test_a_rule_of_ones_own_is_used_and_a_wrong_one_named(wrong, monkeypatch):
    monkeypatch.setattr("consensus_lib.layers._READERS", {})

    @cl.layer_rule(Gain)
    def gain(module, inputs, grad_outputs):
        return {"gain": grad_outputs * (inputs.abs() if wrong else inputs)}

    model, inputs, targets = Gain().double(), torch.randn(4, 3).double(), torch.randn(4).double()
    report = consensus_and_oracle(model, inputs, targets)
    assert report.fallback == (("gain",) if wrong else ())
    if wrong:
        with pytest.raises(cl.GradientMismatch, match=r"parameter 'gain'"):
            cl.check_gradients(model, loss_fn, inputs, targets)
    else:
        cl.check_gradients(model, loss_fn, inputs, targets)


def test_a_proof_is_made_once_for_each_kind_of_recording():
    model = nn.Linear(3, 2).double()
    for batch_size in (4, 7, 5):
        inputs = torch.randn(batch_size, 3).double()
        consensus_and_oracle(model, inputs, torch.randn(batch_size).double())
    assert len(_PROOFS[model]) == 1


def test_groups_stream_with_voters_across_them():
    model = nn.Conv2d(2, 3, 3).double()
    inputs = [torch.randn(2, 2, 4, 5).double(), torch.randn(3, 2, 5, 4).double()]
    targets = [torch.randn(len(x)).double() for x in inputs]
    report = cl.backward(model, loss_fn, inputs, targets, cl.Consensus(), voters=[0, 1, 1, 0, 2])
    assert report.fallback == ()
    assert report.voters == 3


def test_chunks_may_miss_a_group(monkeypatch):
    monkeypatch.setattr("consensus_lib.recording.record", partial(cl.record, chunk_bytes=4))
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)).double()
    inputs = [torch.randn(n, 2, 4 + n, 5).double() for n in (3, 1, 2)]
    targets = [torch.randn(len(x)).double() for x in inputs]
    losses = torch.cat([loss_fn(model(x), y) for x, y in zip(inputs, targets, strict=True)])
    gradients = oracle.gradients_by_loop(model, losses)
    report = cl.backward(model, loss_fn, inputs, targets, cl.Consensus())
    assert report.fallback == ()
    for name, parameter in model.named_parameters():
        expected = oracle.each_weight(oracle.consensus_veto, gradients[name])
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-9)
