"""Where and with what it was measured; no names of hosts, people or folders."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tests.benchmarks.trial import Conditions

__all__ = ["describe", "stamp"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "torch", "numpy", "opacus", "backpack-for-pytorch", "torchjd", "transformers", "timm"
)  # fmt: skip
MEASURED_SOURCES = (
    "consensus_lib/*.py",
    "notebooks/course/arc/*.py",
    "tests/benchmarks/problems/*.py",
    "tests/zoo.py",
    *(f"tests/benchmarks/{of}.py" for of in ("contenders", "peers", "memory", "trial", "timing")),
)


def describe(conditions: Conditions) -> dict[str, object]:
    """Machine, versions and conditions, ready for JSON."""
    machine: dict[str, object] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if conditions.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        machine |= {"gpu": card.name, "gpu_memory_gb": round(card.total_memory / 2**30)}
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return {"machine": machine, "versions": versions, "conditions": asdict(conditions)}


def stamp(description: Mapping[str, object]) -> str:
    """A short name for machine, versions, conditions and sources: results that share it compare."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for pattern in MEASURED_SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _memory_gb() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
