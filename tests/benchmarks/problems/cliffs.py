"""Small models with a parameter that is easily taken for one that needs a pass an example."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.benchmarks.problems.workload import Problem, Workload, class_loss

BATCH, TOKENS, WIDTH, CLASSES, WORDS = 128, 16, 64, 10, 50


class _Head(nn.Module):
    """A feed-forward net and the mean over positions: (B, T, width) -> (B, classes)."""

    def __init__(self, middle: nn.Module | None = None) -> None:
        super().__init__()
        up, down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, CLASSES)
        self.layers = nn.Sequential(up, nn.GELU(), *([middle] if middle else []), down)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean(dim=1)


class ClassToken(_Head):
    """One learned token before those of every example, as in vision transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1))


class PositionTable(_Head):
    """An embedding that is looked up once for the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(WORDS, WIDTH), nn.Embedding(TOKENS, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return super().forward(self.word(tokens) + self.place(places))


class ZeroLayer(_Head):
    """A layer whose gradient stays 0."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.0 * self.silent(x))


class Conv1D(nn.Module):
    """The layer of GPT-2 in `transformers`: a Linear with its weight the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(2 * WIDTH, 2 * WIDTH))
        self.bias = nn.Parameter(torch.zeros(2 * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).view_as(x)


class LowRank(nn.Linear):
    """A weight with a product of two narrow ones added to it."""

    def __init__(self) -> None:
        super().__init__(2 * WIDTH, 2 * WIDTH)
        self.a = nn.Parameter(torch.randn(2 * WIDTH, 4))
        self.b = nn.Parameter(0.01 * torch.randn(4, 2 * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight + self.a @ self.b, self.bias)


def _weight_norm() -> nn.Module:
    return _Head(parametrizations.weight_norm(nn.Linear(2 * WIDTH, 2 * WIDTH)))


def _make(model: Callable[[], nn.Module], batch: int, device: str) -> Workload:
    """Random inputs, or random words, and a random class for each example."""
    torch.manual_seed(0)
    made = model()
    words = torch.randint(WORDS, (batch, TOKENS))
    inputs = words if isinstance(made, PositionTable) else torch.randn(batch, TOKENS, WIDTH)
    group = (inputs.to(device), torch.randint(CLASSES, (batch,)).to(device))
    return Workload(made.to(device), class_loss, (group,))


MODELS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "class_token": ("class token, expanded", ClassToken),
    "position_table": ("one position table for the batch", PositionTable),
    "zero_layer": ("a layer whose gradient stays 0", ZeroLayer),
    "hf_conv1d": ("Conv1D of transformers (addmm)", lambda: _Head(Conv1D())),
    "weight_norm": ("weight norm", _weight_norm),
    "low_rank": ("low-rank sum W + AB", lambda: _Head(LowRank())),
}
CLIFFS = {
    name: Problem(title, partial(_make, model), {BATCH: 4.0}, fixed_batch=BATCH)
    for name, (title, model) in MODELS.items()
}
