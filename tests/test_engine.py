"""What streams and what takes the exact way; what must stay right in either; and the memory."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import consensus_lib as cl
from tests import oracle
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.problems import PROBLEMS
from tests.names import grad_sampler
from tests.steps import RULES, step
from tests.zoo import ZOO, Lambda, build, loss_fn, parameter

# what takes the exact way is slow, and may say so
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MAY_BE_SLOW = {"gru", "lstm", "sparse embedding"}
BOTH = pytest.mark.parametrize("rule", RULES, ids=repr)


def examples(n=4, *shape):
    return torch.randn(n, *(shape or (3,))).double(), torch.randn(n).double()


@pytest.mark.parametrize("kind", ZOO)
def test_only_what_has_no_formula_takes_the_exact_way_and_is_named(kind):
    animal = build(kind)
    for batch in (3, 3, 5):
        inputs, targets = animal.inputs(batch), torch.randn(batch).double()
        report = step(animal.model, lambda m, x=inputs, y=targets: loss_fn(m(x), y)).report
        assert kind in MAY_BE_SLOW or report.fallback == ()
        assert set(report.fallback) <= {name for name, _ in animal.model.named_parameters()}


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind not in MAY_BE_SLOW])
def test_small_chunks_and_voters_of_several_examples(kind):
    animal = build(kind)
    inputs, targets = animal.inputs(5), torch.randn(5).double()
    step(
        animal.model, lambda m: loss_fn(m(inputs), targets), voters=[5, 3, 5, 4, 3], chunk_bytes=500
    )


BUDGET = 2**23


def peak(problem, batch, rule=None, chunk_bytes=BUDGET):
    """Bytes of a step at its worst moment, and of the parameters."""
    workload = PROBLEMS[problem].make(batch, "cpu")

    def take():
        if rule is None:
            return workload.losses().mean().backward()
        with cl.record(workload.model, chunk_bytes) as tape:
            losses = workload.losses()
        return tape.backward(losses, rule)

    for _ in range(2):  # at which the rows are looked at
        take()
        workload.model.zero_grad()
    return peak_bytes(take, "cpu"), workload.parameter_bytes


MEASURED = [("mlp", 16), ("mlp", 128), ("convolutions", 64), ("encoder", 12), ("transformer", 12)]
ABSTAIN = cl.Consensus(zeros="abstain")


@pytest.mark.parametrize(
    ("problem", "batch", "rule"),
    [*((*case, cl.Consensus()) for case in MEASURED), ("mlp", 128, ABSTAIN),
     ("convolutions", 64, ABSTAIN), ("mlp", 16, cl.AndMask()), ("encoder", 12, cl.AndMask())],
)  # fmt: skip
def test_memory_is_bounded_by_the_parameters_and_a_fixed_budget(problem, batch, rule):
    ordinary, parameters = peak(problem, batch)
    assert peak(problem, batch, rule)[0] - ordinary <= 2 * parameters + BUDGET


def test_smaller_chunks_take_less_memory():
    large, small = (peak("convolutions", 32, ABSTAIN, size)[0] for size in (2**25, 2**20))
    assert small < large - 2**22


TIME_FIRST = lambda m, x: m.layer(x.transpose(0, 1)).tanh().transpose(0, 1)  # noqa: E731


@BOTH
@pytest.mark.parametrize("steps", [4, 5])
def test_rows_that_are_not_the_examples_are_found_out(steps, rule):
    model = Lambda(TIME_FIRST, layer=nn.Linear(3, 2)).double()
    inputs, targets = examples(4, steps, 3)
    for _ in range(2):
        step(model, lambda m: loss_fn(m(inputs), targets), rule)


@BOTH
@pytest.mark.parametrize("zero_steps", [1, 2, 5])
def test_gradients_of_zero_prove_nothing(zero_steps, rule):
    model = Lambda(TIME_FIRST, layer=nn.Linear(3, 2)).double()
    inputs, targets = examples(4, 4, 3)
    for number in range(zero_steps + 3):
        weight = float(number >= zero_steps)
        step(model, lambda m, w=weight: w * loss_fn(m(inputs), targets), rule)


# How one layer may be used, right in every case
USES = {
    "also where no formula looks": lambda m, x: m.layer(x) @ m.layer.weight,
    "in vain besides": lambda m, x: (m.layer(2 * x), m.layer(x))[1],
    "side by side": lambda m, x: m.layer(x) + m.other(x).tanh() + m.layer(x.sin()),
    "past a layer": lambda m, x: m.other(m.layer(x)) + m.layer(x),
    "by a slice": lambda m, x: x @ m.layer.weight[:, :2] + m.layer.bias[1:],
    "in a penalty": lambda m, x: m.layer(x) + m.layer.weight.square().sum(),
    "without gradients": lambda m, x: m.layer(x) * m.other(x).detach(),
    "for some examples": lambda m, x: torch.cat([m.layer(x[:1]), m.other(x[1:])]),
    "for a loop of examples": lambda m, x: torch.stack([m.layer(one) for one in x]),
    "after a shuffle": lambda m, x: m.layer(x.roll(1, 0)).roll(-1, 0),
}


@BOTH
@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_weight_counts(use, rule):
    model = Lambda(USES[use], layer=nn.Linear(3, 3), other=nn.Linear(3, 3)).double()
    inputs, targets = examples()
    for _ in range(2):
        step(model, lambda m: loss_fn(m(inputs), targets), rule)


# (forward pass of x and a bare parameter (1, 3), whether it must stream)
BARE = [
    (lambda x, b: x.sin() * b + b, True),
    (lambda x, b: b - x.sin() * b[0, :2].sum(), False),
    (lambda x, b: x @ b.view(3, 1), False),
    (lambda x, b: b.exp() * x, True),
    (lambda x, b: torch.add(x, b, alpha=2).sin(), False),
    (lambda x, b: x[:, :1].sin() * b, True),
    (lambda x, b: (x * b.detach()).sin() + b, True),
    (lambda x, b: (x * b.expand(5, 3)[0]).sin(), True),
    (lambda x, b: (x[:, None, :2] + b.unfold(1, 2, 1)[0]).sin(), True),
    (lambda x, b: (x + (view := b.view(3))) * view.exp(), True),
    (lambda x, b: (x.T * b.view(3, 1)).T.cos(), False),
]


@pytest.mark.parametrize(("forward", "streams"), BARE)
def test_bare_parameters(forward, streams):
    model = Lambda(lambda m, x: forward(x, m.bare), bare=parameter(1, 3)).double()
    for batch in (3, 1, 4, 3):
        inputs, targets = examples(batch)
        report = step(model, lambda m, x=inputs, y=targets: loss_fn(m(x), y)).report
        assert not (streams and report.fallback)


def test_a_use_of_a_view_that_comes_later_is_not_missed():
    model = Lambda(lambda m, x: m.later(x, m.bare), bare=parameter(1, 3)).double()
    inputs, targets = examples()
    for forward in (lambda x, b: (x * b.view(3)).sin(), lambda x, b: (x * b).sin() + b.exp()):
        model.later = forward
        for _ in range(2):
            step(model, lambda m: loss_fn(m(inputs), targets))


@BOTH
@pytest.mark.parametrize("kind", ["mlp", "positions", "transformer layer", "broadcast parameter"])
def test_checkpoints_and_autocast(kind, rule):
    animal = build(kind)
    inputs, targets = animal.inputs(3), torch.randn(3).double()
    run = lambda m: checkpoint(m, inputs, use_reentrant=False)  # noqa: E731
    step(animal.model, lambda m: loss_fn(run(m), targets), rule)
    animal.model.float()
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            step(animal.model, lambda m: loss_fn(m(inputs).float(), targets.float()), rule, tol=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(8,), (6, 8)], ids=str)
def test_autocast_streams(shape, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with cl.record(model) as tape, torch.autocast("cpu", torch.bfloat16):
        losses = model(torch.randn(2 + seed, *shape)).float().square().flatten(1).sum(dim=1)
    assert tape.backward(losses, cl.Consensus()).fallback == ()


def test_a_tape_may_be_read_inside_the_recording():
    model = Lambda(lambda m, x: (x * m.bare).sin(), bare=parameter(1, 3)).double()
    inputs, targets = examples()
    expected = oracle.gradients_by_loop(model, loss_fn(model(inputs), targets))["bare"]
    with cl.record(model) as tape:
        losses = loss_fn(checkpoint(model, inputs, use_reentrant=False), targets)
        statistics = tape.statistics(losses, cl.Mean().needs)
    torch.testing.assert_close(cl.Mean()(statistics)["bare"], expected.mean(dim=0))


def test_an_input_changed_in_place_is_refused():
    model, inputs = nn.Linear(3, 2), torch.randn(3, 3)
    with cl.record(model) as tape:
        losses = loss_fn(model(inputs), torch.zeros(3))
    inputs += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        tape.backward(losses, cl.Consensus())
    assert model.weight.grad is None


@pytest.mark.parametrize("wrong", [False, True])
def test_a_formula_of_ones_own_is_used_and_a_wrong_one_found_out(wrong):
    class Gain(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return torch.einsum("bi,i->bi", x, self.gain)

    asked = []

    @grad_sampler(Gain)
    def gain(module, activations, backprops):
        asked.append(1)
        return {"gain": backprops * (activations.abs() if wrong else activations)}

    model, (inputs, targets) = Gain().double(), examples()
    for _ in range(2):
        report = step(model, lambda m: loss_fn(m(inputs), targets)).report
        assert report.fallback == (("gain",) if wrong else ())
    assert asked
    if wrong:
        with pytest.raises(cl.GradientMismatch, match="parameter 'gain'"):
            cl.check_gradients(model, loss_fn, inputs, targets)
    else:
        cl.check_gradients(model, loss_fn, inputs, targets)


def test_a_formula_for_a_module_speaks_for_the_parameters_inside():
    class Whole(nn.Sequential):
        pass

    grad_sampler(Whole)(lambda m, x, grads: {"0.bare": (x * grads)[:, None]})
    model = Whole(Lambda(lambda m, x: x * m.bare, bare=parameter(1, 3))).double()
    inputs, targets = examples()
    assert step(model, lambda m: loss_fn(m(inputs), targets)).report.fallback == ()


@pytest.mark.parametrize("chunk_bytes", [4, 2**23])
def test_groups_of_different_shapes_are_one_batch(chunk_bytes):
    """Each recorded for itself and merged, in chunks smaller than a group."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)).double()
    inputs = [torch.randn(n, 2, 4 + n, 5).double() for n in (3, 1, 2)]
    targets = [torch.randn(len(x)).double() for x in inputs]
    losses = torch.cat([loss_fn(model(x), y) for x, y in zip(inputs, targets, strict=True)])
    gradients = oracle.gradients_by_loop(model, losses)
    merged = None
    for x, y in zip(inputs, targets, strict=True):
        with cl.record(model, chunk_bytes) as tape:
            found = loss_fn(model(x), y)
        statistics = tape.statistics(found, cl.Consensus().needs)
        merged = statistics if merged is None else merged.merge(statistics)
    report = cl.backward(model, loss_fn, inputs, targets, cl.Consensus())
    assert report.fallback == ()
    for name, p in model.named_parameters():
        expected = oracle.each_weight(oracle.consensus_veto, gradients[name])
        torch.testing.assert_close(p.grad, expected, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(cl.Consensus()(merged)[name], expected, rtol=1e-6, atol=1e-9)
