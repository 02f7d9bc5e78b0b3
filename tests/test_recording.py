"""Recorded statistics against loops of ordinary backward passes, for every kind of model."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import consensus_lib as cl
from tests import oracle
from tests.names import Agreed, Least, LogPowerSum, Sum, Touched, Unopposed, Votes
from tests.steps import assert_in_words
from tests.strategies import rules_with_oracles
from tests.test_rules import TABLE
from tests.zoo import ZOO, build, loss_fn

# what takes the exact way is slow, and may say so
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

NEEDS = frozenset({Sum(), Votes(), Touched(), Least(), Agreed(), Unopposed(), LogPowerSum(0.5)})


def assert_same_statistics(recorded, gradients):
    expected = cl.statistics_of(gradients)
    assert recorded.count == expected.count
    assert recorded.by_parameter.keys() == gradients.keys()
    for name, stack in gradients.items():
        # a key's bias has the gradient 0 but for rounding, whose sign nobody can tell
        noise = 1e-13 * max(1.0, float(stack.abs().max()))
        quiet = stack.abs() < noise
        certain = ~(quiet if "in_proj_bias" in name else quiet & (stack != 0)).any(dim=0)
        for need in NEEDS:
            torch.testing.assert_close(
                recorded.by_parameter[name][need][certain],
                expected.by_parameter[name][need][certain],
                msg=lambda text, name=name, need=need: f"{name} {need}: {text}",
            )


def one_weight(gradients, dtype=torch.float64):
    """A model with one weight whose per-example gradients are the ones given."""
    model = nn.Linear(1, 1, bias=False).to(dtype)
    return model, torch.tensor(gradients, dtype=dtype)[:, None]


@pytest.mark.parametrize("kind", ZOO)
@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 1), (2, 2**26), (5, 300)])
def test_recorded_statistics_are_those_of_ordinary_backward_passes(kind, batch_size, chunk):
    animal = build(kind)
    inputs, targets = animal.inputs(batch_size), torch.randn(batch_size, dtype=torch.float64)
    with cl.record(animal.model, chunk_bytes=chunk) as tape:
        losses = loss_fn(animal.model(inputs), targets)
    expected = oracle.gradients_by_loop(animal.model, losses)
    assert_same_statistics(tape.statistics(losses, NEEDS), expected)


@pytest.mark.parametrize("kind", ZOO)
def test_the_update_is_the_rule_on_ordinary_gradients(kind):
    animal = build(kind)
    inputs, targets = animal.inputs(3), torch.randn(3, dtype=torch.float64)
    for rule, definition in rules_with_oracles(cl)[2:7]:
        with cl.record(animal.model) as tape:
            losses = loss_fn(animal.model(inputs), targets)
        gradients = oracle.gradients_by_loop(animal.model, losses)
        tape.backward(losses, rule)
        for name, parameter in animal.model.named_parameters():
            if name in animal.untouched:
                assert parameter.grad is None
            else:
                expected = oracle.each_weight(definition, gradients[name])
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-9)
                parameter.grad = None


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind != "partly unused"])
def test_the_mean_rule_is_the_ordinary_backward_pass(kind):
    animal = build(kind)
    inputs, targets = animal.inputs(4), torch.randn(4, dtype=torch.float64)
    with cl.record(animal.model) as tape:
        losses = loss_fn(animal.model(inputs), targets)
    losses.mean().backward(retain_graph=True)
    ordinary = {n: p.grad.to_dense() for n, p in animal.model.named_parameters() if p.requires_grad}
    animal.model.zero_grad()
    report = tape.backward(losses, cl.Mean())
    assert report.loss == pytest.approx(losses.mean().item())
    for name, parameter in animal.model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, ordinary[name])


@pytest.mark.parametrize("g", [g for g, *_ in TABLE])
def test_the_numbers_of_the_course_through_a_real_backward_pass(g):
    for rule, definition in rules_with_oracles(cl)[:4]:
        model, inputs = one_weight(g)
        with cl.record(model) as tape:
            losses = model(inputs)[:, 0]
        report = tape.backward(losses, rule)
        assert model.weight.grad.item() == pytest.approx(definition(g))
        assert report.consensus_ratio == float(oracle.consensus_veto(g) != 0)
        assert report.update_ratio == float(abs(definition(g)) > 1e-12)
        assert report.live_ratio == float(any(g))
        assert report.floor == 2.0 ** (1 - len(g))
        assert report.voters == len(g)


def test_updates_add_to_grad_as_backward_does():
    model, inputs = one_weight([0.4, 1.2, 0.3])
    for expected in (0.3, 0.6):
        with cl.record(model) as tape:
            losses = model(inputs)[:, 0]
        tape.backward(losses, cl.Consensus())
        assert model.weight.grad.item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mlp", "conv", "dropout", "tied"])
@given(voters=st.lists(st.integers(-2, 2), min_size=1, max_size=6))
@settings(max_examples=10)
def test_a_voter_is_the_mean_of_its_examples(kind, voters):
    animal = build(kind)
    inputs = animal.inputs(len(voters))
    targets = torch.randn(len(voters), dtype=torch.float64)
    for ids in (voters, torch.tensor(voters)):
        with cl.record(animal.model, chunk_bytes=600) as tape:
            losses = loss_fn(animal.model(inputs), targets)
        expected = oracle.voter_means(oracle.gradients_by_loop(animal.model, losses), voters)
        assert_same_statistics(tape.statistics(losses, NEEDS, ids), expected)


def test_groups_of_different_shapes_are_one_batch():
    animal = build("conv")
    shapes = [(2, 2, 5, 4), (1, 2, 3, 6), (3, 2, 4, 4)]
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    targets = [torch.randn(len(x), dtype=torch.float64) for x in inputs]
    losses = torch.cat([loss_fn(animal.model(x), y) for x, y in zip(inputs, targets, strict=True)])
    gradients = oracle.gradients_by_loop(animal.model, losses)
    for rule, definition in rules_with_oracles(cl)[:7]:
        animal.model.zero_grad()
        report = cl.backward(animal.model, loss_fn, inputs, targets, rule)
        assert report.voters == 6
        assert report.loss == pytest.approx(losses.mean().item())
        for name, parameter in animal.model.named_parameters():
            expected = oracle.each_weight(definition, gradients[name])
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-9)


def test_a_voter_may_have_examples_in_several_groups():
    animal = build("conv")
    inputs = [torch.randn(2, 2, 5, 4, dtype=torch.float64), torch.randn(2, 2, 4, 5).double()]
    targets = [torch.randn(2, dtype=torch.float64) for _ in inputs]
    voters = [0, 1, 0, 1]
    losses = torch.cat([loss_fn(animal.model(x), y) for x, y in zip(inputs, targets, strict=True)])
    gradients = oracle.voter_means(oracle.gradients_by_loop(animal.model, losses), voters)
    report = cl.backward(animal.model, loss_fn, inputs, targets, cl.Consensus(), voters=voters)
    assert report.voters == 2
    for name, parameter in animal.model.named_parameters():
        expected = oracle.each_weight(oracle.consensus_veto, gradients[name])
        torch.testing.assert_close(parameter.grad, expected)


def test_merged_micro_batches_are_one_batch():
    animal = build("mlp")
    inputs, targets = animal.inputs(7), torch.randn(7, dtype=torch.float64)
    merged = None
    for rows in (slice(0, 3), slice(3, 4), slice(4, 7)):
        with cl.record(animal.model) as tape:
            losses = loss_fn(animal.model(inputs[rows]), targets[rows])
        found = tape.statistics(losses, NEEDS)
        merged = found if merged is None else merged.merge(found)
    losses = loss_fn(animal.model(inputs), targets)
    gradients = oracle.gradients_by_loop(animal.model, losses)
    assert_same_statistics(merged, gradients)
    cl.apply_update(animal.model, cl.AndMask()(merged))
    for name, parameter in animal.model.named_parameters():
        expected = oracle.each_weight(oracle.and_mask(1.0), gradients[name])
        torch.testing.assert_close(parameter.grad, expected)


def test_the_report_counts_by_parameter_and_sees_dead_weights():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [2.0, 1.0]]))
        model[1].weight.fill_(1.0)
    inputs = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0]], dtype=torch.float64)
    report = cl.backward(model, lambda o, t: o[:, 0] ** 2 + t, inputs, inputs[:, 0], cl.Mean())
    # d/dw0 = 2 o x: the second input is always 0, and o x has the sign of x^2 for every example
    first, second = report.by_parameter["0.weight"], report.by_parameter["1.weight"]
    assert (first.size, first.live, first.consensus, first.updated) == (4, 2, 2, 2)
    assert (second.size, second.live, second.consensus, second.updated) == (2, 2, 2, 2)
    assert report.consensus_ratio == pytest.approx(4 / 6)
    assert report.live_consensus_ratio == 1.0
    assert "consensus_ratio=0.667" in repr(report)


@pytest.mark.parametrize("rule", [rule for rule, _ in rules_with_oracles(cl)], ids=repr)
def test_every_rule_reports_the_same_consensus(rule):
    animal = build("mlp")
    inputs, targets = animal.inputs(3), torch.randn(3, dtype=torch.float64)
    losses = loss_fn(animal.model(inputs), targets)
    gradients = oracle.gradients_by_loop(animal.model, losses)
    flat = torch.cat([g.flatten(1) for g in gradients.values()], dim=1)
    agreed = oracle.each_weight(lambda g: float(oracle.consensus_veto(g) != 0), flat)
    live = oracle.each_weight(lambda g: float(any(g)), flat)
    report = cl.backward(animal.model, loss_fn, inputs, targets, rule)
    assert report.consensus_ratio == pytest.approx(agreed.mean().item())
    assert report.live_ratio == pytest.approx(live.mean().item())


def test_random_signs_agree_at_the_coin_flip_floor():
    model = nn.Linear(20_000, 1, bias=False)
    for n in (2, 3, 5):
        report = cl.backward(
            model, lambda o, t: o[:, 0] + t, torch.randn(n, 20_000), torch.zeros(n), cl.Consensus()
        )
        spread = math.sqrt(report.floor * (1 - report.floor) / 20_000)
        assert abs(report.consensus_ratio - report.floor) < 4 * spread


@pytest.mark.parametrize("kind", ["mlp", "conv", "gru"])
def test_no_example_objects_to_a_consensus_step(kind):
    animal = build(kind)
    inputs, targets = animal.inputs(2), torch.randn(2, dtype=torch.float64)
    gradients = oracle.gradients_by_loop(animal.model, loss_fn(animal.model(inputs), targets))
    cl.backward(animal.model, loss_fn, inputs, targets, cl.Consensus())
    update = torch.cat([p.grad.flatten() for p in animal.model.parameters()])
    assert update.any()
    for g in torch.cat([g.flatten(1) for g in gradients.values()], dim=1):
        assert g @ update >= update @ update - 1e-12


# What goes wrong, and what is said


def recorded_losses(model, inputs):
    with cl.record(model) as tape:
        return tape, model(inputs)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda losses: losses.mean(), r"shape \(\).*reduction='none'"),
        (lambda losses: losses[:, None], r"shape \(3, 1\).*\(B,\)"),
        (lambda losses: losses[:0], "empty batch"),
        (lambda losses: losses.detach(), "no graph"),
    ],
)
def test_bad_losses_are_refused(spoil, message):
    model, inputs = one_weight([1, 2, 3])
    tape, outputs = recorded_losses(model, inputs)
    with pytest.raises(ValueError, match=message):
        tape.backward(spoil(outputs[:, 0]), cl.Consensus())
    assert model.weight.grad is None


def test_a_wrong_number_of_losses_is_refused():
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match="5 example"):
        cl.backward(
            model, lambda o, t: (o - t).sum(0), torch.ones(5, 2), torch.ones(5, 1), cl.Mean()
        )


@pytest.mark.parametrize("track", [True, False])
def test_batch_norm_is_refused_by_name(track):
    norm = nn.BatchNorm1d(4, track_running_stats=track).train(track)
    model = nn.Sequential(nn.Linear(3, 4), nn.ModuleDict({"norm": norm})["norm"])
    with pytest.raises(ValueError, match=r"layer '1' \(BatchNorm1d\).*GroupNorm.*eval"):
        cl.backward(model, loss_fn, torch.ones(2, 3), torch.ones(2), cl.Mean())
    with pytest.raises(ValueError, match=r"layer '1'"):
        cl.per_example_gradients(model, loss_fn, torch.ones(2, 3), torch.ones(2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_example(bad):
    model, inputs = one_weight([1, bad, 2])
    model.weight.grad = torch.full_like(model.weight, 7.0)
    tape, outputs = recorded_losses(model, inputs)
    with pytest.raises(FloatingPointError, match="loss of example 1 is -?(nan|inf)"):
        tape.backward(outputs[:, 0], cl.Consensus())
    assert model.weight.grad.item() == 7.0


@pytest.mark.parametrize("chunk_bytes", [1, 2**26])
def test_a_gradient_that_is_not_finite_names_parameter_and_voter(chunk_bytes):
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    inputs = torch.tensor([[1.0], [2.0], [3.0]])
    with cl.record(model, chunk_bytes=chunk_bytes) as tape:
        outputs = model(inputs)[:, 0]
    losses = torch.stack([outputs[0], outputs[1], (outputs[2] * 0).sqrt()])
    with pytest.raises(FloatingPointError, match=r"voter 2 at parameter '0\.weight'"):
        tape.backward(losses, cl.Consensus())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("voters", "error", "message"),
    [
        ([0, 1], ValueError, r"shape \(2,\).*3 examples"),
        ([0.0, 1.0, 1.0], TypeError, "integers"),
        (torch.zeros(3, 1, dtype=torch.int64), ValueError, r"shape \(3, 1\)"),
    ],
)
def test_bad_voters_are_refused(voters, error, message):
    model, inputs = one_weight([1, 2, 3])
    tape, outputs = recorded_losses(model, inputs)
    with pytest.raises(error, match=message):
        tape.backward(outputs[:, 0], cl.Consensus(), voters=voters)


def test_a_model_run_outside_the_recording_is_right_or_refused():
    model, inputs = one_weight([1, 2, 3])
    with cl.record(model) as tape:
        pass
    try:
        tape.backward(model(inputs)[:, 0], cl.Consensus())
    except ValueError as error:
        assert_in_words(error, "record")
    else:
        assert model.weight.grad.item() == 1.0


def test_losses_of_another_model_are_refused():
    model, inputs = one_weight([1, 2, 3])
    other, _ = one_weight([1])
    tape, _ = recorded_losses(model, inputs)
    with pytest.raises(ValueError, match="no trainable parameter|outside"):
        tape.backward(other(inputs)[:, 0], cl.Consensus())


def test_a_tape_is_read_once():
    model, inputs = one_weight([1, 2, 3])
    tape, outputs = recorded_losses(model, inputs)
    tape.backward(outputs[:, 0], cl.Consensus())
    with pytest.raises(RuntimeError, match="read already.*new record"):
        tape.backward(outputs[:, 0], cl.Consensus())
    assert model.weight.grad.item() == 1.0


def test_a_model_with_nothing_to_train_is_refused():
    model, inputs = one_weight([1, 2, 3])
    model.requires_grad_(False)
    tape, outputs = recorded_losses(model, inputs)
    with pytest.raises(ValueError, match="no trainable parameter|no graph"):
        tape.backward(outputs[:, 0], cl.Consensus())


def test_tensors_on_two_devices_are_refused():
    model = nn.Linear(2, 1)
    there = torch.ones(3, 2, device="meta")
    for call in (cl.backward, cl.per_example_gradients):
        rule = [cl.Mean()] if call is cl.backward else []
        with pytest.raises(ValueError, match=r"model is on cpu.*on meta.*\.to\('cpu'\)"):
            call(model, loss_fn, there, torch.ones(3), *rule)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ([], [], "group"),
        ([torch.ones(2, 3)], [], "equally many groups"),
        ([torch.ones(2, 3)], torch.ones(2), "equally many groups"),
        ([torch.ones(2, 3)], [torch.ones(3)], "2 inputs and 3 targets"),
        (torch.ones(0, 3), torch.ones(0), "empty batch"),
    ],
)
def test_bad_groups_are_refused(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        cl.backward(nn.Linear(3, 1), loss_fn, inputs, targets, cl.Mean())


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["mlp", "conv", "gru", "attention", "embedding"])
def test_on_a_gpu_the_update_is_the_same(kind):
    animal = build(kind)
    inputs, targets = animal.inputs(4), torch.randn(4, dtype=torch.float64)
    cl.backward(animal.model, loss_fn, inputs, targets, cl.Consensus())
    on_cpu = [p.grad.clone() for p in animal.model.parameters()]
    animal.model.zero_grad()
    animal.model.cuda()
    cl.backward(animal.model, loss_fn, inputs.cuda(), targets.cuda(), cl.Consensus())
    for expected, p in zip(on_cpu, animal.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad.cpu(), expected)
