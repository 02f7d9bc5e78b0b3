"""How flat is the loss around the weights that a rule ends with? Random steps away from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from course.arc import Task
from course.study.networks import Architecture, Cells, Networks
from course.study.training import Row

__all__ = ["rise_around"]

RADII = (0.01, 0.03, 0.1)  # of a step away, as a share of the norm of each layer's weights
DIRECTIONS = 20


def rise_around(
    final: Mapping[int, Tensor], found: Sequence[Sequence[Row]], task: Task
) -> list[list[Row]]:
    """How far the training loss rises around the weights of runs that ended "fitted".

    A random direction has, in each layer, a share of the norm of that layer's weights: a network
    whose weights are twice as large, with the same decisions, is not thereby flatter (the
    reason for filter normalization; Li et al. 2018, arXiv 1712.09913). All networks are moved
    in the same directions.

    Args:
        final: {number of a run: its weights (P,) at the end}.
        found: the rows of each run, the last of which says how it ended.
        task: whose training pairs they were trained on.

    Returns:
        For each run one row a radius: the mean rise over 20 directions, nats a cell; for a run
        that did not end "fitted" one row, without.
    """
    return [_rises(final[number], rows[-1], Cells(task.train)) for number, rows in enumerate(found)]


def _rises(weights: Tensor, last: Row, cells: Cells) -> list[Row]:
    row = {"ended": last["ended"], "train_loss": last["train_loss"]}
    if last["ended"] != "fitted":
        return [row]
    shape = Architecture()
    moved = weights[None].clone()
    networks = Networks(shape, moved, cells)

    def loss() -> Tensor:
        return networks.losses(networks.log_probabilities()).mean()

    before = loss()
    source = torch.Generator().manual_seed(0)
    directions = torch.randn(DIRECTIONS, len(weights), generator=source)
    rows = []
    for radius in RADII:
        rise = 0.0
        for direction in directions:
            step = direction.clone()
            for layer in shape.layers:
                own = slice(layer.start, layer.end)
                step[own] *= radius * weights[own].norm() / step[own].norm()
            moved.copy_(weights + step)
            rise += float(loss() - before)
        rows.append(row | {"radius": radius, "rise": rise / DIRECTIONS})
    return rows
