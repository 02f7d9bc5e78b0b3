"""The contenders in turn in one process, so that a drift of the machine hits them all alike.

In each round every contender has its turn, in shuffled order. A turn is one step that is not
timed, since the one before it has left another's data in the caches, and then as many timed
steps as fill a fiftieth of a second, at least one. Ratios are taken within a round. A step of a
second or more is not warmed up, and one of more than four sits out the last of fifteen rounds.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tests.benchmarks.contenders import CONTENDERS, ORDINARY, Contender
from tests.benchmarks.problems import PROBLEMS, Workload
from tests.benchmarks.processes import Failed, reason
from tests.benchmarks.trial import Conditions, use

__all__ = ["Spread", "Timing", "Turn", "in_turns", "time_all"]

TURN_SECONDS = 0.02
LONG_STEP = 1.0
SECONDS_FOR_EACH = 60.0
FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Spread:
    """First quartile, median and third quartile."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The quartiles of some numbers."""
        return cls(*(float(q) for q in np.quantile(values, [0.25, 0.5, 0.75])))


@dataclass(frozen=True)
class Timing:
    """The seconds of a step, and their ratio to an ordinary step of the same round."""

    repeats: int
    seconds: Spread
    ratio: Spread


@dataclass(frozen=True)
class Turn:
    """A contender's part in a round, and in how many rounds it takes part."""

    seconds: Callable[[], float]
    rounds: int


def time_all(
    problem: str, batch: int, contenders: Sequence[str], conditions: Conditions
) -> dict[str, Timing | str]:
    """Time the contenders on one workload; a text says why one has no result.

    Args:
        problem: name of the model.
        batch: number of examples.
        contenders: their names, "ordinary" among them.
        conditions: of the measurement.

    Raises:
        Failed: if the ordinary step has no result.
    """
    use(conditions)
    shared = PROBLEMS[problem].make(batch, conditions.device).groups
    turns: dict[str, Turn] = {}
    found: dict[str, Timing | str] = {}
    for name in contenders:
        workload = replace(PROBLEMS[problem].make(batch, conditions.device), groups=shared)
        try:
            turns[name] = _turn(CONTENDERS[name], workload, conditions)
        except Exception as error:
            found[name] = reason(error)
    gc.collect()
    gc.freeze()  # makes the collection before each turn a quick one
    times = in_turns(turns)
    ordinary = times.get(ORDINARY, found.get(ORDINARY))
    if isinstance(ordinary, str):
        raise Failed(f"the ordinary step {ordinary}")
    for name, seconds in times.items():
        if isinstance(seconds, str):
            found[name] = seconds
            continue
        ratios = [own / other for own, other in zip(seconds, ordinary, strict=False)]
        found[name] = Timing(len(seconds), Spread.of(seconds), Spread.of(ratios))
    return found


def in_turns(turns: Mapping[str, Turn]) -> dict[str, list[float] | str]:
    """The seconds of each turn, round by round; or the reason why a turn failed."""
    times: dict[str, list[float] | str] = {name: [] for name in turns}
    shuffle = random.Random(0).shuffle
    for number in range(max(turn.rounds for turn in turns.values())):
        present = [name for name, turn in turns.items() if number < turn.rounds]
        shuffle(present)
        for name in present:
            if isinstance(seconds := times[name], str):
                continue
            try:
                seconds.append(turns[name].seconds())
            except Exception as error:
                times[name] = reason(error)
    return times


def _turn(contender: Contender, workload: Workload, conditions: Conditions) -> Turn:
    """Make a step or two to know how long one takes, and plan the turns by it."""
    prepared = contender.prepare(workload)

    def step() -> None:
        workload.model.zero_grad()
        prepared()

    once = _seconds(step, 1, conditions.device)
    if once < LONG_STEP:
        once = _seconds(step, 1, conditions.device)
    steps = max(1, round(TURN_SECONDS / once))
    rounds = conditions.repeats
    if contender is not CONTENDERS[ORDINARY]:
        rounds = min(rounds, max(FEWEST_ROUNDS, int(SECONDS_FOR_EACH / once)))

    def turn() -> float:
        gc.collect()
        if once < LONG_STEP:
            step()
        return _seconds(step, steps, conditions.device)

    return Turn(turn, rounds)


def _seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """The mean of some steps in a row."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps
