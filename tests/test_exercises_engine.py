"""The exercises of notebook 03: other right answers pass, wrong ones are told what is wrong."""

import pytest
import torch
from torch import nn

import consensus_lib as cl
from course.checks import engine as checks
from course.checks.tensors import difference
from tests.exercises import every_wrong_answer, is_refused

REFUSED = {}  # {check: [(*arguments, words)]}


def folds(mean, consensus):
    """A function of a stream from one of each chunk list, as a student might get it wrong."""

    def fold(stream):
        chunks = list(stream)
        return mean(chunks), consensus(chunks)

    return fold


def whole_mean(chunks):
    return torch.cat(chunks).mean(dim=0)


def whole_consensus(chunks):
    return cl.Consensus().reduce(torch.cat(chunks))


def minmod(a, b):
    return torch.minimum(a, b).clamp(min=0) + torch.maximum(a, b).clamp(max=0)


def merging(stream):
    first = next(stream)
    total, count, agreed = first.sum(dim=0), len(first), cl.Consensus().reduce(first)
    for chunk in stream:
        total = total + chunk.sum(dim=0)
        count += len(chunk)
        agreed = minmod(agreed, cl.Consensus().reduce(chunk))
    return [total / count, agreed]


def growing(stream):
    """Holds no chunk, and a copy of all of them."""
    held = next(stream).clone()
    for chunk in stream:
        held = torch.cat([held, chunk])
    return held.mean(dim=0), cl.Consensus().reduce(held)


def by_views(stream):
    """Holds a view of every chunk."""
    rows = [row for chunk in stream for row in chunk]
    total = sum(rows)
    agreed = rows[0]
    for row in rows[1:]:
        agreed = minmod(agreed, row)
    return total / len(rows), agreed


def from_zero(chunks):
    agreed = torch.zeros_like(chunks[0][0])
    for chunk in chunks:
        agreed = minmod(agreed, cl.Consensus().reduce(chunk))
    return agreed


def forgets_conflicts(chunks):
    parts = [cl.Consensus().reduce(chunk) for chunk in chunks]
    nonzero = [part for part in parts if part.any()]
    return cl.Consensus().reduce(torch.stack(nonzero or parts))


def test_fold_passes():
    assert checks.check_fold(merging), checks.check_fold(merging).message


REFUSED[checks.check_fold] = [
    (folds(whole_mean, whole_consensus), "it holds the stream"),
    (growing, "it holds the stream"),
    (by_views, "it holds the stream"),
    (
        folds(lambda c: torch.stack([x.mean(0) for x in c]).mean(0), whole_consensus),
        "chunks have different sizes",
    ),
    (folds(lambda c: torch.cat(c).sum(0), whole_consensus), "count the examples too"),
    (folds(lambda c: c[0].mean(0), whole_consensus), "Carry the sum and the number"),
    (folds(whole_mean, from_zero), "starts from a conflict"),
    (folds(whole_mean, lambda c: cl.Consensus().reduce(c[-1])), "the last chunk alone"),
    (folds(whole_mean, forgets_conflicts), "a conflict stays a conflict"),
    (folds(whole_mean, whole_mean), "the consensus is [+0.6333], expected [+0.3]"),
    (lambda stream: next(stream).mean(dim=0), "Expected mean, consensus"),
    (lambda stream: (1.0, 2.0), "not a tensor"),
    (lambda stream: 1 / 0, "raised ZeroDivisionError"),
    (None, "not a function"),
]


def up_and_down(a, delta):
    difference, voters = delta.sign().T @ a.sign(), delta.sign().abs().T @ a.sign().abs()
    return (voters + difference) / 2, (voters - difference) / 2


def four_products(a, delta):
    up_a, down_a = (a > 0).double(), (a < 0).double()
    up_d, down_d = (delta > 0).double(), (delta < 0).double()
    return up_d.T @ up_a + down_d.T @ down_a, up_d.T @ down_a + down_d.T @ up_a


def by_gradients(a, delta):
    g = delta[:, :, None] * a[:, None, :]
    return (g > 0).sum(dim=0), (g < 0).sum(dim=0)


def by_examples(a, delta):
    up = down = torch.zeros(delta.shape[1], a.shape[1]).double()
    for row, column in zip(a, delta, strict=True):
        g = torch.outer(column, row)
        up, down = up + (g > 0), down + (g < 0)
    return up, down


@pytest.mark.parametrize("count_votes", [up_and_down, four_products])
def test_votes_passes(count_votes):
    verdict = checks.check_votes(count_votes)
    assert verdict, verdict.message


REFUSED[checks.check_votes] = [
    (by_gradients, "use two products of the matrices"),
    (by_examples, "use two products of the matrices"),
    (lambda a, d: tuple(x.T for x in up_and_down(a, d)), "has shape (3, 1)"),
    (lambda a, d: tuple(x.T for x in up_and_down(a, d)), "the transpose"),
    (lambda a, d: up_and_down(a, d)[::-1], "exchanged"),
    (lambda a, d: (d.sign().T @ a.sign(),) * 2, "solve them for up and down"),
    (lambda a, d: (d.sign().abs().T @ a.sign().abs(),) * 2, "solve them for up and down"),
    (
        lambda a, d: ((len(a) + d.sign().T @ a.sign()) / 2, up_and_down(a, d)[1]),
        "one input of which is 0",
    ),
    (
        lambda a, d: (up_and_down(a, d)[0], len(a) - up_and_down(a, d)[0]),
        "need not vote down",
    ),
    (lambda a, d: (d.T @ a, d.T @ a), "the product of the signs"),
    (lambda a, d: d.T @ a, "Expected positive, negative"),
    (lambda a, d: (1, 2), "not a tensor"),
]


@pytest.fixture
def mixing():
    """A type of its own for each test, since rules are registered by type."""

    class Mixing(nn.Module):
        def __init__(self, positions):
            super().__init__()
            self.mix = nn.Parameter(torch.eye(positions))

        def forward(self, x):
            return self.mix @ x

    return Mixing


def right_rule(module, inputs, grad_outputs):
    return {"mix": grad_outputs @ inputs.mT}


def test_layer_rule_passes(mixing):
    cl.layer_rule(mixing)(right_rule)
    verdict = checks.check_layer_rule(right_rule, mixing(5), torch.randn(6, 5, 3))
    assert verdict, verdict.message


def test_a_right_rule_must_be_registered(mixing):
    verdict = checks.check_layer_rule(right_rule, mixing(5), torch.randn(6, 5, 3))
    assert not verdict
    assert "'mix', which went the slow way" in verdict.message
    assert "@cl.layer_rule(Mixing)" in verdict.message


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda m, x, d: {"mix": x @ d.mT}, "It is the transpose"),
        (lambda m, x, d: {"mix": -d @ x.mT}, "wrong sign"),
        (
            lambda m, x, d: {"mix": (d @ x.mT).sum(dim=0).expand(6, 5, 5)},
            "row b is of example b alone",
        ),
        (lambda m, x, d: {"mix": 2 * d @ x.mT}, "differs at"),
        (lambda m, x, d: {"mix": 2 * d @ x.mT}, "differentiate it by one weight"),
        (lambda m, x, d: {"mix": (d @ x.mT).sum(dim=0)}, "keep dimension 0"),
        (
            lambda m, x, d: {"mix": torch.einsum("btd,bsd->btsd", d, x)},
            "Sum over what lies within one example",
        ),
        (lambda m, x, d: {"mix": x}, "returned a tensor (6, 5, 3). Expected (6, 5, 5)"),
        (lambda m, x, d: {"mix": None}, "returned None"),
        (lambda m, x, d: {"weight": d @ x.mT}, "says nothing about the parameter 'mix'"),
        (lambda m, x, d: d @ x.mT, "Expected {parameter name: gradients}"),
        (lambda m, x, d: None, "returned None"),
    ],
)
def test_layer_rule_refuses(mixing, rule, words):
    cl.layer_rule(mixing)(rule)
    verdict = checks.check_layer_rule(rule, mixing(5), torch.randn(6, 5, 3))
    assert not verdict
    assert words in verdict.message


def test_layer_rule_takes_any_layer_with_several_parameters():
    class Affine(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.shift = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return self.scale * x + self.shift

    def rule(module, inputs, grad_outputs):
        return {"scale": (inputs * grad_outputs).sum(dim=1), "shift": grad_outputs.mean(dim=1)}

    cl.layer_rule(Affine)(rule)
    verdict = checks.check_layer_rule(rule, Affine(), torch.randn(3, 2, 4))
    assert "'shift'" in verdict.message

    @cl.layer_rule(Affine)
    def mended(module, inputs, grad_outputs):
        return rule(module, inputs, grad_outputs) | {"shift": grad_outputs.sum(dim=1)}

    assert checks.check_layer_rule(mended, Affine(), torch.randn(3, 2, 4))


@pytest.mark.parametrize(
    ("rule", "layer", "words"),
    [
        (right_rule, nn.ReLU(), "does not learn"),
        (right_rule, nn.Linear(9, 9), "does not learn"),
        (right_rule, "layer", "expected the rule"),
        (nn.Linear, nn.Linear, "expected the rule"),
        ("rule", nn.Linear(3, 3), "expected the rule"),
    ],
)
def test_layer_rule_says_what_it_takes(rule, layer, words):
    verdict = checks.check_layer_rule(rule, layer, torch.randn(6, 5, 3))
    assert not verdict
    assert words in verdict.message


def test_layer_rule_leaves_the_layer_as_it_was(mixing):
    def vandal(module, inputs, grad_outputs):
        inputs.zero_()
        grad_outputs.zero_()
        with torch.no_grad():
            module.mix.zero_()
        return {"mix": torch.zeros(6, 5, 5)}

    layer, inputs = mixing(5), torch.ones(6, 5, 3)
    assert not checks.check_layer_rule(vandal, layer, inputs)
    assert torch.equal(layer.mix, torch.eye(5))
    assert inputs.all()
    assert layer.mix.grad is None


def test_like_minded_passes():
    verdict = checks.check_like_minded(0.001 * torch.rand(64, 20), torch.zeros(64))
    assert verdict
    assert "100.0%" in verdict.message


@pytest.mark.parametrize(
    ("inputs", "targets", "words"),
    [
        (torch.randn(64, 20), torch.randint(3, (64,)), "agree on 0.0%"),
        (torch.randn(64, 20), torch.zeros(64), "the target is more than 50%"),
        (torch.ones(64, 20), torch.zeros(64), "all 64 must be different"),
        (torch.randn(32, 20), torch.zeros(32), "expected inputs (64, 20)"),
        (torch.randn(64, 20), torch.full((64,), 3), "expected inputs (64, 20)"),
        (torch.randn(64, 20).fill_(torch.nan), torch.zeros(64), "not finite"),
        (None, None, "expected inputs (64, 20)"),
    ],
)
def test_like_minded_refuses(inputs, targets, words):
    verdict = checks.check_like_minded(inputs, targets)
    assert not verdict
    assert words in verdict.message


def test_like_minded_is_the_same_in_every_call_and_draws_nothing():
    batch = torch.rand(64, 20), torch.zeros(64)
    state = torch.random.get_rng_state()
    first, second = (checks.check_like_minded(*batch).message for _ in range(2))
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_said_of_tensors():
    assert difference(torch.ones(2), torch.ones(2)) == ""
    assert difference(torch.ones(2), torch.zeros(2)) == "is [+1, +1], expected [0, 0]"
    assert difference(torch.ones(9), torch.zeros(9)) == "is wrong at 9 of 9 entries"
    assert "nan" in difference(torch.full((1,), torch.nan), torch.zeros(1))


@every_wrong_answer(REFUSED)
def test_a_wrong_answer_is_told_what_is_wrong(check, arguments, words):
    is_refused(check, arguments, words)
