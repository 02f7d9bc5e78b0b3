"""Several processes end with exactly what one process finds for the whole batch."""

import itertools
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import consensus_lib as cl
from consensus_lib.statistics import Stack, Sum, widened
from tests.distributed_worker import (
    COMPARISONS,
    DTYPES,
    POWERS,
    RULES,
    SHARES,
    SUMS,
    every_pattern_of_signs,
    gathered,
    recorded,
    rule_of,
)

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# a bare checkout, a copy or an installed library: the processes import what this one does
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
RANKS = range(len(SHARES))

if not dist.is_available():
    pytest.skip("this build of torch has no torch.distributed", allow_module_level=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of three processes found, by rank; a hang ends as a failure."""
    folder = tmp_path_factory.mktemp("processes")
    logs = [(folder / f"{rank}.log").open("w+") for rank in RANKS]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distributed_worker", str(rank), str(folder)],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=logs[rank],
            stderr=subprocess.STDOUT,
        )
        for rank in RANKS
    ]
    deadline = time.monotonic() + 120
    try:
        # one that failed leaves the others waiting: look at all of them, not at one by one
        while any(p.poll() is None for p in processes) and not any(p.poll() for p in processes):
            if time.monotonic() > deadline:
                pytest.fail("the processes hang")
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        words = ""
        for rank, log in enumerate(logs):
            log.seek(0)
            words += f"rank {rank}:\n{log.read()}\n"
            log.close()
    if any(process.returncode for process in processes):
        pytest.fail(words, pytrace=False)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in RANKS]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_every_rule_updates_as_one_process_with_the_whole_batch(found, name, dtype):
    rule = rule_of(name)
    whole = recorded(slice(0, 7), rule.needs, dtype)
    expected = rule(whole)
    assert any(update.any() for update in expected.values())
    for rank in RANKS:
        assert found[rank]["counts"][name, dtype] == whole.count == 7
        updates = found[rank]["updates"][name, dtype]
        assert list(updates) == list(expected)
        for parameter, update in updates.items():
            torch.testing.assert_close(update, expected[parameter])
            # one step on each process leaves equal weights only if the bits are equal
            assert torch.equal(update, found[0]["updates"][name, dtype][parameter])


def test_the_batch_has_weights_with_consensus_without_and_without_any_vote():
    statistics = recorded(slice(0, 7), frozenset({*COMPARISONS}))
    consensus = torch.cat([u.flatten() for u in cl.Consensus()(statistics).values()])
    abstain = torch.cat([u.flatten() for u in cl.Consensus("abstain")(statistics).values()])
    masked, extra = (consensus == 0).sum(), ((consensus == 0) & (abstain != 0)).sum()
    assert 0 < extra < masked < len(consensus)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("statistic", [*COMPARISONS, *SUMS], ids=repr)
def test_every_pattern_of_signs_crosses_exactly(found, statistic, dtype):
    stack = every_pattern_of_signs(dtype)
    expected = Stack(widened(stack))[statistic]
    for rank in RANKS:
        answer = found[rank]["answers"][dtype][repr(statistic)]
        if statistic in COMPARISONS:
            assert answer.dtype == expected.dtype
            assert torch.equal(answer, expected)
        else:
            # a sum that cancels is as exact as its greatest term
            loose = {} if statistic != Sum() else {"rtol": 1e-6, "atol": 1e-5}
            columns = slice(0, 2187) if statistic == Sum() else slice(None)
            torch.testing.assert_close(answer[columns], expected[columns], **loose)


def test_steps_are_accumulated_before_they_cross(found):
    for rank in RANKS:
        assert found[rank]["accumulated"] == (14, [11 * 28.0] * 2)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("needs", r"'w' rank 0 has Agreed\(\).*rank 1 has Sum\(\).*same needs"),
        ("more needs", r"'w' rank 0 has Sum\(\).*Votes\(\).*rank 1 has Sum\(\)"),
        ("names", r"'v' rank 0 has nothing; rank 2 has Sum\(\)"),
        ("shapes", r"'w' rank 0 has .*\(3,\).*rank 2 has .*\(2,\)"),
        ("dtypes", r"'w' rank 0 has .*float32.*rank 1 has .*float64"),
        ("update dtypes", r"rank 0 has .* in torch.float32; rank 1 has .* in torch.float16"),
        ("one stack", r"rank 0 has Sum\(\).*rank 1 has stacked gradients"),
        ("stacks", r"stacked gradients.*tape\.statistics\(losses, needs=rule\.needs\)"),
    ],
)
def test_processes_that_differ_are_refused_everywhere(found, what, message):
    for rank in RANKS:
        said, as_it_was = found[rank]["refused"][what]
        assert re.search(message, said)
        assert said == found[0]["refused"][what][0]
        assert as_it_was


def test_a_statistic_of_ones_own_crosses_by_its_merge(found):
    assert all(f["own"] == [math.factorial(7)] * 2 for f in found)


def test_a_group_is_reduced_over_its_members_only(found):
    total = 1.0 + 4 + 5 + 6 + 7
    assert found[0]["pair"] == found[2]["pair"] == (5, [total] * 2, [7.0] * 2)
    said, as_it_was = found[1]["pair"]
    assert "rank 1 is not in the group" in said
    assert as_it_was


def test_without_processes_it_says_how_to_start_them():
    with pytest.raises(RuntimeError, match=r"torch\.distributed\.init_process_group.*torchrun"):
        gathered(torch.ones(2, 3), [Sum()]).all_reduce()


README_ROWS = {
    "Mean": ["Mean", "Consensus", "Consensus(abstain)", "SignVote"],
    "AndMask": ["AndMask", "AgreementWeighted", "SmallestMagnitude", "PowerMean(-inf)"],
    "PowerMean(p)": [f"PowerMean({p})" for p in POWERS],
    "RandomMask()": ["RandomMask"],
    "RandomMask(ratio)": ["RandomMask(0.5)"],
}


@pytest.mark.parametrize("row", README_ROWS)
def test_readme_says_what_is_communicated(found, row):
    (said,) = re.findall(rf"^\| .*`{re.escape(row)}`.* \| ([\d.]+)P \|$", README, re.MULTILINE)
    size = 4 * 12 + 12 + 12 * 3 + 3
    for name, dtype in itertools.product(README_ROWS[row], (torch.float32, torch.float16)):
        (first, *calls) = found[0]["calls"][name, dtype]
        assert first == ("all_gather", 16)
        # as many collectives however many parameters there are
        assert [call for call, _ in calls] == ["all_to_all_single", "all_gather"] * (
            len(calls) // 2
        )
        assert len(calls) // 2 == len(rule_of(name).needs)
        sent = sum(sent for call, sent in calls if call == "all_to_all_single")
        assert math.isclose(sent, float(said) * 4 * size, rel_tol=0.02)  # each is padded


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv, which torch lacks there")
def test_readmes_script_ends_as_one_process_with_the_whole_batch(tmp_path):
    (section,) = re.findall(r"## Several processes\n(.*?)\n## ", README, re.DOTALL)
    (script,) = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    (command,) = re.findall(r"`torchrun (.*) train.py`", section)
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    # not subprocess.run: at a timeout it would leave the processes of torchrun behind
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", *command.split()]
    process = subprocess.Popen(
        [*torchrun, str(tmp_path / "train.py")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun then ends what it started
        said, errors = process.communicate()
        pytest.fail(f"the script hangs\n{said}{errors}", pytrace=False)
    assert process.returncode == 0, errors

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    batch = torch.rand(8, 4)
    sums = batch.sum(dim=1, keepdim=True)
    history = cl.train(
        model, lambda o, t: (o - t).square().mean(dim=1), batch, sums, cl.Consensus(), optimizer, 30
    )
    assert history.loss[-1] < history.loss[0]
    bias = f"bias {model[2].bias.item():.6f}"
    assert sorted(said.splitlines()) == [f"{n} of 8 examples, {bias}" for n in (2, 3, 3)]
