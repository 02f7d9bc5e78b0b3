"""Each measurement in a fresh process, so that none sees what another one left behind."""

from __future__ import annotations

import multiprocessing
import os
import re
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from typing import Any

import torch

__all__ = ["Failed", "in_fresh_process", "reason"]

PRELOADED = [
    "tests.benchmarks.trial",
    "tests.benchmarks.timing",
    "opacus",  # a peer that is not installed is passed over
    "backpack",
    "torchjd.autojac",
    "torchjd.autogram",
]
OUT_OF_MEMORY = re.compile(r"allocate memory|out of memory|bad_alloc", re.IGNORECASE)
LONGEST_REASON = 160


class Failed(Exception):  # noqa: N818 - an answer like any other: what cannot be measured
    """A measurement that ended without a result; the text says why."""


def in_fresh_process(function: Callable, *arguments: Any, seconds: float | None = None) -> Any:
    """What the function returns in a process of its own; raises Failed if it has no result.

    Args:
        function: one that a module defines by name.
        arguments: for the function; they and the result can be pickled.
        seconds: when to give up; None is never.
    """
    context = _context()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(seconds):
            raise Failed(f"no result within {seconds:.0f} s")
        failed, answer = here.recv()
    except EOFError:
        process.join()
        raise Failed(f"its process died with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        here.close()
    if failed:
        raise Failed(answer)
    return answer


def reason(error: Exception) -> str:
    """One line on why there is no result, without the paths of this machine."""
    if isinstance(error, Failed):
        return str(error)
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or OUT_OF_MEMORY.search(str(error)):
        return "needs too much memory"
    lines = str(error).strip().splitlines() or [""]
    said = re.sub(r"(/[\w.-]+){2,}", "...", f"{type(error).__name__}: {lines[0]}")
    return said if len(said) <= LONGEST_REASON else said[: LONGEST_REASON - 3] + "..."


@cache
def _context() -> BaseContext:
    """Forks of a server that has imported torch and run nothing: fresh, and there at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _answer(connection: Connection, function: Callable, arguments: tuple) -> None:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the profiler announces itself on stderr
    try:
        connection.send((False, function(*arguments)))
    except Exception as error:
        connection.send((True, reason(error)))
