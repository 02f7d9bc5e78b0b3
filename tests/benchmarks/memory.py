"""How much memory a step needs at its worst moment, besides what was there before it.

On the CPU every allocation that the step makes with torch's allocator, and its release, is read
from the profiler and added up in order: tensors, what autograd saves, and the temporaries inside
an operator alike, to the byte and the same in every run. What numpy or oneDNN allocate by
themselves is not seen; the kernel's own count of resident memory agrees within 2 MB. On CUDA it
is `torch.cuda.max_memory_allocated`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.profiler import profile

try:
    import resource
except ImportError:  # not on Windows: there, a step that needs too much memory just fails
    resource = None

__all__ = ["limit_memory", "peak_bytes"]

ALLOCATION = "[memory]"


def peak_bytes(step: Callable[[], object], device: str) -> int:
    """Run the step once; the most bytes that were allocated at any time during it."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(profile_memory=True) as recording:
        step()
    events = recording.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == ALLOCATION]
    now = peak = 0
    for _, change in sorted(changes, key=lambda timed: timed[0]):
        now += change
        peak = max(peak, now)
    return peak


def limit_memory(gigabytes: float, device: str) -> None:
    """Let this process fail, rather than the machine, where it wants more than that."""
    limit = int(gigabytes * 2**30)
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    elif resource is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
