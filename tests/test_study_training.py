"""The study's trainer makes the runs that the library's own loop makes, many at once."""

import math
from dataclasses import replace

import pytest
import torch

import consensus_lib as cl
from course.arc import Pair, TinyConv, cell_loss
from course.study.networks import Architecture, Cells, Differentiable
from course.study.rules import RULES, SCALED_MEAN
from course.study.stepping import Method
from course.study.training import Budget, Run, Training

SMALL = Architecture(6, 2)
BUDGET = Budget(12, (0, 4, 12), (2.2, 1e-9), 1e-12)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn(seed, count, shape=(4, 3)):
    source = torch.Generator().manual_seed(seed)
    grids = torch.randint(0, 10, (count, 2, *shape), generator=source).numpy()
    return tuple(Pair(*grid) for grid in grids)


def encoded(pairs):
    colours = torch.tensor([pair.input.tolist() for pair in pairs])
    channels = torch.nn.functional.one_hot(colours, 10).movedim(-1, 1)
    inputs = torch.cat([channels, torch.ones_like(channels[:, :1])], dim=1)
    return inputs.to(torch.get_default_dtype()), torch.tensor([p.output.tolist() for p in pairs])


def by_the_library(run, steps):
    """The weights after so many steps, and the losses on the way, by `cl.train`."""
    torch.manual_seed(run.seed)
    model = TinyConv(SMALL.width, SMALL.depth)
    rule = RULES[run.method.rule]
    if isinstance(rule, cl.RandomMask):
        rule = cl.RandomMask(generator=torch.Generator().manual_seed(run.seed))
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = kinds[run.method.optimizer](
        model.parameters(), lr=run.method.learning_rate, weight_decay=run.method.weight_decay
    )
    if run.method.held:
        cl.hold_masked_weights(optimizer)
    inputs, targets = encoded(run.train)
    history = cl.train(model, cell_loss, inputs, targets, rule, optimizer, steps)
    return SMALL.from_tensors([p.detach() for p in model.parameters()]), history.loss


METHODS = {
    "free": Method("consensus", 0.003, 1.0),
    "held": Method("consensus", 0.003, 1.0, held=True),
    "coupled": Method("consensus", 0.003, 0.01, optimizer="adam"),
    "sgd": Method("consensus", 0.3, optimizer="sgd"),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("rule", [name for name in RULES if name != SCALED_MEAN])
def test_runs_of_all_methods_side_by_side_are_those_of_the_library(rule):
    pairs = {seed: drawn(seed, 3) for seed in (4, 5)}
    runs = [
        Run(replace(method, rule=rule), seed, pairs[seed], {"test": drawn(9, 1)})
        for method in METHODS.values()
        for seed in pairs
    ]
    training = Training(runs, BUDGET, SMALL)
    rows = training.train()
    for number, run in enumerate(runs):
        weights, losses = by_the_library(run, BUDGET.steps)
        torch.testing.assert_close(training.final[number], weights)
        for row in rows[number]:
            if row["step"] < BUDGET.steps:
                assert row["train_loss"] == pytest.approx(losses[row["step"]])


@pytest.mark.usefixtures("double")
def test_a_run_goes_on_alike_when_its_neighbours_end():
    def weights(fitted):
        runs = [
            Run(METHODS["free"], seed, drawn(seed, 3), {"test": drawn(9, 1)}) for seed in (4, 5, 6)
        ]
        training = Training(runs, replace(BUDGET, fitted=fitted, levels=()), SMALL)
        return training.train(), training.final

    rows, alone = weights(0)
    first, second, _ = sorted(own[-1]["train_loss"] for own in rows)
    early, together = weights((first + second) / 2)
    ended = [own[-1]["ended"] for own in early]
    assert {"fitted", "budget"} <= set(ended)
    for number, rows in enumerate(early):
        networks = Differentiable(SMALL, together[number][None], Cells(drawn(number + 4, 3)))
        assert networks.gradients()[0].mean().item() == pytest.approx(rows[-1]["train_loss"])
    for number in (i for i, how in enumerate(ended) if how == "budget"):
        torch.testing.assert_close(together[number], alone[number])


def test_what_is_seen_of_a_run_is_what_its_weights_say():
    train, test, reference = drawn(1, 3), drawn(2, 4), drawn(3, 5)
    run = Run(METHODS["free"], 8, train, {"test": test}, accidents=(3, 7), reference=reference)
    ((first, *_), _) = Training([run, replace(run, seed=9)], BUDGET, SMALL).train()
    torch.manual_seed(8)
    model = TinyConv(SMALL.width, SMALL.depth)
    inputs, targets = encoded(test)
    logits = model(inputs)
    right, changed = logits.argmax(1) == targets, inputs[:, :10].argmax(1) != targets
    assert first["test_loss"] == pytest.approx(cell_loss(logits, targets).mean().item(), rel=1e-4)
    assert first["test_changed_accuracy"] == pytest.approx(right[changed].float().mean().item())
    assert first["test_kept_accuracy"] == pytest.approx(
        right[~changed].float().mean().item(), nan_ok=True
    )
    colours = model.layers[0].weight.detach() ** 2
    wanted = colours[:, [3, 7]].sum() / colours.sum()
    assert first["accident_weight"] == pytest.approx(wanted.item(), rel=1e-4)
    gradients = [
        cl.per_example_gradients(model, cell_loss, *encoded(pairs)) for pairs in (train, reference)
    ]
    update = torch.cat([cl.Consensus().reduce(g).flatten() for g in gradients[0].values()])
    serves = torch.cat([g.mean(0).sign().flatten() for g in gradients[1].values()])
    share = update.abs()[update.sign() == serves].sum() / update.abs().sum()
    assert first["served_update"] == pytest.approx(share.item(), rel=1e-2)


def test_levels_are_looked_at_when_first_reached_and_the_end_at_the_end():
    run = Run(METHODS["free"], 3, drawn(1, 2), {"test": drawn(2, 1)})
    budget = Budget(400, (0, 400), (2.0, 1.0, 0.5), 0.1)
    (rows,) = Training([replace(run, method=Method("mean", 0.03))], budget, SMALL).train()
    assert [(row["at"], row["value"]) for row in rows] == [
        ("step", 0),
        ("loss", 2.0),
        ("loss", 1.0),
        ("loss", 0.5),
        ("step", 400),
    ]
    assert all(row["train_loss"] <= row["value"] for row in rows if row["at"] == "loss")
    assert rows[-1]["train_loss"] <= 0.1
    assert {row["ended"] for row in rows} == {"fitted"}
    assert rows[-1]["step"] < 400


def test_a_run_that_diverges_ends_alone():
    runs = [
        Run(Method("mean", rate, optimizer="sgd"), 3, drawn(1, 2), {"test": drawn(2, 1)})
        for rate in (1e30, 0.1)
    ]
    wild, tame = Training(runs, BUDGET, SMALL).train()
    assert {row["ended"] for row in wild} == {"diverged"}
    assert {row["ended"] for row in tame} == {"budget"}
    assert all(math.isfinite(row["train_loss"]) for row in wild + tame)


@pytest.mark.usefixtures("double")
def test_the_scaled_mean_steps_as_far_as_consensus_along_the_mean():
    run = Run(Method(SCALED_MEAN, 0.3, optimizer="sgd"), 2, drawn(1, 3), {})
    before = SMALL.first_weights([2])
    _, stack = Differentiable(SMALL, before.clone(), Cells(run.train)).gradients()
    mean, consensus = stack.mean(dim=0)[0], cl.Consensus().reduce(stack[:, 0])
    training = Training([run], Budget(1, (1,), (), 0), SMALL)
    training.train()
    step = training.final[0] - before[0]
    assert step.norm() == pytest.approx(0.3 * consensus.norm().item())
    assert torch.cosine_similarity(step, -mean, dim=0).item() == pytest.approx(1)


def test_networks_with_grids_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="same shapes"):
        Cells(drawn(1, 2), drawn(1, 2, (3, 4)))
