"""From grids to tensors: one-hot colours, groups of equal shape, and the loss of a grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from course.arc.tasks import N_COLOURS, Pair, Task, as_grid

N_CHANNELS = N_COLOURS + 1


@dataclass(frozen=True, eq=False)
class Group:
    """Pairs of one grid shape as a batch.

    inputs: float32 (B, 11, H, W). targets: int64 (B, H, W), or None where outputs are hidden.
    indices: which pairs of the list these are, counted from 0.
    """

    inputs: Tensor
    targets: Tensor | None
    indices: tuple[int, ...]


def encode_grid(grid: np.ndarray) -> Tensor:
    """Turn a grid (H, W) of colours 0 to 9 into a float32 tensor (11, H, W).

    Ten one-hot colour channels and a channel of ones. A convolution pads with zeros, also where
    black is a colour of its own; only the channel of ones tells it where the grid ends.
    Raises ValueError for what is no ARC grid.
    """
    colours = torch.tensor(as_grid(grid))
    one_hot = functional.one_hot(colours, N_COLOURS).permute(2, 0, 1)
    return torch.cat([one_hot, torch.ones_like(one_hot[:1])]).float()


def encode_pairs(pairs: Sequence[Pair], device: str | torch.device = "cpu") -> list[Group]:
    """Batch pairs of the same shape, in the order in which the shapes first appear.

    Pairs with a hidden output form groups of their own, with targets None. Raises ValueError
    naming the pair, counted from 1, whose output has another size than its input.
    """
    members: dict[tuple[tuple[int, ...], bool], list[int]] = {}
    for index, pair in enumerate(pairs):
        if pair.output is not None and pair.output.shape != pair.input.shape:
            raise ValueError(
                f"pair {index + 1}: input {_size(pair.input)}, output {_size(pair.output)}; the "
                "network here gives every input cell one output cell, so take a task whose grids "
                "keep their size (task.same_size is True)"
            )
        members.setdefault((pair.input.shape, pair.output is None), []).append(index)
    groups = []
    for (_, is_hidden), indices in members.items():
        inputs = torch.stack([encode_grid(pairs[index].input) for index in indices]).to(device)
        targets = None
        if not is_hidden:
            outputs = np.stack([pairs[index].output for index in indices])
            targets = torch.tensor(outputs, device=device)
        groups.append(Group(inputs, targets, tuple(indices)))
    return groups


def cell_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over each example's cells, in nats.

    outputs: logits (B, 10, H, W). targets: int64 colours (B, H, W). Returns (B,).
    """
    return functional.cross_entropy(outputs, targets, reduction="none").flatten(1).mean(1)


def unseen_colours(task: Task) -> tuple[int, ...]:
    """Return the colours that occur in no training input, in rising order.

    Their input channels are zero in every example, so their weights get no gradient from any
    rule and keep their random first values, which a test grid with such a colour then meets.
    """
    seen = {int(colour) for pair in task.train for colour in np.unique(pair.input)}
    return tuple(colour for colour in range(N_COLOURS) if colour not in seen)


def _size(grid: np.ndarray) -> str:
    return f"{grid.shape[0]}x{grid.shape[1]}"
