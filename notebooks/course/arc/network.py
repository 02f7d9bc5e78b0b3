"""The course's network for ARC: small enough to train in a second, an instrument, no solver."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from course.arc.encoding import N_CHANNELS
from course.arc.tasks import N_COLOURS


class TinyConv(nn.Module):
    """Encoded grids (B, 11, H, W) to one logit a colour and cell, (B, 10, H, W), at any H, W.

    `depth` times a 3x3 convolution to `width` channels with zero padding and ReLU, then a 1x1
    convolution; a cell sees `depth` cells in each direction. First weights are torch's own.
    Raises ValueError for width or depth below 1.
    """

    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth start at 1, these are {width} and {depth}")
        layers: list[nn.Module] = []
        for channels in [N_CHANNELS] + [width] * (depth - 1):
            layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, N_COLOURS, kernel_size=1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, 10, H, W) for inputs (B, 11, H, W)."""
        return self.layers(inputs)

    @torch.no_grad()
    def zero_input_weights(self, colours: Iterable[int]) -> None:
        """Set the first layer's weights of these input colours to 0.

        For `unseen_colours`: such a colour then adds nothing, where untrained weights add noise.
        Raises ValueError for what is no colour.
        """
        for colour in colours:
            if not 0 <= colour < N_COLOURS:
                raise ValueError(f"{colour!r} is no colour; colours are 0 to 9")
            self.layers[0].weight[:, colour] = 0
