"""What one of three processes does for test_distributed.py, which starts them and compares.

python -m tests.distributed_worker RANK FOLDER
"""

import datetime
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
import torch.distributed as dist

# Imported later, as making an optimizer does, it would hold on to the processes' group, and threads
# that outlive destroy_process_group() now and then abort a process that is done.
import torch.distributed.nn
from torch import nn

import consensus_lib as cl
from consensus_lib.statistics import (
    Agreed,
    GradientStatistics,
    Least,
    LeastNonzero,
    LogPowerSum,
    Maximum,
    Minimum,
    Stack,
    Statistic,
    Sum,
    Touched,
    Unopposed,
    Votes,
    widened,
)

SHARES = [slice(0, 1), slice(1, 3), slice(3, 7)]  # of seven voters: 1, 2 and 4
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
POWERS = (-2.0, 0.0, 1.0, 2.5)
COMPARISONS = [
    Votes(),
    Minimum(),
    Maximum(),
    Touched(),
    Least(),
    LeastNonzero(),
    Agreed(),
    Unopposed(),
]
SUMS = [Sum(), *(LogPowerSum(p) for p in POWERS)]
RULES = {
    "Mean": cl.Mean(),
    "Consensus": cl.Consensus(),
    "Consensus(abstain)": cl.Consensus(zeros="abstain"),
    "AndMask": cl.AndMask(),
    "AndMask(0.5)": cl.AndMask(threshold=0.5),
    "AgreementWeighted": cl.AgreementWeighted(),
    "SignVote": cl.SignVote(),
    "SmallestMagnitude": cl.SmallestMagnitude(),
    **{f"PowerMean({p})": cl.PowerMean(p, threshold=0.5) for p in (-float("inf"), *POWERS)},
    "RandomMask": "seeded anew for each use",
    "RandomMask(0.5)": "seeded anew for each use",
}


def rule_of(name):
    if not name.startswith("RandomMask"):
        return RULES[name]
    ratio = None if name == "RandomMask" else 0.5
    return cl.RandomMask(ratio, torch.Generator().manual_seed(3))


def recorded(share, needs, dtype=torch.float64):
    """Statistics of a share of seven examples, some of which leave hidden units untouched."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3)).to(dtype)
    inputs = torch.randn(7, 4) + torch.tensor([1.5, 1.5, 0, -1])
    targets = 3 * torch.rand(7, 3)
    with cl.record(model) as tape:
        outputs = model(inputs[share].to(dtype))
        losses = (outputs - targets[share].to(dtype)).square().mean(dim=1)
    return tape.statistics(losses, needs)


def every_pattern_of_signs(dtype):
    """(7, 2187 + 8): all ways in which seven voters can be +, - or 0, and extreme magnitudes."""
    signs = torch.tensor(list(product([-1.0, 0.0, 1.0], repeat=7))).T
    magnitudes = torch.empty_like(signs).uniform_(
        0.1, 4, generator=torch.Generator().manual_seed(5)
    )
    # in float64 so great that their powers overflow, though the logarithms do not
    greatest = {torch.float64: 1e200, torch.float16: 1e4}.get(dtype, 1e30)
    ends = torch.tensor([1 / greatest, greatest], dtype=torch.float64)
    extreme = ends[torch.arange(7 * 8).reshape(7, 8) % 3 % 2]
    return torch.cat([signs * magnitudes, extreme], dim=1).to(dtype)


def gathered(stack, needs, name="w"):
    """Statistics as a recording holds them: the answers only, without the stack."""
    found = Stack(widened(stack))
    return GradientStatistics(
        len(stack), {name: {need: found[need] for need in needs}}, {name: stack.dtype}
    )


def mismatches(rank):
    """{what differs: this process's statistics}; each must be refused in every process."""
    g = torch.ones(2, 3)
    return {
        "needs": gathered(g, [Sum()] if rank == 1 else [Agreed()]),
        "more needs": gathered(g, [Sum(), Votes()] if rank == 0 else [Sum()]),
        "names": gathered(g, [Sum()], "v" if rank == 2 else "w"),
        "shapes": gathered(g[:, :2] if rank == 2 else g, [Sum()]),
        "dtypes": gathered(g.double() if rank == 1 else g, [Sum()]),
        "update dtypes": gathered(g.half() if rank == 1 else g, [Sum()]),
        "one stack": cl.statistics_of({"w": g}) if rank == 1 else gathered(g, [Sum()]),
        "stacks": cl.statistics_of({"w": g}),
    }


@dataclass(frozen=True)
class Product(Statistic):
    """A statistic of a reader's own: it says how it merges, and no more."""

    def of(self, stack):
        return stack.gradients.prod(dim=0)

    def merge(self, a, b):
        return a * b


class Counted:
    """Counts the collectives while it is entered: [(name, bytes sent), ...]."""

    NAMES = ("all_to_all_single", "all_gather", "all_gather_object")

    def __enter__(self):
        self.calls = []
        self.originals = {name: getattr(dist, name) for name in self.NAMES}
        for name, original in self.originals.items():
            setattr(dist, name, self.counting(name, original))
        return self.calls

    def __exit__(self, *_):
        for name, original in self.originals.items():
            setattr(dist, name, original)

    def counting(self, name, original):
        def count(*args, **settings):
            sent = args[1]
            self.calls.append((name, sent.nbytes if isinstance(sent, torch.Tensor) else -1))
            return original(*args, **settings)

        return count


def refusal(statistics, group=None):
    """The message with which all_reduce refuses, and what the statistics are afterwards."""
    before = statistics.by_parameter
    try:
        statistics.all_reduce(group)
    except ValueError as error:
        return str(error), statistics.by_parameter is before
    return "not refused", False


def work(rank):
    share, found = SHARES[rank], {}
    found["counts"], found["updates"], found["calls"] = {}, {}, {}
    for dtype in DTYPES:
        for name in RULES:
            rule = rule_of(name)
            statistics = recorded(share, rule.needs, dtype)
            with Counted() as calls:
                assert statistics.all_reduce() is statistics
            found["counts"][name, dtype] = statistics.count
            found["updates"][name, dtype] = rule(statistics)
            found["calls"][name, dtype] = calls

    # The needs in another order in each process, as a set may have them.
    needs = [*COMPARISONS, *SUMS]
    needs = needs[rank:] + needs[:rank]
    found["answers"] = {
        dtype: {
            repr(statistic): answer
            for statistic, answer in gathered(every_pattern_of_signs(dtype)[share], needs)
            .all_reduce()
            .by_parameter["w"]
            .items()
        }
        for dtype in DTYPES
    }

    rows = torch.arange(1.0, 8)[:, None].expand(7, 2)
    steps = gathered(rows[share], [Sum()]).merge(gathered(10 * rows[share], [Sum()])).all_reduce()
    found["accumulated"] = (steps.count, steps.by_parameter["w"][Sum()].tolist())

    found["refused"] = {what: refusal(s) for what, s in mismatches(rank).items()}
    own = gathered(rows[share], [Product()]).all_reduce()
    found["own"] = own.by_parameter["w"][Product()].tolist()

    outer = dist.new_group([0, 2])
    pair = gathered(rows[share], [Sum(), Maximum()])
    if rank == 1:
        found["pair"] = refusal(pair, outer)
    else:
        answers = pair.all_reduce(outer).by_parameter["w"]
        found["pair"] = (pair.count, answers[Sum()].tolist(), answers[Maximum()].tolist())
    return found


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    dist.init_process_group(
        "gloo",
        init_method=(folder / "meeting_point").as_uri(),
        rank=rank,
        world_size=len(SHARES),
        timeout=datetime.timedelta(seconds=30),
    )
    torch.save(work(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
