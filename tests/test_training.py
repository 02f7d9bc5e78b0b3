"""The training loop against loops written by hand, its history, and its ways to end."""

import math

import pytest
import torch
from torch import nn

import consensus_lib as cl

INPUTS = torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]])
TARGETS = torch.tensor([1.0, 0.0, 3.0])


def loss_fn(outputs, targets):
    return (outputs[:, 0] - targets) ** 2


def fresh():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)


def run(rule=None, steps=5, **settings):
    model, optimizer = fresh()
    history = cl.train(
        model,
        loss_fn,
        INPUTS,
        TARGETS,
        rule=rule or cl.Mean(),
        optimizer=optimizer,
        steps=steps,
        **settings,
    )
    return model, history


def test_training_by_the_mean_is_ordinary_training():
    model, history = run(steps=20)
    plain, optimizer = fresh()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = loss_fn(plain(INPUTS), TARGETS).mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert history.loss == pytest.approx(losses, rel=1e-4)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_history_speaks_of_the_weights_before_the_step():
    seen = []
    model, optimizer = fresh()

    def on_step(step, report):
        with torch.no_grad():
            seen.append((step, loss_fn(model(INPUTS), TARGETS).mean().item(), report.loss))

    history = cl.train(
        model, loss_fn, INPUTS, TARGETS, cl.Consensus(), optimizer, 4, on_step=on_step
    )
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    assert [now for _, now, _ in seen] == pytest.approx(history.loss)
    assert history.loss == [loss for *_, loss in seen]
    assert len(history) == 4
    assert history.floor == [0.25] * 4
    assert history.stopped == "steps"
    assert repr(history).startswith(f"History(4 steps, loss {history.loss[0]:.4g} to ")
    assert history.seconds == sorted(history.seconds)
    for lower, upper in (
        (history.consensus_ratio, history.live_consensus_ratio),
        (history.consensus_ratio, history.update_ratio),
    ):
        assert all(a <= b for a, b in zip(lower, upper, strict=True))


def test_stopping_leaves_the_weights_that_the_last_loss_speaks_of():
    _, full = run(steps=40)
    goal = full.loss[20]
    model, history = run(steps=40, stop=cl.stop_at_loss(goal))
    assert history.stopped == "stop"
    assert history.loss[-1] <= goal < history.loss[-2]
    assert history.first_step_at(goal) == len(history) - 1
    assert history.first_step_at(-1.0) is None
    with torch.no_grad():
        assert loss_fn(model(INPUTS), TARGETS).mean().item() == pytest.approx(history.loss[-1])


def test_voters_reach_the_rule():
    _, apart = run(rule=cl.Consensus(), steps=1)
    _, together = run(rule=cl.Consensus(), steps=1, voters=[0, 0, 0])
    assert apart.floor == [0.25]
    assert together.floor == [1.0]


def test_a_run_that_diverges_keeps_its_history():
    model, _ = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(cl.Diverged, match=r"step \d+: the loss of example 0 is") as caught:
        cl.train(model, loss_fn, INPUTS, TARGETS, cl.Mean(), optimizer, 50)
    history = caught.value.history
    assert history.stopped == "diverged"
    assert len(history) >= 1
    assert all(math.isfinite(loss) for loss in history.loss)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="steps is at least 1"):
        run(steps=0)


def test_a_gradient_scaler_goes_on_as_the_error_says():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1e-38)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-39)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    inputs, refused = torch.full((2, 1), 1e38), 0
    while model.weight.item() == pytest.approx(1e-38):
        optimizer.zero_grad()
        with cl.record(model) as tape:
            losses = scaler.scale(model(inputs)[:, 0])
        if scaler.get_scale() > 2:  # 1e38 fits float32 twice, but not four times
            with pytest.raises(
                FloatingPointError, match=r"scaler.update\(scaler.get_scale\(\) / 2"
            ):
                tape.backward(losses, cl.Consensus())
            scaler.update(scaler.get_scale() / 2)
            refused += 1
        else:
            tape.backward(losses, cl.Consensus())
            scaler.step(optimizer)
            scaler.update()
    assert refused == 3
