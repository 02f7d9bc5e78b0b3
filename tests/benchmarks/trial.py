"""A contender alone in a fresh process: is its update right, and how much memory does it need?"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

import consensus_lib as cl
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.memory import limit_memory, peak_bytes
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.processes import Failed

__all__ = ["Conditions", "check_update", "try_out", "use"]

FEW = 4
TOLERANCE = 1e-3
WITHOUT_JUMPS = (cl.Mean(), cl.Consensus())
MOST_JUMPS = 0.01


@dataclass(frozen=True)
class Conditions:
    """Under which conditions everything is measured.

    Attributes:
        device: "cpu" or "cuda".
        threads: of torch, on the CPU.
        memory: gigabytes that a step may use.
        seconds: that a step may take.
        repeats: how often a step is timed.
    """

    device: str
    threads: int
    memory: float
    seconds: float
    repeats: int


def use(conditions: Conditions) -> None:
    """Set this process to the conditions; float32 stays float32 on CUDA, too."""
    torch.set_num_threads(conditions.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    limit_memory(conditions.memory, conditions.device)


def try_out(problem: str, batch: int, contender: str, conditions: Conditions) -> dict[str, int]:
    """Check the contender's update on a few examples, then make three steps of the full batch.

    Returns:
        Of a row of the results `parameter_bytes`, and `peak_bytes` of the third step: at the first
        two, ours also looks at whose the rows are.

    Raises:
        Failed: for an update that is not its rule's, or a step that takes too long.
    """
    use(conditions)
    check_update(problem, min(batch, FEW), contender, conditions.device)
    workload = PROBLEMS[problem].make(batch, conditions.device)
    step = CONTENDERS[contender].prepare(workload)
    for _ in range(2):
        begin = time.perf_counter()
        step()
        if time.perf_counter() - begin > conditions.seconds:
            raise Failed(f"a step takes longer than {conditions.seconds:.0f} s")
        workload.model.zero_grad()
    peak = peak_bytes(step, conditions.device)
    return {"peak_bytes": peak, "parameter_bytes": workload.parameter_bytes}


def check_update(problem: str, batch: int, contender: str, device: str) -> None:
    """Compare with the rule on the gradients of ordinary backward passes, one an example.

    Where a gradient is 0 but for rounding its sign is noise, and a rule that jumps at 0 may give
    another update there.

    Raises:
        Failed: if they differ.
    """
    rule = CONTENDERS[contender].rule
    workload = PROBLEMS[problem].make(batch, device)
    CONTENDERS[contender].prepare(workload)()
    if rule is None:
        return
    found = torch.cat([parameter.grad.flatten() for parameter in workload.model.parameters()])
    workload = PROBLEMS[problem].make(batch, device)
    parameters = list(workload.model.parameters())
    rows = [torch.autograd.grad(x, parameters, retain_graph=True) for x in workload.losses()]
    stacks = [torch.stack(of_one) for of_one in zip(*rows, strict=True)]
    expected = torch.cat([rule.reduce(stack).flatten() for stack in stacks])
    right = torch.isclose(found, expected, rtol=0, atol=TOLERANCE * expected.abs().max().item())
    wrong = 1 - right.float().mean().item()
    if wrong > (0 if rule in WITHOUT_JUMPS else MOST_JUMPS):
        raise Failed(f"gives another update at {wrong:.1%} of the weights")
