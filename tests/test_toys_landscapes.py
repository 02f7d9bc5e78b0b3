"""Two weights: landscapes by their formulas, paths by a loop of single steps, basins by search."""

import itertools
import math

import pytest
import torch

import consensus_lib as cl
from course.toys import basins
from course.toys.landscapes import LANDSCAPES, Waves, Wells, hessians, kind_of, patchwork
from course.toys.paths import OPTIMIZERS, descend, side_by_side

THREE = patchwork((0.5, -1.0), (-1.0, 1.5), (10.0, 75.0, 130.0))
ALL = {**LANDSCAPES, "three examples": THREE}
RULES = [cl.Mean(), cl.Consensus(), cl.Consensus(zeros="abstain"), cl.AndMask(), cl.SignVote()]

every_landscape = pytest.mark.parametrize("landscape", ALL.values(), ids=list(ALL))


def point(a, b):
    return torch.tensor([a, b], dtype=torch.float64)


def points(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 6 * torch.rand(number, 2, generator=generator, dtype=torch.float64) - 3


def plain_losses(landscape, a, b):
    """The loss of each example at one point, in plain Python, from the docstrings' formulas."""
    found = []
    if isinstance(landscape, Waves):
        true_a, true_b = landscape.truth
        for row in landscape.inputs.tolist():
            misses = [math.sin(a * x + b) - math.sin(true_a * x + true_b) for x in row]
            found.append(sum(r * r for r in misses) / len(misses) / 2)
    else:
        for places, forms in zip(landscape.at.tolist(), landscape.shape.tolist(), strict=True):
            loss = 1.0
            for (at_a, at_b), ((aa, ab), (_, bb)) in zip(places, forms, strict=True):
                u, v = a - at_a, b - at_b
                q = (aa * u * u + 2 * ab * u * v + bb * v * v) / 2
                loss *= q / (1 + q)
            found.append(loss)
    return found


def plain_gradients(landscape, a, b, h=1e-5):
    """Central differences of `plain_losses`, [[by a, by b] for each example]."""
    ahead_a, behind_a = plain_losses(landscape, a + h, b), plain_losses(landscape, a - h, b)
    ahead_b, behind_b = plain_losses(landscape, a, b + h), plain_losses(landscape, a, b - h)
    by_a = [(x - y) / (2 * h) for x, y in zip(ahead_a, behind_a, strict=True)]
    by_b = [(x - y) / (2 * h) for x, y in zip(ahead_b, behind_b, strict=True)]
    return list(zip(by_a, by_b, strict=True))


@every_landscape
def test_losses_and_gradients_are_those_of_the_formulas(landscape):
    where = points(20)
    losses, gradients = landscape.losses(where), landscape.gradients(where)
    assert losses.shape == (20, landscape.examples)
    assert gradients.shape == (landscape.examples, 20, 2)
    for i, (a, b) in enumerate(where.tolist()):
        assert losses[i].tolist() == pytest.approx(plain_losses(landscape, a, b), abs=1e-12)
        expected = torch.tensor(plain_gradients(landscape, a, b), dtype=torch.float64)
        torch.testing.assert_close(gradients[:, i], expected, atol=1e-8, rtol=1e-6)


@every_landscape
def test_hessians_are_differences_of_the_gradients(landscape):
    h = 1e-5
    for where in points(5):
        columns = [
            landscape.gradients(where + h * e) - landscape.gradients(where - h * e)
            for e in torch.eye(2, dtype=torch.float64)
        ]
        expected = torch.stack(columns, dim=-1) / (2 * h)
        torch.testing.assert_close(hessians(landscape, where), expected, atol=1e-7, rtol=1e-5)


@every_landscape
def test_zero_points_are_all_that_a_search_finds(landscape):
    listed = torch.tensor([(p.a, p.b) for p in landscape.zero_points], dtype=torch.float64)
    assert landscape.losses(listed).max() < 1e-12
    met = set()
    start = basins.grid_of_starts(landscape, 25).flatten(0, 1)
    # Gauss-Newton on the roots of the losses, damped: an algorithm that the library does not use.
    for _ in range(60):
        losses = landscape.losses(start).clamp(min=1e-300)
        roots = losses.sqrt()
        slopes = landscape.gradients(start).movedim(0, -2) / (2 * roots.unsqueeze(-1))
        normal = slopes.mT @ slopes + 1e-9 * torch.eye(2, dtype=torch.float64)
        step = torch.linalg.solve(normal, (slopes.mT @ roots.unsqueeze(-1)).squeeze(-1))
        start = start - 0.5 * step.clamp(-0.5, 0.5)
    (low_a, low_b), (high_a, high_b) = landscape.corners
    for (a, b), worst in zip(start.tolist(), landscape.losses(start).amax(-1), strict=True):
        if worst < 1e-12 and low_a <= a <= high_a and low_b <= b <= high_b:
            away = (listed - point(a, b)).norm(dim=-1)
            assert away.min() < 1e-4, (a, b)
            met.add(int(away.argmin()))
    inside = {i for i, p in enumerate(landscape.zero_points) if landscape.inside(p)}
    assert met == inside


@every_landscape
def test_an_example_holds_a_shared_point_from_all_sides_and_a_crossing_not(landscape):
    angles = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)[:-1]
    circle = 0.05 * torch.stack([angles.cos(), angles.sin()], dim=-1)
    for p in filter(landscape.inside, landscape.zero_points):
        lowest = landscape.losses(point(p.a, p.b) + circle).amin(dim=0).min()
        assert (lowest > 1e-7) == (p.kind == "shared"), (p, lowest)
        assert kind_of(landscape, point(p.a, p.b)) == p.kind


def test_the_landscapes_are_what_they_say():
    def kinds(name):
        inside = filter(LANDSCAPES[name].inside, LANDSCAPES[name].zero_points)
        return [(round(p.a, 6), round(p.b, 6), p.kind) for p in inside]

    both = [(0.0, 0.0, "shared"), (1.5, 1.5, "crossing")]
    assert kinds("patchwork") == kinds("turned") == both
    corners = itertools.product((-1.5, 1.5), repeat=2)
    assert kinds("one weight each") == [(a, b, "crossing") for a, b in corners]
    assert {kind for *_, kind in kinds("waves")} == {"crossing"}
    assert {kind for *_, kind in kinds("wave pairs")} == {"shared"}
    for name in ("waves", "wave pairs"):
        assert (1.7, 1.5) in [(a, b) for a, b, _ in kinds(name)]
    apart = patchwork(crossing=(1.0, 1.0), directions=(40.0, 40.0))  # parallel valleys
    assert [(p.a, p.b, p.kind) for p in apart.zero_points] == [(0.0, 0.0, "shared")]
    assert not all(map(LANDSCAPES["waves"].inside, LANDSCAPES["waves"].zero_points))


def one_by_one(landscape, start, rule, rate, steps, optimizer, batches=None):
    """One path by torch's optimizer on a parameter, with autograd's gradients."""
    w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    made = {
        "SGD": lambda: torch.optim.SGD([w], lr=rate),
        "momentum": lambda: torch.optim.SGD([w], lr=rate, momentum=0.9),
        "Adam": lambda: torch.optim.Adam([w], lr=rate),
    }[optimizer]()
    places, updates = [w.detach().clone()], []
    for step in range(steps):
        gradients = []
        for i in range(landscape.examples):
            if batches is None or i in batches[step % len(batches)]:
                (g,) = torch.autograd.grad(landscape.losses(w)[i], w)
                gradients.append(g)
        w.grad = rule.reduce(torch.stack(gradients))
        updates.append(w.grad.clone())
        made.step()
        places.append(w.detach().clone())
    return torch.stack(places), torch.stack(updates)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_paths_are_those_of_single_steps_whatever_runs_beside_them(optimizer):
    starts, rules = [[-2.0, 1.0], [1.1, -0.4], [0.3, 2.2]], {repr(rule): rule for rule in RULES}
    for landscape in (THREE, LANDSCAPES["wave pairs"]):
        together = side_by_side(landscape, starts, rules, 0.17, 12, optimizer)
        for name, paths in together.items():
            assert paths.weights.shape == (13, 3, 2)
            for s, start in enumerate(starts):
                alone = one_by_one(landscape, start, rules[name], 0.17, 12, optimizer)
                torch.testing.assert_close(paths.weights[:, s], alone[0])
                torch.testing.assert_close(paths.updates[:, s], alone[1])
                torch.testing.assert_close(paths.losses[:, s], landscape.losses(alone[0]))
            assert torch.equal(paths.ends, paths.weights[12])
            assert torch.equal(paths.masked, paths.updates == 0)


def test_batches_are_seen_in_their_order_and_again_from_the_beginning():
    batches = [[0], [2, 1], [1]]
    paths = descend(THREE, [[-2.0, 1.0]], cl.Consensus(), 0.2, 8, batches=batches)
    places, updates = one_by_one(THREE, [-2.0, 1.0], cl.Consensus(), 0.2, 8, "SGD", batches)
    torch.testing.assert_close(paths.weights[:, 0], places)
    torch.testing.assert_close(paths.updates[:, 0], updates)
    assert paths.losses.shape == (9, 1, 3)


def test_no_step_leaves_the_starts_as_they_are():
    starts = points(4)
    kept = starts.clone()
    paths = descend(THREE, starts, cl.Mean(), steps=0)
    assert torch.equal(paths.ends, starts)
    assert paths.updates.shape == (0, 4, 2)
    descend(THREE, starts, cl.Mean(), steps=3)
    assert torch.equal(starts, kept)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"optimizer": "sgd"}, "SGD.*not 'sgd'"),
        ({"starts": [1.0, 2.0]}, "pairs"),
        ({"starts": [[1.0, 2.0, 3.0]]}, "pairs"),
        ({"rules": {}}, "no rule"),
    ],
)
def test_what_cannot_be_descended_is_refused(wrong, words):
    right = {"starts": [[0.0, 1.0]], "rules": {"mean": cl.Mean()}}
    with pytest.raises(ValueError, match=words):
        side_by_side(THREE, **right | wrong)


def test_consensus_with_veto_stands_still_where_an_example_is_content():
    patch = LANDSCAPES["patchwork"]
    for along in torch.linspace(-3, 3, 13).tolist():
        content = descend(patch, [[along, 1.5], [1.5, along]], cl.Consensus(), 0.3, 5)
        assert content.masked[:, 0].all()
        assert content.updates.abs().max() < 1e-15  # the cosine of 90 degrees is not quite 0
        going_on = descend(patch, [[along, 1.5]], cl.Mean(), 0.3, 5)
        assert going_on.updates.abs().max() > 1e-3 or along == 1.5


@every_landscape
def test_no_example_gets_worse_by_a_small_step_of_consensus_as_some_do_by_the_mean(landscape):
    before = points(300)
    worst = {
        type(rule): (
            landscape.losses(descend(landscape, before, rule, 1e-3, 1).ends)
            - landscape.losses(before)
        ).max()
        for rule in (cl.Consensus(), cl.Mean())
    }
    assert worst[cl.Consensus] <= 1e-15
    assert worst[cl.Mean] > 1e-7 or landscape is not LANDSCAPES["patchwork"]


def test_a_grid_of_starts_is_the_middles_of_its_fields():
    grid = basins.grid_of_starts(THREE, 4)
    assert grid.shape == (4, 4, 2)
    for row, column in itertools.product(range(4), repeat=2):
        assert grid[row, column].tolist() == pytest.approx(
            [-2.25 + 1.5 * column, -2.25 + 1.5 * row]
        )
    wide = Wells(THREE.at, THREE.shape, "wide", ((0.0, -1.0), (4.0, 1.0)))
    assert basins.grid_of_starts(wide, 2).tolist() == [[[1, -0.5], [3, -0.5]], [[1, 0.5], [3, 0.5]]]


def test_starts_by_lot_fill_the_square_evenly_and_come_again():
    starts = basins.starts_by_lot(THREE, 4000)
    assert torch.equal(starts, basins.starts_by_lot(THREE, 4000))
    assert not torch.equal(starts, basins.starts_by_lot(THREE, 4000, seed=1))
    assert starts.abs().max() <= 3
    quarters = [((starts > 0) == torch.tensor(q)).all(-1).sum() for q in ([0, 0], [0, 1], [1, 0])]
    assert all(900 < int(q) < 1100 for q in quarters)


@every_landscape
def test_which_zero_is_the_nearest_one_of_those_that_arrived(landscape):
    ends = torch.cat([points(200)] + [
        point(p.a, p.b) + size * points(6, seed=1)
        for p in landscape.zero_points
        for size in (0, 1e-5, 1e-4, 1e-2)
    ])  # fmt: skip
    found = basins.which_zero(landscape, ends)
    for end, zero in zip(ends.tolist(), found.tolist(), strict=True):
        losses = plain_losses(landscape, *end)
        if sum(losses) / len(losses) >= basins.LOSS_AT_ZERO:
            assert zero == basins.NOWHERE
        else:
            away = [math.dist(end, (p.a, p.b)) for p in landscape.zero_points]
            assert away[zero] == min(away)
    assert (found == basins.NOWHERE).any()
    assert set(found.tolist()) >= set(range(len(landscape.zero_points)))
    kinds = basins.kinds_of_ends(landscape, ends)
    counts = basins.count_ends(landscape, ends)
    assert counts == {kind: kinds.count(kind) for kind in ("shared", "crossing", "nowhere")}
    assert sum(counts.values()) == len(ends)


def test_a_stop_in_a_valley_beside_a_crossing_is_no_arrival():
    patch = LANDSCAPES["patchwork"]
    beside = point(1.5, 1.5 + 0.02)
    assert patch.losses(beside).mean() < 1e-3
    assert basins.kinds_of_ends(patch, beside.unsqueeze(0)) == ["nowhere"]


@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (0, 50), (50, 50), (1, 2), (7, 40), (812, 2000)]
)
def test_the_interval_ends_where_the_count_is_as_far_off_as_chance_allows(count, total):
    for bound in basins.share_interval(count, total):
        assert 0 <= bound <= 1
        spread = math.sqrt(bound * (1 - bound) / total)
        assert abs(count / total - bound) == pytest.approx(1.96 * spread, abs=1e-12)
    low, high = basins.share_interval(count, total)
    assert low <= count / total <= high
    assert low < high


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(count, total):
    with pytest.raises(ValueError, match="not possible"):
        basins.share_interval(count, total)
