"""No cliffs: what costs one pass for the batch must not cost one for each example.

Counted are passes backward through the losses and torch's operations, never seconds.
"""

import warnings

import pytest
import torch
from torch import nn
from torch.autograd.profiler import profile
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

import consensus_lib as cl
from tests.steps import RULES, mlp, observed_step, step
from tests.test_faults_layers import losses_of, weight_norm_of_the_old_kind
from tests.zoo import HFConv1D, Lambda, class_token, feed_forward, parameter, words_and_places

T, D = 5, 6


def encoder(m, x):
    x = torch.cat([m.token.repeat(len(x), 1, 1), x], 1) + m.places
    return m.layers(x)[:, 0]


def bare(run, shape=(D,)):
    """A bare parameter beside a layer."""
    return lambda: Lambda(
        lambda m, x: run(m.layer(x), m.bare).sin(), layer=nn.Linear(D, D), bare=parameter(*shape)
    )


CLIFFS = {
    "class token, expanded": lambda: Lambda(
        class_token, token=parameter(1, 1, D), layers=feed_forward(D)
    ),
    "class token, repeated, and positions": lambda: Lambda(
        encoder,
        token=parameter(1, 1, D),
        places=parameter(1, T + 1, D),
        layers=nn.TransformerEncoderLayer(D, 2, 8, batch_first=True),
    ),
    "position table": lambda: Lambda(
        words_and_places, word=nn.Embedding(9, D), place=nn.Embedding(T, D), layers=feed_forward(D)
    ),
    "positions, sliced": lambda: Lambda(
        lambda m, x: m.layers(x + m.places[:, :T]),
        places=parameter(1, 9, D), layers=feed_forward(D),
    ),
    "positions, without a batch": lambda: Lambda(
        lambda m, x: m.layers(x + m.places), places=parameter(T, D), layers=feed_forward(D)
    ),
    "added": bare(lambda y, b: y + b),
    "added before": bare(lambda y, b: b + y),
    "added in place": bare(lambda y, b: y.clone().add_(b)),
    "subtracted": bare(lambda y, b: y - b),
    "subtracted from": bare(lambda y, b: b - y),
    "multiplied": bare(lambda y, b: y * b),
    "multiplied before": bare(lambda y, b: b * y),
    "divided": bare(lambda y, b: y / (2 + b.square())),
    "divided by": bare(lambda y, b: b / (2 + y.square())),
    "of one row": bare(lambda y, b: y * b, (1, T, D)),
    "of one column": bare(lambda y, b: y * b.exp(), (T, 1)),
    "scalar": bare(lambda y, b: y * b.exp(), ()),
    "used twice": bare(lambda y, b: (y * b).tanh() + b.exp()),
    "HF Conv1D": lambda: nn.Sequential(HFConv1D(8, D), nn.GELU(), HFConv1D(D, 8)),
    "weight norm": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Linear(D, 8)), nn.Tanh(), nn.Linear(8, D)
    ),
    "weight norm, old": lambda: nn.Sequential(
        weight_norm_of_the_old_kind(nn.Linear(D, 8)), nn.Tanh(), nn.Linear(8, D)
    ),
    "low-rank sum": lambda: Lambda(
        lambda m, x: F.linear(x, m.w + m.a @ m.b),
        w=parameter(D, D), a=parameter(D, 2), b=parameter(2, D),
    ),
    "a layer at zero": lambda: Lambda(
        lambda m, x: m.a(x) + 0.0 * m.b(x), a=nn.Linear(D, D), b=nn.Linear(D, D)
    ),
    "a gate at zero": lambda: Lambda(
        lambda m, x: m.a(x) + m.gate * m.b(x),
        a=nn.Linear(D, D), b=nn.Linear(D, D), gate=nn.Parameter(torch.zeros(D)),
    ),
}  # fmt: skip


def inputs(kind, batch):
    return torch.randint(9, (batch, T)) if kind == "position table" else torch.randn(batch, T, D)


def counted(model, x):
    """(passes backward through the losses, operations) of a step, and its report."""
    passes = []
    with profile() as recording:
        with cl.record(model) as tape:
            losses = losses_of(model(x))
        losses.grad_fn.register_prehook(lambda grads: passes.append(1))
        report = tape.backward(losses, cl.Consensus())
    operations = sum(e.count for e in recording.key_averages() if e.key.startswith("aten::"))
    return len(passes), operations, report


@pytest.mark.parametrize("kind", CLIFFS)
def test_the_cost_of_a_step_does_not_grow_with_the_batch(kind):
    model = CLIFFS[kind]()
    found = {}
    for batch in (16, 64):
        for _ in range(3):  # the third step is none at which rows are looked at
            *found[batch], report = counted(model, inputs(kind, batch))
        assert report.fallback == ()
    (few, operations), (many, operations_of_many) = found[16], found[64]
    assert many <= max(few, 3)
    # what vmap has no rule for is repeated for each example: an operation, but no backward pass
    assert operations_of_many - operations <= 10 * (64 - 16)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("kind", CLIFFS)
def test_what_is_cheap_is_also_right(kind, rule):
    model = CLIFFS[kind]().double().eval()
    for batch in (3, 4, T, D):  # also as many examples as positions, or channels
        x = inputs(kind, batch)
        x = x.double() if x.is_floating_point() else x
        step(model, lambda m, x=x: losses_of(m(x)), rule)


def test_one_voter_needs_no_other_way():
    """What would take one pass a voter is then an ordinary backward pass."""
    model, x = Lambda(lambda m, x: torch.cdist(x, m.w), w=parameter(4, D)), torch.randn(7, D)
    outcome = step(model.double(), lambda m: losses_of(m(x.double())), voters=[2] * 7)
    assert outcome.report.fallback == ()


@pytest.mark.parametrize("layers", [0, 2])
def test_what_is_costly_is_said_once_with_its_cure(layers):
    """The distances of examples to centres have no formula, and the batch is large."""
    model = Lambda(
        lambda m, x: torch.cdist(m.layers(x), m.centres),
        layers=mlp(*(D,) * layers, D) if layers else nn.Identity(),
        centres=parameter(4, D),
    )
    x, said = torch.randn(64, D), []
    for _ in range(4):
        outcome = observed_step(model, lambda m: losses_of(m(x)))
        said += outcome.said
        assert outcome.report.fallback == ("centres",)
    (text,) = said
    assert "'centres'" in text
    assert len(text.split()) >= 8


def test_a_small_batch_on_the_exact_way_is_not_worth_a_word():
    model = Lambda(lambda m, x: torch.cdist(x, m.centres), centres=parameter(4, D))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cl.backward(
            model, lambda o, t: losses_of(o) + t, torch.randn(2, D), torch.zeros(2), cl.Mean()
        )
