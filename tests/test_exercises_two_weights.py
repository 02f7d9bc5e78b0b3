"""The exercises of notebook 02: other right answers pass, wrong ones are told what is wrong."""

import pytest
import torch

import consensus_lib as cl
from course.checks import two_weights as checks
from tests.exercises import every_wrong_answer, is_refused

REFUSED = {}  # {check: [(*arguments, words)]}


@pytest.mark.parametrize(
    ("content", "quarrel"),
    [((-1.5, 2.5), (1.0, -2.0)), ([2.5, 1.0], [0.9, -1.5]), (torch.tensor([-2.5, 1.5]), (1, -2))],
)
def test_two_stops_passes(content, quarrel):
    verdict = checks.check_two_stops(content, quarrel)
    assert verdict, verdict.message


REFUSED[checks.check_two_stops] = [
    ((-1.0, -1.0), (1.0, -2.0), "content = [-1, -1] is no such start: .* b above 0"),
    ((-1.5, 2.5), (-2.0, 1.0), "quarrel = .* b below 0"),
    ((-1.5, 9.0), (1.0, -2.0), "content = .* from -3 to 3"),
    ((-1.5, float("nan")), (1.0, -2.0), "content = .* no such start"),
    ("no", (1.0, -2.0), "content = .* no such start"),
    (None, None, "content = None"),
    ((-2.0, 1.0), (1.0, -2.0), "content .* no example is content"),
    ((-1.5, 0.2), (1.0, -2.0), "content .* finds a zero point"),
    ((2.5, 2.5), (1.0, -2.0), "content .* leaves no doubt"),
    ((-1.5, 2.5), (2.5, -1.5), "quarrel .* one example is content"),
    ((-1.5, 2.5), (-1.0, -1.0), "quarrel .* finds a zero point"),
]


def smallest_curvature(each):
    return torch.linalg.eigvalsh(each).min()


def by_determinant(each):
    return "shared" if (torch.linalg.det(each) > 1e-6).all() else "crossing"


@pytest.mark.parametrize(
    "kind",
    [
        by_determinant,
        lambda each: "shared" if smallest_curvature(each) > 1e-9 else "crossing",
        lambda each: ["crossing", "shared"][all(torch.linalg.matrix_rank(h) == 2 for h in each)],
    ],
)
def test_kind_passes(kind):
    verdict = checks.check_kind(kind)
    assert verdict, verdict.message


REFUSED[checks.check_kind] = [
    (lambda each: "shared", "Ask every example by itself"),
    (lambda each: by_determinant(each.mean(dim=0, keepdim=True)), "Ask every example"),
    (lambda each: by_determinant(each[:1]), "flat along one direction"),
    (lambda each: by_determinant(each[-1:]), "flat along one direction"),
    (
        lambda each: "shared" if (each.diagonal(dim1=1, dim2=2) > 0).all() else "crossing",
        "look at eigenvalues",
    ),
    (lambda each: "shared" if smallest_curvature(each) > 0.5 else "crossing", "narrow wells"),
    (
        lambda each: "shared" if (torch.linalg.eigvalsh(each) > 1e-20).all() else "crossing",
        "Rounding leaves",
    ),
    (lambda each: (torch.linalg.det(each) > 1e-6).all(), "returned a tensor"),
    (lambda each: None, "returned None"),
    ("shared", "not a function"),
]


def masked(magnitude):
    """A rule that moves where all agree, as far as `magnitude` (N, ...) -> (...) says."""

    def rule(gradients):
        agree = cl.Consensus().reduce(gradients) != 0
        return torch.where(agree, gradients[0].sign() * magnitude(gradients.abs()), 0.0)

    return rule


@pytest.mark.parametrize(
    "rule",
    [
        masked(lambda size: size.mean(dim=0)),
        masked(lambda size: size.amax(dim=0)),
        masked(lambda size: size.square().mean(dim=0).sqrt()),
        cl.AndMask().reduce,
        cl.PowerMean(0).reduce,
    ],
)
def test_passes_valleys_passes(rule):
    verdict = checks.check_passes_valleys(rule)
    assert verdict, verdict.message


REFUSED[checks.check_passes_valleys] = [
    (cl.Consensus().reduce, "Does your update vanish"),
    (masked(lambda size: torch.ones_like(size[0])), "never come to rest"),
    (cl.Consensus(zeros="abstain").reduce, "Does your update vanish"),
    (cl.Mean().reduce, "moves weights on which the examples disagree"),
    (lambda g: -cl.AndMask().reduce(g), "another sign"),
    (lambda g: g, "has shape (2, 50, 2), expected (50, 2)"),
    (lambda g: 0.0, "is 0, not a tensor"),
    (lambda g: g.mean(dim=0) / 0, "is not finite"),
    (cl.AndMask(), "raised"),
]


def test_an_answer_that_changes_its_gradients_does_not_change_the_question():
    def spoiling(gradients):
        update = cl.AndMask().reduce(gradients)
        gradients.zero_()
        return update

    assert checks.check_passes_valleys(spoiling)


@every_wrong_answer(REFUSED)
def test_a_wrong_answer_is_told_what_is_wrong(check, arguments, words):
    is_refused(check, arguments, words)
