"""A run recorded step by step: weights while it trains, and every example's gradients afterwards."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from consensus_lib.rules import Rule
from consensus_lib.training import train
from consensus_lib.updates import hold_masked_weights
from course.arc import Task, TinyConv, cell_loss, encode_pairs

__all__ = [
    "Recipe",
    "Recording",
    "decode",
    "encode",
    "examine",
    "layers",
    "packed",
    "record",
    "votes",
]

_ZERO = 90  # the level of size 1: a level is half an octave
_OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how: the network and the optimizer of `course.arc.fit`."""

    width: int = 20
    depth: int = 3
    steps: int = 200
    seed: int = 0
    optimizer: str = "adam"
    learning_rate: float = 3e-3
    hold_masked: bool = True


@dataclass
class Recording:
    """What one rule's run did. T steps, N training pairs, P weights.

    Attributes:
        weights: (T + 1, P) float32, before each step and after the last.
        codes: (T + 1, N, P) int8, the gradients at those weights as `encode` writes them.
        losses: (T + 1, N), nats a cell.
        predictions: T + 1 grids, of the first test pair.
        seconds: of training alone, with what recording costs.
    """

    weights: list[Tensor] = field(default_factory=list)
    codes: np.ndarray | None = None
    losses: list[list[float]] = field(default_factory=list)
    predictions: list[list[list[int]]] = field(default_factory=list)
    seconds: float = 0.0


def encode(gradients: Tensor) -> np.ndarray:
    """Write numbers as int8: the sign, and the size to a quarter of an octave; 0 stays 0."""
    sizes = gradients.abs()
    levels = (2 * sizes.clamp(min=1e-30).log2()).round().add(_ZERO).clamp(1, 127)
    return (levels * gradients.sign()).to(torch.int8).numpy()


def decode(codes: np.ndarray) -> np.ndarray:
    """What `encode` wrote, each size at most a fifth off."""
    wide = codes.astype(np.float64)
    return np.sign(wide) * np.where(wide == 0, 0.0, 2.0 ** ((np.abs(wide) - _ZERO) / 2))


def votes(codes: np.ndarray) -> np.ndarray:
    """(N, P) codes to (P,): 1 all up, −1 all down, 0 contested or a zero among them, 2 dead.

    Up is the way the weight would go: against the gradient.
    """
    found = np.zeros(codes.shape[-1], dtype=np.int8)
    found[(codes < 0).all(axis=0)] = 1
    found[(codes > 0).all(axis=0)] = -1
    found[(codes == 0).all(axis=0)] = 2
    return found


def record(
    task: Task, rule: Rule, recipe: Recipe, stop: Callable[[], bool], keep: bool = True
) -> Recording:
    """Train on a task and keep the weights of each step; raises as `consensus_lib.train`.

    With `keep` false nothing is kept, to measure what keeping costs.
    """
    model = _network(recipe)
    groups = encode_pairs(task.train)
    stepper = _OPTIMIZERS[recipe.optimizer](model.parameters(), lr=recipe.learning_rate)
    if recipe.hold_masked:
        hold_masked_weights(stepper)
    recording = Recording()

    def watch(*_: Any) -> None:
        if keep:
            recording.weights.append(_flat(model))

    begin = time.perf_counter()
    train(
        model,
        cell_loss,
        [group.inputs for group in groups],
        [group.targets for group in groups],
        rule=rule,
        optimizer=stepper,
        steps=recipe.steps,
        on_step=watch,
        stop=lambda _: stop(),
    )
    recording.seconds = time.perf_counter() - begin
    watch()
    return recording


def examine(
    task: Task, recording: Recording, recipe: Recipe, on_step: Callable[[int], bool]
) -> None:
    """Work out losses, gradients and prediction at each step that was kept.

    `on_step(step)` is called before each; true ends it there.
    """
    model = _network(recipe)
    pairs = encode_pairs(task.train)
    shown = encode_pairs(task.test[:1])[0].inputs
    order = [index for group in pairs for index in group.indices]
    codes = []
    for step, weights in enumerate(recording.weights):
        if on_step(step):
            return
        torch.nn.utils.vector_to_parameters(weights, model.parameters())
        losses, gradients = [], []
        for group in pairs:
            each = cell_loss(model(group.inputs), group.targets)
            for i, loss in enumerate(each):
                parts = torch.autograd.grad(
                    loss, list(model.parameters()), retain_graph=i + 1 < len(each)
                )
                gradients.append(torch.cat([part.flatten() for part in parts]))
            losses += each.tolist()
        places = np.argsort(order)
        codes.append(encode(torch.stack(gradients))[places])
        recording.losses.append([losses[i] for i in places])
        with torch.no_grad():
            recording.predictions.append(model(shown).argmax(dim=1)[0].tolist())
    recording.codes = np.stack(codes)


def packed(recordings: list[Recording]) -> bytes:
    """All codes in one row of bytes, step by step as what changed, and compressed."""
    rows = []
    for recording in recordings:
        wide = recording.codes.view(np.uint8)
        rows.append(np.diff(wide, axis=0, prepend=np.zeros_like(wide[:1])))
    return zlib.compress(np.stack(rows).tobytes(), level=1)


def layers(recipe: Recipe) -> list[dict[str, Any]]:
    """The parts of P in their order: {name, shape, size}, a weight and its bias together."""
    parts: dict[str, dict[str, Any]] = {}
    for name, weight in _network(recipe).named_parameters():
        layer = name.rpartition(".")[0]
        part = parts.setdefault(layer, {"shape": list(weight.shape), "size": 0})
        part["size"] += weight.numel()
    return [{"name": f"layer {i}", **part} for i, part in enumerate(parts.values(), start=1)]


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def _network(recipe: Recipe) -> TinyConv:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return TinyConv(recipe.width, recipe.depth)
