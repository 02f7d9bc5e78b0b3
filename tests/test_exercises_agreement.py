"""The exercises of notebook 04: other right answers pass, wrong ones are told what is wrong."""

import itertools
import math

import torch

import consensus_lib as cl
from consensus_lib.questions import Least, Votes
from course.checks import agreement as checks
from tests.exercises import every_wrong_answer, is_refused
from tests.refresh_notebooks import NOTEBOOKS

REFUSED = {}  # {check: [(*arguments, words)]}


def by_outcomes(voters, threshold):
    """Every outcome by itself for few voters; for many the tails of the binomial."""
    if voters <= 10:
        outcomes = itertools.product((1, -1), repeat=voters)
        return sum(abs(sum(o)) / voters >= threshold for o in outcomes) / 2**voters
    kept = (k for k in range(voters + 1) if abs(2 * k - voters) / voters >= threshold)
    return sum(math.comb(voters, k) / 2**voters for k in kept)


def heads(counts):
    """A floor that counts other outcomes than it should, told by the number of heads."""
    return lambda n, t: sum(math.comb(n, k) for k in range(n + 1) if counts(k, n, t)) / 2**n


def test_floor_passes():
    verdict = checks.check_floor(by_outcomes)
    assert verdict, verdict.message


REFUSED[checks.check_floor] = [
    (lambda n, t: 2.0 ** (1 - n), "whatever the threshold"),
    (heads(lambda k, n, t: k / n >= t), "That counts heads"),
    (heads(lambda k, n, t: max(k, n - k) / n >= t), "3 against 1 has |s| = 1/2"),
    (heads(lambda k, n, t: (2 * k - n) / n >= t), "Tails can win too"),
    (heads(lambda k, n, t: abs(2 * k - n) / n > t), "At the threshold itself"),
    (lambda n, t: 1.0, "There are 4 outcomes"),
]


def test_the_floor_is_what_and_mask_moves_of_coins():
    coins = torch.tensor(list(itertools.product((1.0, -1.0), repeat=5))).T
    for threshold in (0.0, 0.3, 0.6, 1.0):
        moved = (cl.AndMask(threshold).reduce(coins) != 0).double().mean().item()
        assert moved == by_outcomes(5, threshold)


HURTS = [[1.0, -0.1], [1.0, -0.1], [1.0, 0.1], [-1.0, 4.0]]


def test_mask_hurts_passes():
    for gradients in (HURTS, torch.tensor(HURTS), [[-x for x in row] for row in HURTS]):
        verdict = checks.check_mask_hurts(gradients)
        assert verdict, verdict.message
        assert "example 4 objects (-0.5) to the mask" in verdict.message


REFUSED[checks.check_mask_hurts] = [
    ([[1.0], [1.0], [1.0], [-1.0]], "example 4 objects (-0.5) to the mean"),
    ([[1.0, 1.0], [2.0, 3.0]], "let one weight be 3 against 1"),
    ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-1.0, 9.0]], "drop the very weight"),
    ([[1.0, 2.0], [1.0]], "all equally long"),
    ([[1.0, 2.0]], "one list of finite numbers for each example"),
    ([1.0, 2.0], "one list of finite numbers for each example"),
    ([[1.0], [math.nan]], "finite"),
    (None, "expected one list"),
]


def rule(update, *needs):
    """A class of rules with this update."""

    class Made(cl.Rule):
        @property
        def needs(self):
            return frozenset(needs)

        def update(self, answers, count):
            return update(answers, count)

    return Made


def timid(answers, count):
    return answers[Votes()] * answers[Least()] / count


def test_timid_passes():
    for answer in (rule(timid, Votes(), Least()), rule(timid, Votes(), Least())()):
        verdict = checks.check_timid(answer)
        assert verdict, verdict.message
        assert "from 2 numbers" in verdict.message


REFUSED[checks.check_timid] = [
    (rule(lambda a, n: -timid(a, n), Votes(), Least()), "the other sign"),
    (rule(lambda a, n: timid(a, 1), Votes(), Least()), "divide it by how many"),
    (rule(lambda a, n: timid(a, n).abs(), Votes(), Least()), "lost the sign"),
    (rule(lambda a, n: a[Votes()].sign() * a[Least()], Votes(), Least()), "a third of"),
    (rule(timid, Votes()), "asks for Least(), which `needs` does not name"),
    (rule(lambda a, n: 0.0, Votes()), "raised"),
    (cl.Rule, "to make your rule raised TypeError"),
    (cl.Consensus, "2 against 1 counts a third|The formula is|expected"),
    (timid, "expected a class made from cl.Rule"),
]


def test_the_objections_told_of_the_timid_rule():
    torch.manual_seed(1)
    g = torch.randint(-2, 4, (4, 5000, 8)).double()  # as section 3 draws them
    update = g.sign().mean(dim=0) * g.abs().amin(dim=0)
    objected = ((update * g).sum(dim=-1) < 0).any(dim=0).sum()
    lesson = (NOTEBOOKS / "04_rules_of_agreement.ipynb").read_text(encoding="utf-8")
    assert f"in {objected} of the 5000 batches it is" in lesson


def test_timid_must_be_right_when_streamed():
    class ByStackOnly(rule(timid, Votes(), Least())):
        def update(self, answers, count):
            return super().update(answers, count) * (1.0 if count < 5 else 2.0)

    verdict = checks.check_timid(ByStackOnly)
    assert not verdict
    assert "on a recorded model the update is wrong at" in verdict.message


@every_wrong_answer(REFUSED)
def test_a_wrong_answer_is_told_what_is_wrong(check, arguments, words):
    is_refused(check, arguments, words)
