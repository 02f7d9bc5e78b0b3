"""The multilayer perceptron: 784-512-512-10 with ReLU, the sizes of MNIST."""

import torch
from torch import nn

from tests.benchmarks.problems.workload import Problem, Workload, class_loss


def make(batch: int, device: str) -> Workload:
    """Random images, random classes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    group = (torch.randn(batch, 784).to(device), torch.randint(10, (batch,)).to(device))
    return Workload(model.to(device), class_loss, (group,))


MLP = Problem("MLP 784-512-512-10", make, {64: 1.8, 512: 1.3})
