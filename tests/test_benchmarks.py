"""The benchmark's command works, goes on where it was stopped, and counts bytes and turns right."""

import csv
import os
import time

import pytest
import torch

import consensus_lib as cl
from tests.benchmarks import running, trial
from tests.benchmarks.__main__ import main
from tests.benchmarks.contenders import CONTENDERS, ORDINARY, OURS, Contender
from tests.benchmarks.figures import memory_figure, time_figure
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.processes import Failed, in_fresh_process, reason
from tests.benchmarks.results import Results, Row
from tests.benchmarks.stages import stages_of
from tests.benchmarks.tables import as_markdown
from tests.benchmarks.timing import Spread, Timing, Turn, in_turns
from tests.benchmarks.trial import Conditions, Trial

CONDITIONS = Conditions("cpu", threads=1, memory=4.0, seconds=60.0, repeats=2)
MIB = 2**20
TIMING = Timing(15, Spread(0.1, 0.2, 0.3), Spread(1.0, 1.5, 2.0))


def floats(mib: int) -> torch.Tensor:
    return torch.empty(mib * MIB // 4)


def test_the_meter_finds_the_worst_moment():
    def step():
        first = floats(3)
        second = floats(5)
        del first
        return second, floats(1)

    assert peak_bytes(step, "cpu") == 8 * MIB


def test_the_meter_counts_only_what_the_step_allocates():
    kept = floats(7)

    def step():
        return kept, floats(2)

    assert peak_bytes(step, "cpu") == 2 * MIB


def test_the_meter_sees_what_autograd_saves_and_the_gradient():
    weights = floats(1).fill_(1.0).requires_grad_()

    def step():
        weights.exp().sin().sum().backward()  # exp saves its output, sin its input: the same

    few_bytes = 64
    assert 3 * MIB <= peak_bytes(step, "cpu") <= 3 * MIB + few_bytes
    assert weights.grad is not None


def test_the_meter_sees_temporaries_inside_an_operator():
    once = floats(1).fill_(1.0)
    assert peak_bytes(lambda: once.median(), "cpu") >= MIB


@pytest.mark.cuda
def test_the_meter_counts_on_cuda():
    def step():
        first = floats(3).cuda()
        second = floats(5).cuda()
        del first
        return second, floats(1).cuda()

    assert peak_bytes(step, "cuda") == 8 * MIB


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_model_gives_one_loss_an_example(problem):
    workload = PROBLEMS[problem].make(3, "cpu")
    assert workload.losses().shape == (3,)
    assert workload.parameter_bytes == 4 * sum(p.numel() for p in workload.model.parameters())


def test_both_transformers_have_the_same_weights():
    sizes = [PROBLEMS[name].make(1, "cpu").parameter_bytes for name in ("transformer", "encoder")]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", [ORDINARY, OURS, "torch.func.vmap"])
@pytest.mark.parametrize("problem", ["mlp", "tinyconv"])
def test_a_contender_with_the_right_update_passes(name, problem):
    trial._check_update(problem, 3, name, "cpu")


def test_a_contender_with_a_wrong_update_is_refused(monkeypatch):
    liar = Contender(CONTENDERS[ORDINARY].prepare, cl.Consensus())
    monkeypatch.setitem(CONTENDERS, "liar", liar)
    with pytest.raises(Failed, match="gives another update"):
        trial._check_update("mlp", 3, "liar", "cpu")


@pytest.mark.parametrize("name", [name for name, c in CONTENDERS.items() if c.packages])
@pytest.mark.parametrize("problem", ["mlp", "convolutions", "tinyconv"])
def test_peers_give_their_rules_update(name, problem):
    for package in CONTENDERS[name].packages:
        pytest.importorskip(package)
    assert in_fresh_process(trial.try_out, problem, 3, name, CONDITIONS).peak > 0


def fail() -> None:
    raise ValueError("see /usr/lib/secret/place\nmore")


def die() -> None:
    os._exit(3)


def hang() -> None:
    time.sleep(600)


def test_a_process_answers():
    assert in_fresh_process(sum, [1, 2]) == 3


@pytest.mark.parametrize(
    ("function", "seconds", "said"),
    [(fail, None, "ValueError: see ...$"), (die, None, "code 3"), (hang, 0.5, "no result")],
)
def test_a_process_without_an_answer_says_why(function, seconds, said):
    with pytest.raises(Failed, match=said):
        in_fresh_process(function, seconds=seconds)


def test_too_much_memory_is_said_in_those_words():
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
    assert reason(error) == reason(MemoryError()) == "needs too much memory"


def test_turns_are_interleaved_and_a_failing_one_drops_out():
    order = []

    def turn(name, seconds):
        def run():
            order.append(name)
            return seconds

        return run

    def failing():
        raise MemoryError

    turns = {
        "a": Turn(turn("a", 1.0), 4),
        "b": Turn(turn("b", 2.0), 4),
        "few": Turn(turn("few", 3.0), 2),
        "bad": Turn(failing, 4),
    }
    assert in_turns(turns) == {
        "a": [1.0] * 4,
        "b": [2.0] * 4,
        "few": [3.0] * 2,
        "bad": "needs too much memory",
    }
    assert sorted(order[:3]) == sorted(order[3:6]) == ["a", "b", "few"]
    assert sorted(order[6:8]) == sorted(order[8:]) == ["a", "b"]


@pytest.fixture
def measured(monkeypatch):
    """What was asked of fresh processes, in place of which a stand-in answers at once."""
    asked = []

    def answer(function, problem, batch, what, conditions, seconds=None):
        asked.append((problem, batch, what))
        if function is trial.try_out:
            if what == "torch.func.vmap" and batch > 16:
                raise Failed("needs too much memory")
            return Trial(peak=100 * batch, parameters=50)
        return dict.fromkeys(what, TIMING)

    monkeypatch.setattr(running, "in_fresh_process", answer)
    return asked


def measure(results, batch=16, contenders=(ORDINARY, OURS, "torch.func.vmap"), stamp="now"):
    for _, part in running.Entry("mlp", batch, contenders, CONDITIONS, results, stamp).parts():
        part()


def test_what_is_measured_is_not_measured_again(measured, tmp_path):
    measure(Results(tmp_path, "cpu"))
    first = list(measured)
    measure(Results(tmp_path, "cpu"))
    assert measured == first
    assert [what for _, _, what in first[:3]] == [ORDINARY, OURS, "torch.func.vmap"]
    assert all(row.timed for row in Results(tmp_path, "cpu").rows)


def test_a_start_goes_on_after_a_kill(measured, tmp_path):
    results = Results(tmp_path, "cpu")
    killed = running.Entry("mlp", 16, (ORDINARY, OURS), CONDITIONS, results, "now")
    (_, first), *_ = killed.parts()
    first()  # and then the plug is pulled
    assert [row.contender for row in Results(tmp_path, "cpu").rows] == [ORDINARY]
    measure(Results(tmp_path, "cpu"), contenders=(ORDINARY, OURS))
    assert measured == [
        ("mlp", 16, ORDINARY),
        ("mlp", 16, OURS),
        ("mlp", 16, [ORDINARY, OURS]),
    ]


def test_results_of_other_sources_are_measured_again(measured, tmp_path):
    results = Results(tmp_path, "cpu")
    measure(results, stamp="before")
    before = len(measured)
    measure(results)
    assert len(measured) == 2 * before
    assert {row.stamp for row in results.rows} == {"now"}


def test_what_fails_at_a_batch_is_not_tried_at_a_larger_one(measured, tmp_path):
    results = Results(tmp_path, "cpu")
    measure(results, batch=64)
    measure(results, batch=256)
    assert ("mlp", 64, "torch.func.vmap") in measured
    assert ("mlp", 256, "torch.func.vmap") not in measured
    assert results.get(("mlp", 256, "torch.func.vmap")).skipped == "needs too much memory"


def test_a_peer_that_is_not_installed_is_recorded_as_such(measured, tmp_path, monkeypatch):
    absent = Contender(CONTENDERS[ORDINARY].prepare, None, packages=("no_such_package",))
    monkeypatch.setitem(CONTENDERS, "absent", absent)
    results = Results(tmp_path, "cpu")
    measure(results, contenders=(ORDINARY, "absent"))
    assert results.get(("mlp", 16, "absent")).skipped == "no_such_package not installed"
    assert results.get(("mlp", 16, ORDINARY)).timed


def test_table_and_figures_of_stored_results(measured, tmp_path):
    results = Results(tmp_path, "cpu")
    versions = {"torch": "2", "opacus": None}
    machine = {"cpu": "abacus", "cores": 2, "memory_gb": 1}
    results.describe(
        {"machine": machine, "versions": versions, "conditions": {"threads": 2, "repeats": 15}}
    )
    for batch in (16, 64):
        measure(results, batch=batch)
    assert "Some of it is older" not in as_markdown(results)
    results.put(Row("tinyconv", 3, OURS).with_trial(Trial(200, 50)).with_timing(TIMING))
    stored = Results(tmp_path, "cpu")
    table = as_markdown(stored)
    for said in (
        "abacus",
        "torch 2",
        "Some of it is older",
        "1.50 (1.00 to 2.00)",
        "needs too much memory",
        "0.2 s",
    ):
        assert said in table
    assert "opacus" not in table
    assert stored.extra_memory(stored.get(("mlp", 64, OURS))) == 0.0
    assert stored.extra_memory(stored.get(("tinyconv", 3, OURS))) is None
    for figure in (time_figure(stored), memory_figure(stored)):
        assert [ax.get_title() for ax in figure.axes] == [PROBLEMS["mlp"].title]
        assert figure.png().startswith(b"\x89PNG")


def test_the_quick_command_runs_and_goes_on(tmp_path, capsys):
    command = ["--quick", "--threads", "1", "--folder", str(tmp_path)]
    assert main(command) == 0
    assert "TinyConv" in capsys.readouterr().out
    path = tmp_path / "results-cpu.csv"
    first = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(first.splitlines()))
    assert len(rows) == 6
    assert all(row["ratio_median"] and row["peak_bytes"] and not row["skipped"] for row in rows)
    assert {p.name for p in tmp_path.iterdir()} == {
        "memory-cpu.png",
        "results-cpu.csv",
        "results-cpu.json",
        "results-cpu.md",
        "time-cpu.png",
    }
    assert main(command) == 0
    assert path.read_text(encoding="utf-8") == first
    lines = first.splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert main(command) == 0
    again = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(again) == len(lines)
    assert again[:4] == lines[:4]  # the other model's rows are as they were


def test_stages_tell_products_from_copies_and_waiting():
    a, b = torch.randn(2, 300, 300), torch.randn(2, 300, 300)
    product, copy, wait = (
        stages_of(step)
        for step in (lambda: torch.bmm(a, b), lambda: a.clone(), lambda: time.sleep(0.01))
    )
    assert product.products > product.copies + product.others
    assert copy.copies > copy.products + copy.others
    assert wait.outside > 0.009
