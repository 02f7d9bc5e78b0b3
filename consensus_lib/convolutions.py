"""The layer rules of convolutions: sums, over positions, of values times windows.

A convolution's weight (D, C/groups, *kernel) has the gradient

    sum over positions p of seeing[p] * window of seen at p

with the inputs (C channels) as what is *seen* and the gradient by the outputs (D channels) as what
*sees*; a transposed convolution exchanges the two. Both are (B, channels, *space).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from consensus_lib.layers import layer_rule

__all__ = ["convolution", "transposed"]

_LARGE = 2**18  # numbers in all windows: fewer are copied faster than avoided
_BLOCK = 8  # channels: oneDNN's fast kernels for the CPU work on blocks of so many


@layer_rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """weight: sum over output positions of grad_output times the window of inputs it saw."""
    before = _padding_before(module)
    if module.padding_mode != "zeros" and any(_both_sides(module)):
        inputs = functional.pad(inputs, _both_sides(module), module.padding_mode)
        before = [0] * len(before)
    return {
        "weight": _window_sums(module, inputs, grad_outputs, before),
        "bias": grad_outputs.flatten(2).sum(dim=2),
    }


@layer_rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """A convolution with the roles of inputs and grad_outputs exchanged."""
    return {
        "weight": _window_sums(module, grad_outputs, inputs, _padding_before(module)),
        "bias": grad_outputs.flatten(2).sum(dim=2),
    }


def _both_sides(module: nn.Module) -> list[int]:
    """Padding as `functional.pad` wants it: last dimension first, before and after each."""
    sides: list[int] = []
    for i in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[i] * (module.kernel_size[i] - 1)
            sides += [total // 2, total - total // 2]
        elif module.padding == "valid":
            sides += [0, 0]
        else:
            sides += [module.padding[i]] * 2
    return sides


def _padding_before(module: nn.Module) -> list[int]:
    return _both_sides(module)[::2][::-1]


def _window_sums(module: nn.Module, seen: Tensor, seeing: Tensor, before: Sequence[int]) -> Tensor:
    """Sum over positions of `seeing` times window of `seen`: (B, D, C/groups, *kernel).

    Args:
        module: has the kernel_size, stride, dilation and groups.
        seen: (B, C, *space).
        seeing: (B, D, *positions).
        before: how many zeros the first window reaches beyond the space, by dimension.
    """
    size, spaces, positions = len(seen), seen.shape[2:], seeing.shape[2:]
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    large = math.prod(kernel) > 1 and seen.numel() * math.prod(kernel) > _LARGE
    in_blocks = large and _in_blocks(module, seen, seeing)
    narrow = large and 2 * seeing.shape[1] <= seen.shape[1] and not in_blocks
    if narrow and module.groups == math.prod(stride) == 1:
        # the other way about: windows are copied, so let it be those of the fewer channels
        ahead = [r - b for r, b in zip(reach, before, strict=True)]
        framed = _framed(seeing, ahead, [s + r for s, r in zip(spaces, reach, strict=True)])
        sums = _products(_windows(framed, kernel, stride, dilation, spaces), seen, groups=1)
        return sums.flip(*range(3, sums.dim())).transpose(1, 2)
    lengths = [r + s * (p - 1) + 1 for r, s, p in zip(reach, stride, positions, strict=True)]
    framed = _framed(seen, before, lengths)
    if not in_blocks:
        windows = _windows(framed, kernel, stride, dilation, positions)
        return _products(windows, seeing, module.groups)
    groups = size * module.groups  # each example's channels are groups of one wide convolution
    shape = (size, seeing.shape[1], seen.shape[1] // module.groups, *kernel)
    weight_gradient = getattr(nn.grad, f"conv{len(kernel)}d_weight")
    return weight_gradient(
        framed.reshape(1, -1, *lengths),
        (size * shape[1], *shape[2:]),
        seeing.reshape(1, -1, *positions),
        stride,
        0,
        dilation,
        groups,
    ).view(shape)


def _in_blocks(module: nn.Module, seen: Tensor, seeing: Tensor) -> bool:
    """Whether oneDNN's fast kernels take a convolution with a group for each example.

    They need no copies of windows. Without whole blocks of channels its other kernels take up to
    16 times as long as the windows.
    """
    return (
        seen.device.type == "cpu"
        and seen.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and all(side.shape[1] // module.groups % _BLOCK == 0 for side in (seen, seeing))
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
    stride: Sequence[int],
    dilation: Sequence[int],
    positions: Sequence[int],
) -> Tensor:
    """Every window of (B, C, *space) that a convolution sees: (B, C, *kernel, *positions)."""
    batch, channel, *space = framed.stride()
    return framed.as_strided(
        (*framed.shape[:2], *kernel, *positions),
        (
            batch,
            channel,
            *(step * d for step, d in zip(space, dilation, strict=True)),
            *(step * s for step, s in zip(space, stride, strict=True)),
        ),
        framed.storage_offset(),
    )


def _products(windows: Tensor, values: Tensor, groups: int) -> Tensor:
    """Sum over positions of value times window.

    windows (B, C, *kernel, *positions), values (B, D, *positions) -> (B, D, C/groups, *kernel).
    """
    size, kernel = len(windows), windows.shape[2 : values.dim()]
    columns = windows.reshape(size * groups, -1, math.prod(values.shape[2:]))
    rows = values.reshape(size * groups, -1, columns.shape[2])
    products = torch.bmm(rows, columns.transpose(1, 2))
    return products.reshape(size, values.shape[1], windows.shape[1] // groups, *kernel)
