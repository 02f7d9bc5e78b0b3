"""Per-example weight gradients of convolutions: sums over positions of values times windows.

A convolution's weight (D, C/groups, *kernel) has the gradient

    sum over positions p of seeing[p] * window of seen at p

with the activations (C channels) as what is *seen* and the backprops (D channels) as what *sees*;
a transposed convolution exchanges the two. Both are (B, channels, *space).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["weight_gradients"]

_LARGE = 2**18  # numbers in all windows: fewer are copied faster than avoided
_BLOCK = 8  # channels: oneDNN's fast kernels for the CPU work on blocks of so many

Numbers = int | Sequence[int]  # for all dimensions of space, or for each


def weight_gradients(
    seen: Tensor,
    seeing: Tensor,
    kernel: Sequence[int],
    stride: Numbers = 1,
    padding: Numbers | str = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Tensor:
    """Sum over positions of `seeing` times window of `seen`: (B, D, C/groups, *kernel).

    Args:
        seen: (B, C, *space).
        seeing: (B, D, *positions).
        kernel: of the convolution, as are stride, padding, dilation and groups.
    """
    size, spaces, positions = len(seen), seen.shape[2:], seeing.shape[2:]
    steps = _by_dimension(stride, kernel), _by_dimension(dilation, kernel)
    reach = [d * (k - 1) for k, d in zip(kernel, steps[1], strict=True)]
    if isinstance(padding, str):
        padding = [r // 2 for r in reach] if padding == "same" else 0
    before = _by_dimension(padding, kernel)
    large = seen.numel() * math.prod(kernel) > _LARGE and math.prod(kernel) > 1
    in_blocks = large and _in_blocks(groups, seen, seeing)
    narrow = large and 2 * seeing.shape[1] <= seen.shape[1] and not in_blocks
    if narrow and groups == math.prod(steps[0]) == 1:
        # the other way about: windows are copied, so let it be those of the fewer channels
        ahead = [r - b for r, b in zip(reach, before, strict=True)]
        framed = _framed(seeing, ahead, [s + r for s, r in zip(spaces, reach, strict=True)])
        sums = _products(_windows(framed, kernel, spaces, *steps), seen, groups=1)
        return sums.flip(*range(3, sums.dim())).transpose(1, 2)
    lengths = [r + s * (p - 1) + 1 for r, s, p in zip(reach, steps[0], positions, strict=True)]
    framed = _framed(seen, before, lengths)
    if not in_blocks:
        return _products(_windows(framed, kernel, positions, *steps), seeing, groups)
    # each example's channels are groups of one wide convolution
    shape = (size, seeing.shape[1], seen.shape[1] // groups, *kernel)
    return getattr(nn.grad, f"conv{len(kernel)}d_weight")(
        framed.reshape(1, -1, *lengths),
        (size * shape[1], *shape[2:]),
        seeing.reshape(1, -1, *positions),
        steps[0],
        0,
        steps[1],
        size * groups,
    ).view(shape)


def _by_dimension(value: Numbers, kernel: Sequence[int]) -> Sequence[int]:
    values = (value,) if isinstance(value, int) else value
    return values if len(values) == len(kernel) else tuple(values) * len(kernel)


def _in_blocks(groups: int, seen: Tensor, seeing: Tensor) -> bool:
    """Whether oneDNN's fast kernels take a convolution with a group for each example.

    They need no copies of windows. Without whole blocks of channels its other kernels take up to
    16 times as long as the windows.
    """
    return (
        seen.device.type == "cpu"
        and seen.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and all(side.shape[1] // groups % _BLOCK == 0 for side in (seen, seeing))
    )


def _framed(tensor: Tensor, before: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """(B, C, *space) with zeros before and after, or cut off, so that it is of these lengths."""
    sides: list[int] = []
    for start, length, space in zip(before, lengths, tensor.shape[2:], strict=True):
        sides = [start, length - start - space, *sides]
    return functional.pad(tensor, sides) if any(sides) else tensor


def _windows(
    framed: Tensor,
    kernel: Sequence[int],
    positions: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Every window of (B, C, *space) that a convolution sees: (B, C, *kernel, *positions)."""
    batch, channel, *space = framed.stride()
    within = [step * d for step, d in zip(space, dilation, strict=True)]
    across = [step * s for step, s in zip(space, stride, strict=True)]
    shape = (*framed.shape[:2], *kernel, *positions)
    return framed.as_strided(shape, (batch, channel, *within, *across), framed.storage_offset())


def _products(windows: Tensor, values: Tensor, groups: int) -> Tensor:
    """Sum over positions of value times window.

    windows (B, C, *kernel, *positions), values (B, D, *positions) -> (B, D, C/groups, *kernel).
    """
    size, kernel = len(windows), windows.shape[2 : values.dim()]
    columns = windows.reshape(size * groups, -1, math.prod(values.shape[2:]))
    rows = values.reshape(size * groups, -1, columns.shape[2])
    products = torch.bmm(rows, columns.transpose(1, 2))
    return products.reshape(size, values.shape[1], windows.shape[1] // groups, *kernel)
