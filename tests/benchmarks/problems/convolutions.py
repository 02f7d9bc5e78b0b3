"""Four 3x3 convolutions of 64 channels on 16x16 grids of ten colours, ten classes a cell."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from course.arc import cell_loss
from tests.benchmarks.problems.workload import Problem, Workload


def make(batch: int, device: str) -> Workload:
    """Random grids as one-hot colours, random target colours."""
    torch.manual_seed(0)
    sizes = [10, 64, 64, 64, 10]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    colours, targets = torch.randint(10, (2, batch, 16, 16))
    inputs = functional.one_hot(colours, 10).permute(0, 3, 1, 2).float().contiguous()
    return Workload(model.to(device), cell_loss, ((inputs.to(device), targets.to(device)),))


CONVOLUTIONS = Problem("4 convolutions, 64 channels, 16x16", make, {32: 1.3})
