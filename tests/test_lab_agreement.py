"""The figures of notebook 04 show what the rules say, and its formulas hold."""

import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import nbformat
import pytest
import torch
from matplotlib.colors import to_hex

import consensus_lib as cl
from course.figures import agreement as lab
from course.figures import style
from tests import oracle

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "04_rules_of_agreement.ipynb"
PAGE = torch.tensor([[0.4, 1.0, 0.0], [1.2, -1.0, 1.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def lesson():
    """The notebook's own functions, by name."""
    names = {}
    exec("import torch\nimport consensus_lib as cl", names)
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code" and re.match(r"def (and_mask|mgda)\(", cell.source):
            exec(cell.source, names)
    return names


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_family_shows_each_update_and_who_objects():
    rules = {"mean": cl.Mean(), "abstain": cl.Consensus(zeros="abstain")}
    picture = lab.draw_family(PAGE, rules, ["agree", "fight", "silent"])
    (ax,) = picture.axes
    gradients = ["+0.4", "+1", "0", "+1.2", "−1", "+1"]
    assert texts(ax) == [*gradients, "+0.8", "0", "+0.5", "+0.4", "0", "+1"]
    gain, pays, white = style.GAIN, style.PAYS, "#FFFFFF"
    faces = [to_hex(patch.get_facecolor()).upper() for patch in ax.patches]
    assert faces == [white] * 6 + [gain, white, gain] + [gain, white, gain]
    assert "mean: +0.8, 0, +0.5" in picture.alt

    (ax,) = lab.draw_family(PAGE, {"sum": cl.SmallestMagnitude()}, list("abc")).axes
    assert texts(ax)[6:] == ["+0.4", "0", "0"]
    loud = torch.tensor([[1.0], [-3.0]])
    (ax,) = lab.draw_family(loud, {"mean": cl.Mean()}, ["loud"]).axes
    assert to_hex(ax.patches[-1].get_facecolor()).upper() == pays


def is_dot(line):
    return len(line.get_xdata()) == 1


def test_power_means_start_near_the_least_and_pass_the_named_ones():
    g = [0.4, 1.2, 0.3]
    (ax,) = lab.draw_power_means(g).axes
    curve = next(line for line in ax.lines if line.get_label() == "power mean")
    powers, updates = curve.get_data()
    assert powers[0] == -20
    assert all(a < b for a, b in pairwise(updates))
    assert updates == pytest.approx([oracle.power_mean(float(p), 1.0)(g) for p in powers])
    dots = {float(line.get_xdata()[0]): line.get_ydata()[0] for line in ax.lines if is_dot(line)}
    harmonic = 3 / (1 / 0.4 + 1 / 1.2 + 1 / 0.3)
    assert dots == pytest.approx({-1: harmonic, 0: 0.144 ** (1 / 3), 1: 1.9 / 3})
    assert texts(ax)[-3:] == ["harmonic", "geometric", "AND-mask"]


def test_shares_are_points_on_their_lines():
    seen = {"coins": {2: 0.5, 4: 0.12}, "shared": {2: 0.7}}
    derived = {"coins": lambda n: 2.0 ** (1 - n), "shared": lambda n: 2 / (n + 1)}
    (ax,) = lab.draw_shares(seen, derived).axes
    drawn = [list(line.get_ydata()) for line in ax.lines]
    assert drawn == [[0.5, 0.125], [0.5, 0.12], [2 / 3], [0.7]]
    assert ax.get_yscale() == "log"
    assert "coins 0.5 of 2, 0.12 of 4" in ax.figure.alt


def test_walks_are_drawn_free_and_held():
    free, held = {"SGD": [1.0, 2.0, 2.0], "Adam": [1.0, 2.0, 2.5]}, {"SGD": [1.0, 2.0, 2.0]}
    held["Adam"] = [1.0, 2.0, 2.0]
    picture = lab.draw_walks(free, held, masked_from=1)
    shown = [[list(line.get_ydata()) for line in ax.lines] for ax in picture.axes]
    assert shown == [list(free.values()), list(held.values())]
    assert "Adam 2.50 and 2.00" in picture.alt


def test_the_plane_draws_steps_against_the_gradients():
    pairs = {"conflict": torch.tensor([[2.0, 2.0], [0.2, -1.0]], dtype=torch.float64)}
    rules = {"mean": cl.Mean().reduce, "consensus": cl.Consensus().reduce}
    (ax,) = lab.draw_plane(pairs, rules).axes
    ends = {
        line.get_label(): [float(line.get_xdata()[0]), float(line.get_ydata()[0])]
        for line in ax.lines
        if line.get_label() in rules
    }
    assert ends == {"mean": pytest.approx([-1.1, -0.5]), "consensus": pytest.approx([-0.2, 0.0])}
    (green,) = [c for c in ax.collections if len(c.get_paths())]
    inside, outside = (-0.59, 0.35), (-1.1, -0.5)  # nobody objects; example 2 does
    assert any(path.contains_point(inside) for path in green.get_paths())
    assert not any(path.contains_point(outside) for path in green.get_paths())


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
