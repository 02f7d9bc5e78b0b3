"""Costs: numbers are counted as on paper, and the figures show what the benchmark's file says."""

import json

import pandas as pd
import pytest
import torch

from course.figures import costs, style
from course.figures.costs import count_numbers
from tests.benchmarks.contenders import CONTENDERS, ORDINARY, OURS

TITLES = {"mlp": "a perceptron", "other": "another"}


def row(problem, batch, contender, ratio=None, peak=None):
    quartiles = {"ratio_low": ratio, "ratio_median": ratio, "ratio_high": ratio}
    sizes = {"peak_bytes": peak, "parameter_bytes": 2**20}
    return {"problem": problem, "batch": batch, "contender": contender} | sizes | quartiles


ROWS = pd.DataFrame(
    [
        row("mlp", 64, ORDINARY, 1.0, 2**21),
        row("mlp", 16, ORDINARY, 1.0, 2**20),
        row("mlp", 16, OURS, 2.0, 2**22),
        row("mlp", 64, "Opacus"),
        row("mlp", 64, "nobody knows", 9.0, 2**23),
        row("other", 32, OURS, 1.5, 2**20),
        row("third", 32, OURS, 1.5, 2**20),
    ]
)


def test_operations_are_counted_and_views_are_not():
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    assert count_numbers(lambda: a @ b) == costs.Numbers(24, 24)
    assert count_numbers(lambda: a.T[:2].reshape(-1)[None]) == costs.Numbers(8, 8)  # one copy
    assert count_numbers(lambda: a[:, 1:].expand(3, 4, 4)) == costs.Numbers(0, 0)
    assert count_numbers(lambda: (a + 1).sum(dim=0)) == costs.Numbers(20, 25)
    assert count_numbers(lambda: a.add_(1)) == costs.Numbers(0, 20)


def test_backward_passes_are_counted():
    weight = torch.ones(3, requires_grad=True)
    inputs = torch.ones(100, 3)
    forward = count_numbers(lambda: inputs @ weight)
    both = count_numbers(lambda: (inputs @ weight).sum().backward())
    assert forward == costs.Numbers(100, 100)
    assert both.written >= forward.written + 3
    assert torch.equal(weight.grad, torch.full((3,), 100.0))


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        ({"cpu": "abacus", "cores": 2}, "abacus, 2 cores"),
        ({"cpu": "abacus", "cores": 2, "gpu": "a card"}, "a card"),
    ],
)
def test_names_the_machine(tmp_path, monkeypatch, machine, named):
    monkeypatch.setattr(costs, "_DATA", tmp_path)
    said = {"machine": machine, "versions": {"torch": "2.13"}, "date": "2026-01-02"}
    (tmp_path / "results-cpu.json").write_text(json.dumps(said))
    assert costs.measured_on() == f"{named}, torch 2.13, 2026-01-02"


@pytest.mark.parametrize(
    ("draw", "heights"), [(costs.draw_time, [1, 1]), (costs.draw_memory, [1, 2])]
)
def test_a_panel_a_model_and_a_line_a_contender_that_was_measured(draw, heights):
    picture = draw(ROWS, TITLES)
    assert [ax.get_title() for ax in picture.axes] == ["a perceptron", "another"]
    assert picture.alt == f"{picture.title}, of {ORDINARY}, {OURS}"
    assert picture.axes[0].lines[0].get_ydata().tolist() == heights


def test_every_line_belongs_to_a_contender():
    assert set(costs.LINES) <= set(CONTENDERS)
    assert {ORDINARY, OURS, costs.ORDINARY} <= set(costs.LINES)
    assert costs.LINES[OURS]["color"] == style.CONSENSUS["color"]


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"results of \['mlp', 'other', 'third'\], and of none"):
        costs.draw_time(ROWS, {"a new one": "new"})


def test_the_stored_results_can_be_drawn():
    stored = costs.read_costs()
    titles = {problem: problem for problem in stored["problem"]}
    for draw in (costs.draw_time, costs.draw_memory):
        picture = draw(stored, titles)
        assert [ax.get_title() for ax in picture.axes] == list(titles)
        assert picture.png().startswith(b"\x89PNG")
    assert "torch" in costs.measured_on()
