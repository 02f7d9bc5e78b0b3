"""Small models with a parameter that is easily taken for one that needs a pass an example."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.benchmarks.problems.workload import Problem, Workload, class_loss
from tests.zoo import HFConv1D, Lambda, class_token, parameter, words_and_places

BATCH, TOKENS, WIDTH, CLASSES, WORDS = 128, 16, 64, 10, 50
MIDDLE = 2 * WIDTH


def _net(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, MIDDLE), nn.GELU(), *middle, nn.Linear(MIDDLE, CLASSES))


def _class_token() -> nn.Module:
    return Lambda(class_token, token=parameter(1, 1, WIDTH), layers=_net())


def _position_table() -> nn.Module:
    word, place = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)
    return Lambda(words_and_places, word=word, place=place, layers=_net())


def _zero_layer() -> nn.Module:
    silent = nn.Linear(WIDTH, WIDTH)
    return Lambda(lambda m, x: m.layers(x + 0.0 * m.silent(x)), silent=silent, layers=_net())


def _low_rank() -> nn.Module:
    return _net(
        Lambda(
            lambda m, x: functional.linear(x, m.layer.weight + 0.01 * m.a @ m.b),
            layer=nn.Linear(MIDDLE, MIDDLE, bias=False),
            a=parameter(MIDDLE, 4),
            b=parameter(4, MIDDLE),
        )
    )


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy of an example's logits, or of their mean over its positions."""
    return class_loss(outputs if outputs.dim() == 2 else outputs.mean(dim=1), targets)


def _make(model: Callable[[], nn.Module], batch: int, device: str) -> Workload:
    """Random inputs, or random words, and a random class for each example."""
    torch.manual_seed(0)
    words = torch.randint(WORDS, (batch, TOKENS))
    inputs = words if model is _position_table else torch.randn(batch, TOKENS, WIDTH)
    group = (inputs.to(device), torch.randint(CLASSES, (batch,)).to(device))
    return Workload(model().to(device), _loss, (group,))


MODELS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "class_token": ("class token, expanded", _class_token),
    "position_table": ("one position table for the batch", _position_table),
    "zero_layer": ("a layer whose gradient stays 0", _zero_layer),
    "hf_conv1d": ("Conv1D of transformers (addmm)", lambda: _net(HFConv1D(MIDDLE, MIDDLE))),
    "weight_norm": (
        "weight norm",
        lambda: _net(parametrizations.weight_norm(nn.Linear(MIDDLE, MIDDLE))),
    ),
    "low_rank": ("low-rank sum W + AB", _low_rank),
}
CLIFFS = {
    name: Problem(title, partial(_make, model), {BATCH: 4.0}, fixed_batch=BATCH)
    for name, (title, model) in MODELS.items()
}
