"""The contenders in turn in one process, so that a drift of the machine hits them all alike.

In each round every contender has its turn, in shuffled order. A turn is a `blocked_autorange` of
torch.utils.benchmark: a step to warm the caches, in which the one before has left another's data,
and then as many as fill a fiftieth of a second, at least one. Ratios are taken within a round.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.benchmark import Timer

from tests.benchmarks.contenders import CONTENDERS, ORDINARY, Contender
from tests.benchmarks.problems import PROBLEMS, Workload
from tests.benchmarks.processes import Failed, reason
from tests.benchmarks.trial import Conditions, use

__all__ = ["in_turns", "time_all"]

TURN_SECONDS = 0.02
SECONDS_FOR_EACH = 60.0  # of the timed steps together; who has used them up sits out
FEWEST_ROUNDS = 5


def time_all(
    problem: str, batch: int, contenders: Sequence[str], conditions: Conditions
) -> dict[str, dict[str, float] | str]:
    """Time the contenders on one workload.

    Args:
        problem: name of the model.
        batch: number of examples.
        contenders: their names, "ordinary" among them.
        conditions: of the measurement.

    Returns:
        Of each contender's row of the results how often it was timed and the quartiles, or a text
        that says why it has no result.

    Raises:
        Failed: if the ordinary step has no result.
    """
    use(conditions)
    shared = PROBLEMS[problem].make(batch, conditions.device).groups
    turns: dict[str, Callable[[], float]] = {}
    found: dict[str, dict[str, float] | str] = {}
    for name in contenders:
        workload = replace(PROBLEMS[problem].make(batch, conditions.device), groups=shared)
        try:
            turns[name] = _turn(CONTENDERS[name], workload, conditions)
        except Exception as error:
            found[name] = reason(error)
    gc.collect()
    gc.freeze()  # makes the collection before each turn a quick one
    times = in_turns(turns, conditions.repeats)
    ordinary = times.get(ORDINARY, found.get(ORDINARY))
    if isinstance(ordinary, str):
        raise Failed(f"the ordinary step {ordinary}")
    for name, seconds in times.items():
        if isinstance(seconds, str):
            found[name] = seconds
            continue
        ratios = [own / other for own, other in zip(seconds, ordinary, strict=False)]
        quartiles = {"repeats": len(seconds)}
        for what, values in (("seconds", seconds), ("ratio", ratios)):
            three = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
            quartiles |= dict(
                zip((f"{what}_{part}" for part in ("low", "median", "high")), three, strict=True)
            )
        found[name] = quartiles
    return found


def in_turns(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float] | str]:
    """The seconds of each turn, round by round; or the reason why a turn failed."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    failed: dict[str, str] = {}
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        present = [
            name
            for name, seconds in times.items()
            if name not in failed
            and (number < FEWEST_ROUNDS or name == ORDINARY or sum(seconds) < SECONDS_FOR_EACH)
        ]
        shuffle(present)
        for name in present:
            try:
                times[name].append(turns[name]())
            except Exception as error:
                failed[name] = reason(error)
    return {**times, **failed}


def _turn(contender: Contender, workload: Workload, conditions: Conditions) -> Callable[[], float]:
    """Make three steps, at the first of which ours looks at whose the rows are; plan the turns."""
    prepared = contender.prepare(workload)

    def step() -> None:
        workload.model.zero_grad()
        prepared()

    for _ in range(3):
        step()
    timer = Timer("step()", globals={"step": step}, num_threads=conditions.threads)

    def turn() -> float:
        gc.collect()
        return timer.blocked_autorange(min_run_time=TURN_SECONDS).mean

    return turn
