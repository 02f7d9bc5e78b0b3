"""The transformer of transformer.py, with torch's own nn.TransformerEncoderLayer."""

import torch
from torch import nn

from tests.benchmarks.problems.transformer import (
    CLASSES,
    HEADS,
    LAYERS,
    WIDTH,
    tokens_and_classes,
)
from tests.benchmarks.problems.workload import Problem, Workload, token_loss


def make(batch: int, device: str) -> Workload:
    """The same function of the same number of weights."""
    torch.manual_seed(0)
    layers = [
        nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        for _ in range(LAYERS)
    ]
    model = nn.Sequential(*layers, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES))
    return Workload(model.to(device), token_loss, (tokens_and_classes(batch, device),))


ENCODER = Problem("transformer, nn.TransformerEncoderLayer", make, {16: 1.3})
