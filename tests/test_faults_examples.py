"""Rows that are not the examples: from the first step on, and from a later one."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import consensus_lib as cl
from tests.steps import RULES, Outcome, gradients_of, mlp, observed_step, step
from tests.zoo import Affine

B = 6
MIXERS = {
    "centred": lambda o: o - o.mean(0),
    "standardised": lambda o: (o - o.mean(0)) / (1 + o.var(0, unbiased=False)).sqrt(),
    "softmax": lambda o: o.softmax(0),
    "attending": lambda o: (o @ o.T).softmax(1) @ o,
    "rolled": lambda o: o.roll(1, 0),
    "cumulated": lambda o: o.cumsum(0),
    "flipped": lambda o: o.flip(0),
    "sorted": lambda o: o[o[:, 0].argsort()],
}
# one look finds these for certain: every example touches a neighbour's row on a single circle
CERTAIN = ["centred", "standardised", "softmax", "attending", "rolled"]
MODELS = {
    "mlp": lambda: (mlp(5, 16, 3), torch.randn(B, 5)),
    "conv": lambda: (
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.GroupNorm(3, 3)),
        torch.randn(B, 2, 5, 5),
    ),
    "tokens": lambda: (
        nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3), nn.LayerNorm(3)),
        torch.randint(9, (B, 4)),
    ),
    "encoder": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        torch.randn(B, 3, 8),
    ),
    "bare": lambda: (Affine(), torch.randn(B, 4)),
}
PAIRS = [*((mixer, "mlp") for mixer in CERTAIN), *(("centred", kind) for kind in MODELS)]
THREE = [0, 0, 1, 1, 2, 2]  # voters, to whom it matters which row belongs to which example
BOTH = pytest.mark.parametrize("rule", RULES, ids=repr)


def made(kind):
    model, x = MODELS[kind]()
    return model.double(), x.double() if x.is_floating_point() else x


def loss(o):
    """A smooth loss, different for each row."""
    return (o.sin() * torch.linspace(1, 2, len(o), dtype=o.dtype)[:, None]).sum(1)


def faded(x, mix, weight):
    """Losses in which `mix` has a weight; the graph looks alike at every weight."""

    def losses_of(model):
        o = model(x).flatten(1)
        return loss(o + weight * (mix(o) - o))

    return losses_of


@BOTH
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mixer", MIXERS)
def test_the_first_step_is_right_and_no_doubt_is_said(mixer, kind, rule):
    model, x = made(kind)
    for _ in range(3):
        assert not step(model, faded(x, MIXERS[mixer], 0.5), rule).doubts


@BOTH
@pytest.mark.parametrize(("mixer", "kind"), PAIRS)
def test_what_is_faded_in_later_is_always_found_at_once(mixer, kind, rule):
    model, x = made(kind)
    for weight in (0.0, 0.0, 0.5, 0.5):
        step(model, faded(x, MIXERS[mixer], weight), rule, prove="always")


@pytest.mark.parametrize(("mixer", "kind"), PAIRS)
@pytest.mark.parametrize("onset", [2, 3, 5])
def test_what_is_faded_in_later_is_found_at_the_next_look_and_said_once(onset, mixer, kind):
    model, x = made(kind)
    look = 1 << (onset - 1).bit_length()
    outcomes = [
        observed_step(model, faded(x, MIXERS[mixer], 0.5 * (number >= onset)))
        for number in range(1, look + 3)
    ]
    assert_right([o for number, o in enumerate(outcomes, 1) if number < onset or number >= look])
    (doubt,) = (text for outcome in outcomes for text in outcome.doubts)
    assert outcomes[look - 1].doubts == [doubt]
    assert any((name.rpartition(".")[0] or name) in doubt for name, _ in model.named_parameters())


def assert_right(outcomes: list[Outcome], tol: float = 1e-9):
    assert max(off for outcome in outcomes for off in outcome.off.values()) <= tol


def test_a_fault_after_100_steps_is_found_by_step_128():
    model, x = made("mlp")
    for number in range(1, 131):
        outcome = observed_step(model, faded(x, MIXERS["rolled"], 0.5 * (number >= 100)))
        if number < 100 or number >= 128:
            assert_right([outcome])
        if number == 128:
            assert len(outcome.doubts) == 1


@pytest.mark.parametrize("mixer", ["cumulated", "flipped", "sorted", "swapped"])
def test_what_few_draws_may_miss_is_found_within_some_steps(mixer):
    """A look sees that two examples are mixed with a chance of about a half."""
    swapped = torch.tensor([0, 2, 1, 3, 4, 5])
    mix = MIXERS.get(mixer, lambda o: o[swapped])
    model, x = made("mlp")
    step(model, faded(x, mix, 0.0), prove="always")
    for _ in range(20):
        outcome = observed_step(model, faded(x, mix, 0.5), prove="always")
    assert_right([outcome])


def test_a_penalty_on_the_batch_alone():
    model, x = made("mlp")
    for weight in (0.0, 0.5):
        step(model, lambda m, w=weight: loss(o := m(x)) + w * (o - o.mean(0)).square().sum(1))


@BOTH
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("shifts", "prove"), [((0, 1), "auto"), ((0, 0, 1, 2), "always")])
def test_an_order_that_is_undone_after_the_model(shifts, prove, kind, rule):
    model, x = made(kind)
    for shift in shifts:  # at the second step there is a look
        order = torch.arange(B).roll(shift)
        losses_of = lambda m, o=order: loss(m(x[o]).flatten(1)[o.argsort()])  # noqa: E731
        step(model, losses_of, rule, THREE, **({} if prove == "auto" else {"prove": prove}))


@BOTH
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("sizes", [(1, 6), (1, 1, 1, 5), (4, 1, 6), (2, 3, 2)])
def test_a_batch_of_one_proves_nothing(sizes, kind, rule):
    model, x = made(kind)
    for size in sizes:
        step(model, lambda m, n=size: loss(m(x[:n]).flatten(1).cumsum(0)), rule)


# Each changes a model before a step of this number, and returns the outputs (B, ...) of that step
def trains_only(model, number):
    """First the last layer trains, then also the one before, which has time first."""
    model[0].requires_grad_(number >= 3)
    return lambda x: model[2](model[0](x.transpose(0, 1)).tanh().transpose(0, 1))


def only_in_eval(model, number):
    model.train(number < 3)
    return lambda x: model(x) if model.training else (o := model(x)) - o.mean(0)


def forward_hook(model, number):
    if number == 3:
        model[0].register_forward_hook(lambda module, args, o: o.roll(1, 0))
    return model


def full_backward_hook(model, number):
    if number == 3:
        model[1].register_full_backward_hook(lambda module, g, _: (g[0].roll(1, 0),))
    return model


def one_more_operation(model, number):
    return lambda x: model(x).roll(1, 0) if number >= 3 else model(x)


CHANGES = [trains_only, only_in_eval, forward_hook, full_backward_hook, one_more_operation]


@BOTH
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_a_recording_that_looks_different_is_looked_at_at_once(change, rule):
    model, x = mlp(5, 5, 3).double(), torch.randn(B, B, 5).double()
    for number in range(1, 5):
        run = change(model, number)
        step(model, lambda _, f=run: loss(f(x).flatten(1)), rule, THREE)


GRADIENT_HOOKS = {
    "rolled": lambda g: g.roll(1, 0),
    "centred": lambda g: g - g.mean(0),
    "of norm one": lambda g: g / g.norm(),
    "clipped": lambda g: g.clamp(-0.1, 0.1),
    "doubled": lambda g: 2 * g,
}


@BOTH
@pytest.mark.parametrize("hook", GRADIENT_HOOKS)
@pytest.mark.parametrize("on", ["tensor", "module", "parameter"])
def test_hooks_on_gradients_act_as_in_ordinary_passes(on, hook, rule):
    model, x = made("mlp")
    change = GRADIENT_HOOKS[hook]
    if on == "module":
        model[1].register_full_backward_hook(lambda module, g, _: (change(g[0]),))
    if on == "parameter":
        model[0].weight.register_hook(change)

    def losses_of(model):
        h = model[0](x)
        if on == "tensor":
            h.register_hook(change)
        return loss(model[2](model[1](h)))

    for _ in range(3):
        step(model, losses_of, rule, THREE)


@pytest.mark.parametrize("amount", [1e-3, 1e-6])
@pytest.mark.parametrize("kind", MODELS)
def test_a_mixing_however_small_is_found(kind, amount):
    for settings, weights in (({}, (amount,) * 2), ({"prove": "always"}, (0.0, 0.0, amount))):
        model, x = made(kind)
        for weight in weights:
            step(model, faded(x, MIXERS["centred"], weight), tol=1e-4 * amount, **settings)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize(("dtype", "n"), [(torch.bfloat16, 256), (torch.float16, 32)])
def test_a_contrastive_loss_in_half_precision(dtype, n, autocast):
    model = mlp(32, 64, 16)
    x, u = torch.randn(n, 32), F.normalize(torch.randn(n, 16), dim=1)
    if not autocast:
        model, x = model.to(dtype), x.to(dtype)

    def losses_of(m):
        with torch.autocast("cpu", dtype, enabled=autocast):
            z = m(x)
        logits = u @ F.normalize(z.float(), dim=1).T / 0.1
        return F.cross_entropy(logits, torch.arange(n), reduction="none")

    for _ in range(2):
        step(model, losses_of, voters=[i * 4 // n for i in range(n)], tol=5e-2)


def passes(model, losses_of, **settings):
    """How often a step goes backward through the losses."""
    seen = []
    with cl.record(model, **settings) as tape:
        losses = losses_of(model)
    handle = losses.grad_fn.register_prehook(lambda grads: seen.append(1))
    tape.backward(losses, cl.Consensus())
    handle.remove()
    return len(seen)


def test_never_proves_nothing_and_always_proves_at_every_step():
    model, x = made("mlp")
    losses_of = lambda m: loss(m(x))  # noqa: E731
    assert [passes(model, losses_of, prove="never") for _ in range(4)] == [1] * 4
    assert min(passes(model, losses_of, prove="always") for _ in range(6)) > 1
    auto = [passes(made_once, losses_of) for made_once in [made("mlp")[0]] for _ in range(9)]
    assert [number for number, count in enumerate(auto, 1) if count > 1] == [1, 2, 4, 8]


def test_an_unknown_way_to_prove_is_refused():
    with pytest.raises(ValueError, match="always"), cl.record(nn.Linear(2, 1), prove="often"):
        pass


def test_the_oracle_sees_mixed_rows():
    """The gradient of one example's centred loss is not that of the example alone."""
    model, x = made("mlp")
    mixed = gradients_of(model, faded(x, MIXERS["centred"], 1.0)(model))["2.weight"]
    alone = gradients_of(model, faded(x, MIXERS["centred"], 0.0)(model))["2.weight"]
    assert not torch.allclose(mixed, alone)
