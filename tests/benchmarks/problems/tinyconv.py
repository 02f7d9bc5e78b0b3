"""The course's own network on the ARC task a699fb00: three grids of two sizes, in two groups."""

import torch

from course.arc import TinyConv, cell_loss, encode_pairs, load_task
from tests.benchmarks.problems.workload import Problem, Workload

PAIRS = 3


def make(batch: int, device: str) -> Workload:
    """The first `batch` training pairs of the task, at most all three."""
    torch.manual_seed(0)
    groups = encode_pairs(load_task("a699fb00").train[:batch], device)
    model = TinyConv().to(device)
    return Workload(model, cell_loss, tuple((group.inputs, group.targets) for group in groups))


TINYCONV = Problem("TinyConv on a699fb00", make, {PAIRS: 1.7}, fixed_batch=PAIRS)
