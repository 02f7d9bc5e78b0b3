"""The figures, the panel and the line between two networks of notebook 09."""

import math
import threading
import time

import numpy as np
import pytest
import torch

from course.arc import TinyConv, cell_loss, encode_pairs, load_task
from course.figures import open_questions
from course.panels.between_panel import Between, draw_line
from course.study.between import Line, line_between
from course.study.networks import Architecture
from course.study.plan import MAIN, Budget, Setting
from course.study.rules import MAIN_RULES
from course.study.store import Columns
from course.study.trials import Trainer, Trial

TASK = load_task("4258a5f9")
PATIENCE = 120


def columns(**more):
    return Columns(
        task=np.array(["a", "a", "b", "b"]),
        rule=np.array(["mean", "mean", "mean", "consensus"]),
        score=np.array([1.0, 3.0, 10.0, math.nan]),
    ) | Columns(**more)


def test_a_task_counts_once_however_many_runs_it_has():
    rows = Columns(columns())
    assert open_questions.mean_over_tasks(rows, "score") == (2 + 10) / 2
    assert math.isnan(open_questions.mean_over_tasks(rows.where(rule="consensus"), "score"))


def test_figures_show_the_means_they_are_given():
    rows = Columns(
        task=np.array(["a", "b"] * 4),
        rule=np.array(["mean"] * 4 + ["consensus"] * 4),
        decay=np.array([0.0, 0.0, 1.0, 1.0] * 2),
        train_loss=np.array([1.0, 2, 3, 4, 5, 6, 7, 8]),
    )
    figure = open_questions.draw_against(rows, "decay", {"train_loss": ("loss", "nats")}, "decay")
    (ax,) = figure.axes
    shown = {line.get_label(): line.get_ydata().tolist() for line in ax.get_lines()}
    assert shown == {"mean": [1.5, 3.5], "consensus": [5.5, 7.5]}
    assert ax.get_yscale() == "log"


def test_layers_that_a_network_lacks_are_not_drawn():
    rows = Columns(
        task=np.array(["a", "a"]),
        rule=np.array(["mean", "mean"]),
        value=np.array([0.0, 10.0]),
        layer_1_ratio=np.array([0.5, 0.2]),
        layer_2_ratio=np.array([0.6, 0.3]),
        layer_3_ratio=np.array([math.nan, math.nan]),
    )
    (ax,) = open_questions.draw_layers(rows, (0, 10)).axes
    assert [line.get_ydata().tolist() for line in ax.get_lines()] == [[0.5, 0.6], [0.2, 0.3]]


def test_the_line_passes_through_networks_whose_losses_are_those_of_the_model():
    rules, rates = ("mean", "consensus"), (0.01, 0.003)
    line = line_between(TASK, rules, rates, seed=1, steps=12)
    ends = []
    for rule, rate in zip(rules, rates, strict=True):
        trainer = Trainer(Trial(TASK, rule, Setting(), rate, (1,), Budget(12, (12,), (), 0.0)))
        trainer.train()
        ends.append(trainer.best[0])
    model, (group,) = TinyConv(), encode_pairs(TASK.train)
    for place in (0, 13, 40):
        weights = Architecture().tensors(torch.lerp(*ends, line.shares[place]))
        for parameter, tensor in zip(model.parameters(), weights, strict=True):
            parameter.data = tensor
        loss = cell_loss(model(group.inputs), group.targets).mean()
        assert line.train[place].item() == pytest.approx(loss.item(), rel=1e-3)


def test_barrier_and_gain():
    shares = torch.linspace(0, 1, 3)
    line = Line(shares, torch.tensor([0.1, 0.5, 0.2]), torch.tensor([0.9, 0.4, 0.7]), (1, 2))
    assert line.barrier == pytest.approx(0.3)
    assert line.gain == pytest.approx(0.3)
    straight = Line(shares, torch.tensor([0.1, 0.1, 0.2]), torch.tensor([0.2, 0.5, 0.3]), (1, 2))
    assert straight.barrier == straight.gain == 0


@pytest.fixture
def panel():
    return Between({(MAIN, rule): 0.01 for rule in MAIN_RULES})


def test_the_panel_trains_and_shows_the_line(panel):
    before = panel.screen
    panel.start()
    assert panel.wait(PATIENCE)
    assert panel.problem is None
    assert "Barrier" in panel.status
    assert panel.screen != before
    panel.set(seed=1)
    assert panel.line is None
    panel.reset()
    assert panel.screen == before


def test_stop_ends_the_training(panel, monkeypatch):
    begun = threading.Event()
    slow = Trainer._finite_gradients

    def step(trainer):
        begun.set()
        time.sleep(0.1)  # 200 steps and two rules would take 40 seconds
        return slow(trainer)

    monkeypatch.setattr(Trainer, "_finite_gradients", step)
    panel.start()
    assert begun.wait(PATIENCE)
    panel.stop()
    assert panel.wait(10)
    assert (panel.status, panel.line, panel.problem) == ("Stopped.", None, None)


@pytest.mark.parametrize("preset", Between.presets)
def test_presets_can_be_chosen(panel, preset):
    panel.choose(preset)
    assert panel.problem is None


def test_the_target_is_reached_by_a_line_that_reaches_it(panel):
    shares = torch.linspace(0, 1, 3)
    panel.line = Line(shares, torch.full((3,), 0.1), torch.tensor([0.9, 0.4, 0.7]), (1, 2))
    assert "0.300 better" in panel.judge()
    panel.line = Line(shares, torch.tensor([0.1, 0.5, 0.1]), torch.tensor([0.9, 0.4, 0.7]), (1, 2))
    assert panel.judge() is None


def test_the_picture_keeps_its_size():
    shares = torch.linspace(0, 1, 3)
    line = Line(shares, torch.full((3,), 0.1), torch.tensor([0.9, 0.4, 0.7]), (1, 2))
    rules = ("mean", "consensus")
    empty, full = draw_line(None, rules), draw_line(line, rules)
    assert empty.axes[0].get_position().bounds == full.axes[0].get_position().bounds
