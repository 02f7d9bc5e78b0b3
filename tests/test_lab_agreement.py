"""The formulas and the rules that notebook 04 writes out hold."""

import math
import re
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
import torch

from tests import oracle

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_rules_of_agreement.ipynb"


@pytest.fixture(scope="module")
def lesson():
    """The notebook's own functions, by name."""
    names = {}
    exec("import torch\nimport consensus_lib as cl", names)
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code" and re.match(r"def (and_mask|mgda)\(", cell.source):
            exec(cell.source, names)
    return names


@pytest.mark.parametrize("case", ["coins", "half shared", "two camps"])
@pytest.mark.parametrize("voters", [2, 4, 6])
def test_the_derived_shares_are_integrals_over_the_shared_part(case, voters):
    """By quadrature over c, and by counting for coins; the lesson derives them otherwise."""
    derived = {
        "coins": lambda n: 2.0 ** (1 - n),
        "half shared": lambda n: 2 / (n + 1),
        "two camps": lambda n: 2 * math.factorial(n // 2) ** 2 / math.factorial(n + 1),
    }
    c = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    above = torch.special.ndtr({"coins": 0.0}.get(case, 1.0) * c)  # P(e > -c)
    against = above if case != "two camps" else 1 - above
    first = voters // 2
    positive = above**first * against ** (voters - first)
    negative = (1 - above) ** first * (1 - against) ** (voters - first)
    density = torch.exp(-0.5 * c**2) / math.sqrt(2 * math.pi)
    share = torch.trapezoid((positive + negative) * density, c).item()
    assert share == pytest.approx(derived[case](voters), rel=1e-6)


def test_mgda_and_upgrad_of_the_lesson_are_the_points_they_claim_to_be(lesson):
    torch.manual_seed(0)
    for g in torch.randn(200, 2, 4, dtype=torch.float64):
        u = lesson["mgda"](g)
        # the least-norm point of a segment is known by its own inequality (Wolfe's criterion)
        assert (g @ u >= u @ u - 1e-10).all()
        inside = torch.linalg.lstsq(g.T, u[:, None]).solution.flatten()
        assert inside.min() >= -1e-10
        assert inside.sum().item() == pytest.approx(1)
        expected = sum(projected(row, g) for row in g) / 2
        torch.testing.assert_close(lesson["upgrad"](g), expected)


def projected(vector, g):
    """The nearest point to which nobody objects, the best over all sets of active constraints."""
    candidates = []
    for size in range(len(g) + 1):
        for active in combinations(range(len(g)), size):
            rows = g[list(active)]
            point = vector - rows.T @ torch.linalg.pinv(rows.T) @ vector if size else vector
            if (g @ point >= -1e-10).all():
                candidates.append(point)
    return min(candidates, key=lambda point: (point - vector).norm())


def test_the_rules_written_in_the_lesson_are_the_librarys(lesson):
    torch.manual_seed(3)
    g = torch.randint(-2, 3, (5, 200)).double()
    written = {
        "weighted": oracle.agreement_weighted,
        "sign_vote": oracle.sign_vote,
        "and_mask": oracle.and_mask(1.0),
    }
    for name, definition in written.items():
        torch.testing.assert_close(lesson[name](g), oracle.each_weight(definition, g))
    for p in (1, 3):
        definition = oracle.power_mean(float(p), 1.0)
        torch.testing.assert_close(lesson["power_mean"](g, p), oracle.each_weight(definition, g))
