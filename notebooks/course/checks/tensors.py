"""What a check says of a tensor, or of what should have been one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from course.checks.verdict import said, shown

__all__ = ["difference", "kind", "said"]

_SHOWN = 6  # longer ones are told by the number of wrong entries


def difference(got: Any, wanted: Tensor) -> str:
    """How an answer differs, as "is ..., expected ...", ready for a sentence; "" if it is right."""
    if not isinstance(got, Tensor):
        return f"is {kind(got)}, not a tensor"
    if got.shape != wanted.shape:
        return f"has shape {tuple(got.shape)}, expected {tuple(wanted.shape)}"
    close = torch.isclose(got.double(), wanted.double(), rtol=1e-4, atol=1e-6)
    if close.all():
        return ""
    if wanted.numel() > _SHOWN:
        return f"is wrong at {int((~close).sum())} of {wanted.numel()} entries"
    return f"is {shown(got.flatten().tolist())}, expected {shown(wanted.flatten().tolist())}"


def kind(value: Any) -> str:
    """A value as it stands in a message: of tensors the shape."""
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
