"""Costs: numbers are counted as on paper, and the figures show what the benchmark's file says."""

import csv
import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from course.figures import costs, style
from course.figures.costs import Cost, count_numbers
from tests.benchmarks.contenders import CONTENDERS, ORDINARY, OURS

MIB = 2**20
TITLES = {"mlp": "a perceptron", "other": "another"}


def row(problem, batch, contender, ratio=None, peak=None):
    low, high = (None, None) if ratio is None else (0.9 * ratio, 1.2 * ratio)
    return Cost(problem, batch, contender, peak, MIB, low, ratio, high)


ROWS = [
    row("mlp", 64, ORDINARY, 1.0, 2 * MIB),
    row("mlp", 16, ORDINARY, 1.0, MIB),
    row("mlp", 64, OURS, 2.5, 5 * MIB),
    row("mlp", 16, OURS, 2.0, 4 * MIB),
    row("mlp", 16, "Opacus", 50.0, 17 * MIB),
    row("mlp", 64, "Opacus"),
    row("mlp", 64, "nobody knows", 9.0, 9 * MIB),
    row("other", 32, OURS, 1.5, MIB),
    row("third", 32, OURS, 1.5, MIB),
]


def drawn(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}


def test_operations_are_counted_and_views_are_not():
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    assert count_numbers(lambda: a @ b) == costs.Numbers(24, 24)
    assert count_numbers(lambda: a.T[:2].reshape(-1)[None]) == costs.Numbers(8, 8)  # one copy
    assert count_numbers(lambda: a[:, 1:].expand(3, 4, 4)) == costs.Numbers(0, 0)
    assert count_numbers(lambda: (a + 1).sum(dim=0)) == costs.Numbers(20, 25)


def test_a_change_in_place_is_written_and_held_by_nobody_new():
    a = torch.ones(4, 5)
    assert count_numbers(lambda: a.add_(1)) == costs.Numbers(0, 20)


def test_backward_passes_are_counted():
    weight = torch.ones(3, requires_grad=True)
    inputs = torch.ones(100, 3)
    forward = count_numbers(lambda: inputs @ weight)
    both = count_numbers(lambda: (inputs @ weight).sum().backward())
    assert forward == costs.Numbers(100, 100)
    assert both.written >= forward.written + 3
    assert torch.equal(weight.grad, torch.full((3,), 100.0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "_DATA", tmp_path)
    return tmp_path


def test_reads_the_file_whatever_else_is_in_it(folder):
    names = ["stamp", *(field.name for field in fields(Cost))]
    with (folder / "results-cuda.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerow(
            {"problem": "mlp", "batch": 64, "contender": "a, b", "peak_bytes": 12, "stamp": "x"}
            | {"parameter_bytes": 4, "ratio_low": 1, "ratio_median": "1.5", "ratio_high": 2}
        )
        writer.writerow({"problem": "mlp", "batch": 64, "contender": "failed"})
    measured, failed = costs.read_costs("cuda")
    assert measured == Cost("mlp", 64, "a, b", 12, 4, 1.0, 1.5, 2.0)
    assert failed == Cost("mlp", 64, "failed", None, None, None, None, None)


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        ({"cpu": "abacus", "cores": 2}, "abacus, 2 cores"),
        ({"cpu": "abacus", "cores": 2, "gpu": "a card"}, "a card"),
    ],
)
def test_names_the_machine(folder, machine, named):
    said = {"machine": machine, "versions": {"torch": "2.13"}, "date": "2026-01-02"}
    (folder / "results-cpu.json").write_text(json.dumps(said))
    assert costs.measured_on() == f"{named}, torch 2.13, 2026-01-02"


def test_time_figure_shows_medians_and_quartiles():
    picture = costs.draw_time(ROWS, TITLES)
    ax, other = picture.axes
    assert (ax.get_title(), other.get_title()) == tuple(TITLES.values())
    assert drawn(ax) == {
        ORDINARY: [[16, 1], [64, 1]],
        OURS: [[16, 2], [64, 2.5]],
        "Opacus": [[16, 50]],
    }
    assert drawn(other) == {OURS: [[32, 1.5]]}
    bands = {to_hex(b.get_facecolor()[0]): b.get_paths()[0].vertices for b in ax.collections}
    ours = bands[to_hex(style.CONSENSUS["color"])]
    assert {tuple(np.round(point, 6)) for point in ours} == {
        (16, 1.8),
        (16, 2.4),
        (64, 2.25),
        (64, 3.0),
    }
    assert [text.get_text() for text in picture.legends[0].get_texts()] == [
        ORDINARY,
        OURS,
        "Opacus",
    ]


def test_memory_figure_shows_the_worst_moment():
    ax, other = costs.draw_memory(ROWS, TITLES).axes
    assert drawn(ax) == {
        ORDINARY: [[16, 1], [64, 2]],
        OURS: [[16, 4], [64, 5]],
        "Opacus": [[16, 17]],
    }
    assert drawn(other) == {OURS: [[32, 1]]}


def test_mean_and_consensus_keep_their_looks():
    lines = {line.get_label(): line for line in costs.draw_time(ROWS, TITLES).axes[0].get_lines()}
    for name, look in ((ORDINARY, style.MEAN), (OURS, style.CONSENSUS)):
        assert lines[name].get_color() == look["color"]
        assert lines[name].get_linestyle() == look["linestyle"]


def test_every_line_belongs_to_a_contender():
    assert set(costs.LINES) <= set(CONTENDERS)
    assert {ORDINARY, OURS, costs.ORDINARY} <= set(costs.LINES)


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"results of \['mlp', 'other', 'third'\], and of none"):
        costs.draw_time(ROWS, {"a new one": "new"})


def test_the_stored_results_can_be_drawn():
    stored = costs.read_costs()
    titles = {cost.problem: cost.problem for cost in stored}
    for draw in (costs.draw_time, costs.draw_memory):
        picture = draw(stored, titles)
        assert [ax.get_title() for ax in picture.axes] == list(titles)
        assert picture.png().startswith(b"\x89PNG")
    assert "torch" in costs.measured_on()
