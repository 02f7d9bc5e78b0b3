"""Where the time of a step goes: products, copies, other operations, and Python around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch.autograd.profiler import profile

__all__ = ["Stages", "stages_of"]

OPERATION = "aten::"
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
COPIES = ("copy_", "cat", "fill_", "zero_", "constant_pad_nd", "clone")
SECONDS = 0.3
MOST_STEPS = 20


@dataclass(frozen=True)
class Stages:
    """Seconds of a step, as the profiler sees them, which itself takes some microseconds a call.

    Attributes:
        products: in matrix products, convolutions and attention.
        copies: in copying, joining and filling.
        others: in all other operations of torch.
        outside: the rest: Python, hooks, and autograd between operations.
    """

    products: float
    copies: float
    others: float
    outside: float


def stages_of(step: Callable[[], object]) -> Stages:
    """Profile some steps on the CPU, at least one."""
    begin = time.perf_counter()
    step()
    steps = min(MOST_STEPS, max(1, int(SECONDS / (time.perf_counter() - begin))))
    with profile() as recording:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        wall = time.perf_counter() - begin
    found = dict.fromkeys(("products", "copies", "others"), 0.0)
    for event in recording.key_averages():
        if event.key.startswith(OPERATION):
            found[_kind(event.key)] += event.self_cpu_time_total * 1e-6 / steps
    return Stages(**found, outside=wall / steps - sum(found.values()))


def _kind(operation: str) -> str:
    name = operation.removeprefix(OPERATION)
    if name in PRODUCTS or any(word in name for word in ("convolution", "attention")):
        return "products"
    return "copies" if name in COPIES else "others"
