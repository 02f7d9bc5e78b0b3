"""The benchmark's command works, goes on where it was stopped, and counts bytes and turns right."""

import csv
import os
import time
from dataclasses import replace
from importlib.util import find_spec

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
from tests.benchmarks.tables import as_markdown
from tests.benchmarks.timing import in_turns
from tests.benchmarks.trial import Conditions, check_update, try_out

CONDITIONS = Conditions("cpu", threads=1, memory=4.0, seconds=60.0, repeats=2)
MIB = 2**20
MEMORY = {"peak_bytes": 200, "parameter_bytes": 50}
NAMES = [f"{of}_{part}" for of in ("seconds", "ratio") for part in ("low", "median", "high")]
TIMES = {"repeats": 15, **dict(zip(NAMES, (0.1, 0.2, 0.3, 1.0, 1.5, 2.0), strict=True))}
VMAP = "torch.func.vmap"


def floats(mib):
    return torch.empty(mib * MIB // 4)


def worst_moment():
    first = floats(3)
    second = floats(5)
    del first
    return second, floats(1)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_meter_finds_the_worst_moment_of_what_a_step_allocates(device):
    kept = floats(7).to(device)
    with torch.device(device):
        assert peak_bytes(lambda: (kept, worst_moment()), device) == 8 * MIB


def test_the_meter_sees_what_autograd_saves_and_temporaries_inside_an_operator():
    weights = floats(1).fill_(1.0).requires_grad_()
    # exp saves its output, sin its input: the same
    found = peak_bytes(lambda: weights.exp().sin().sum().backward(), "cpu")
    assert 3 * MIB <= found <= 3 * MIB + 64
    assert peak_bytes(lambda: weights.detach().median(), "cpu") >= MIB


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_model_gives_one_loss_an_example_and_ours_is_right(problem):
    if absent := [package for package in PROBLEMS[problem].packages if find_spec(package) is None]:
        pytest.skip(f"{absent} not installed")
    assert PROBLEMS[problem].make(3, "cpu").losses().shape == (3,)
    for contender in (OURS, "ours, consensus (abstain)"):
        check_update(problem, 3, contender, "cpu")


def test_both_transformers_have_the_same_weights():
    sizes = [PROBLEMS[name].make(1, "cpu").parameter_bytes for name in ("transformer", "encoder")]
    assert sizes[0] == sizes[1]


def test_a_contender_with_a_wrong_update_is_refused(monkeypatch):
    liar = Contender(CONTENDERS[ORDINARY].prepare, cl.Consensus())
    monkeypatch.setitem(CONTENDERS, "liar", liar)
    with pytest.raises(Failed, match="gives another update"):
        check_update("mlp", 3, "liar", "cpu")


@pytest.mark.parametrize("name", [VMAP, *(name for name, c in CONTENDERS.items() if c.packages)])
@pytest.mark.parametrize("problem", ["mlp", "convolutions", "tinyconv"])
def test_peers_give_their_rules_update(name, problem):
    for package in CONTENDERS[name].packages:
        pytest.importorskip(package)
    assert in_fresh_process(try_out, problem, 3, name, CONDITIONS)["peak_bytes"] > 0


def fail():
    raise ValueError("see /usr/lib/secret/place\nmore")


def die():
    os._exit(3)


def hang():
    time.sleep(600)


@pytest.mark.parametrize(
    ("function", "seconds", "said"),
    [(fail, None, "ValueError: see ...$"), (die, None, "code 3"), (hang, 0.5, "no result")],
)
def test_a_process_answers_or_says_why_not(function, seconds, said):
    assert in_fresh_process(sum, [1, 2]) == 3
    with pytest.raises(Failed, match=said):
        in_fresh_process(function, seconds=seconds)


def test_too_much_memory_is_said_in_those_words():
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
    assert reason(error) == reason(MemoryError()) == "needs too much memory"


def test_turns_are_interleaved_and_failing_or_long_ones_drop_out():
    order = []

    def turn(name, seconds):
        def run():
            order.append(name)
            if seconds is None:
                raise MemoryError
            return seconds

        return run

    times = {"a": 1.0, "b": 2.0, "long": 30.0, "bad": None, ORDINARY: 40.0}
    found = in_turns({name: turn(name, seconds) for name, seconds in times.items()}, 7)
    assert found.pop("bad") == "needs too much memory"
    rounds = {"a": 7, "b": 7, "long": 5, ORDINARY: 7}
    assert found == {name: [times[name]] * count for name, count in rounds.items()}
    assert sorted(order[:5]) == sorted(times)
    assert sorted(order[5:9]) == sorted(order[9:13]) == sorted(rounds)


@pytest.fixture
def measured(monkeypatch):
    """What was asked of fresh processes, in place of which a stand-in answers at once."""
    asked = []

    def answer(function, problem, batch, what, conditions, seconds=None):
        asked.append((problem, batch, what))
        if function is trial.try_out:
            if what == VMAP and batch > 16:
                raise Failed("needs too much memory")
            return MEMORY
        return dict.fromkeys(what, TIMES)

    monkeypatch.setattr(running, "in_fresh_process", answer)
    return asked


def measure(results, batch=16, contenders=(ORDINARY, OURS, VMAP), stamp="now", parts=None):
    entry = running.Entry("mlp", batch, contenders, CONDITIONS, results, stamp)
    for _, part in entry.parts()[:parts]:
        part()


def test_what_is_measured_is_not_measured_again_unless_sources_changed(measured, tmp_path):
    measure(Results(tmp_path, "cpu"), stamp="before", parts=1)  # and then the plug is pulled
    assert measured == [("mlp", 16, ORDINARY)]
    measure(Results(tmp_path, "cpu"), stamp="before")
    first = list(measured)
    assert [what for *_, what in first] == [ORDINARY, OURS, VMAP, [ORDINARY, OURS, VMAP]]
    measure(Results(tmp_path, "cpu"), stamp="before")
    assert measured == first
    measure(results := Results(tmp_path, "cpu"))
    assert measured == first * 2
    assert {row.stamp for row in results.rows} == {"now"}
    assert all(row.timed for row in Results(tmp_path, "cpu").rows)


def test_what_cannot_succeed_is_not_tried(measured, tmp_path, monkeypatch):
    absent = Contender(CONTENDERS[ORDINARY].prepare, None, packages=("no_such_package",))
    monkeypatch.setitem(CONTENDERS, "absent", absent)
    results = Results(tmp_path, "cpu")
    for batch in (64, 256):
        measure(results, batch, (ORDINARY, VMAP, "absent"))
    assert [batch for _, batch, what in measured if what == VMAP] == [64]
    assert results.get(("mlp", 256, VMAP)).skipped == "needs too much memory"
    assert results.get(("mlp", 64, "absent")).skipped == "no_such_package not installed"
    monkeypatch.setitem(PROBLEMS, "mlp", replace(PROBLEMS["mlp"], packages=("no_such_package",)))
    measure(results, 16)
    assert {row.skipped for row in results.of("mlp", 16)} == {"no_such_package not installed"}


def test_table_and_figures_of_stored_results(measured, tmp_path):
    results = Results(tmp_path, "cpu")
    results.describe(
        {
            "machine": {"cpu": "abacus", "cores": 2, "memory_gb": 1},
            "versions": {"torch": "2", "opacus": None},
            "conditions": {"device": "cpu", "threads": 2, "repeats": 15},
        }
    )
    for batch in (16, 64):
        measure(results, batch=batch)
    assert "Some of it is older" not in as_markdown(results)
    results.put(Row("tinyconv", 3, OURS, **MEMORY, **TIMES))
    stored = Results(tmp_path, "cpu")
    assert stored.rows == results.rows
    table = as_markdown(stored)
    needed = ("abacus", "torch 2", "is older", "1.50 (1.00 to 2.00)", "needs too much memory")
    for said in (*needed, "0.2 s"):
        assert said in table
    assert "opacus" not in table
    assert stored.extra_memory(stored.get(("mlp", 64, OURS))) == 0.0
    assert stored.extra_memory(stored.get(("tinyconv", 3, OURS))) is None
    for figure in (time_figure(stored), memory_figure(stored)):
        assert [ax.get_title() for ax in figure.axes] == [PROBLEMS["mlp"].title]
        assert figure.png().startswith(b"\x89PNG")


def test_the_quick_command_writes_what_it_measures(tmp_path, capsys):
    assert main(["--quick", "--threads", "1", "--folder", str(tmp_path)]) == 0
    assert "TinyConv" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "results-cpu.csv").open(encoding="utf-8")))
    assert len(rows) == 6
    assert all(row["ratio_median"] and row["peak_bytes"] and not row["skipped"] for row in rows)
    made = {f"{of}-cpu.{kind}" for of, kind in (("time", "png"), ("memory", "png"))}
    made |= {f"results-cpu.{kind}" for kind in ("csv", "json", "md")}
    assert {p.name for p in tmp_path.iterdir()} == made
