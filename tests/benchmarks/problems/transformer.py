"""A transformer written out: three pre-norm layers of Linear and scaled_dot_product_attention."""

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


def tokens_and_classes(batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Random tokens, embedded already, (B, T, width), and a random class for each, (B, T)."""
    inputs = torch.randn(batch, TOKENS, WIDTH)
    return inputs.to(device), torch.randint(CLASSES, (batch, TOKENS)).to(device)


def make(batch: int, device: str) -> Workload:
    """The layers, a last LayerNorm, and a class for each token."""
    torch.manual_seed(0)
    layers = [Layer() for _ in range(LAYERS)]
    model = nn.Sequential(*layers, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES))
    return Workload(model.to(device), token_loss, (tokens_and_classes(batch, device),))


TRANSFORMER = Problem("transformer, written out", make, {16: 1.3})
