"""Three pre-norm transformer layers: written out, and of the same weights from torch.nn."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.problems.workload import Problem, Workload, token_loss

LAYERS, WIDTH, HEADS, TOKENS, CLASSES = 3, 128, 4, 128, 10


class Layer(nn.Module):
    """Self-attention and a feed-forward net of four times the width, each added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width)."""
        x = x + self._attention(self.norm1(x))
        return x + self.down(functional.relu(self.up(self.norm2(x))))

    def _attention(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        heads = self.queries_keys_values(x).view(batch, tokens, 3, HEADS, WIDTH // HEADS)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))


def _make(layer: Callable[[], nn.Module], batch: int, device: str) -> Workload:
    """The layers, a last LayerNorm, and a random class for each random token, embedded already."""
    torch.manual_seed(0)
    layers = [layer() for _ in range(LAYERS)]
    model = nn.Sequential(*layers, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES))
    inputs, targets = torch.randn(batch, TOKENS, WIDTH), torch.randint(CLASSES, (batch, TOKENS))
    return Workload(model.to(device), token_loss, ((inputs.to(device), targets.to(device)),))


def _encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
    )


TRANSFORMER = Problem("transformer, written out", partial(_make, Layer), {16: 1.3})
ENCODER = Problem(
    "transformer, nn.TransformerEncoderLayer", partial(_make, _encoder_layer), {16: 1.3}
)
