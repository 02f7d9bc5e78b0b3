"""The order of the measurements: what is still missing, one after the other, saved as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from tests.benchmarks.contenders import CONTENDERS, ORDINARY
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.processes import Failed, in_fresh_process
from tests.benchmarks.results import Results, Row
from tests.benchmarks.timing import time_all
from tests.benchmarks.trial import Conditions, try_out

__all__ = ["Entry"]

SECONDS_TO_START = 60.0


@dataclass(frozen=True)
class Entry:
    """The measurements of one model and batch.

    Attributes:
        problem: name of the model.
        batch: number of examples.
        contenders: their names, "ordinary" first.
        conditions: of the measurement.
        results: where to look what there is, and to save.
        stamp: of this machine, these versions and sources.
    """

    problem: str
    batch: int
    contenders: tuple[str, ...]
    conditions: Conditions
    results: Results
    stamp: str

    def parts(self) -> list[tuple[str, Callable[[], None]]]:
        """What to do, in order, and how to call it; a part that was done before is quick.

        Results of another stamp are forgotten: ratios compare only within one run.
        """
        if any(row.stamp != self.stamp for row in self._rows()):
            self.results.discard(self.problem, self.batch)
        trials = [(name, partial(self._try_out, name)) for name in self.contenders]
        return [*trials, ("times", self._time)]

    def _rows(self) -> list[Row]:
        return self.results.of(self.problem, self.batch)

    def _try_out(self, contender: str) -> None:
        """Store the contender's memory, or why it takes no part."""
        if self.results.get((self.problem, self.batch, contender)) is not None:
            return
        row = Row(self.problem, self.batch, contender, stamp=self.stamp)
        what = self.problem, self.batch, contender, self.conditions
        patience = self.conditions.seconds + SECONDS_TO_START
        try:
            if known := self._known_failure(contender):
                raise Failed(known)
            found = in_fresh_process(try_out, *what, seconds=patience)
        except Failed as failure:
            found = {"skipped": str(failure)}
        self.results.put(replace(row, **found))

    def _known_failure(self, contender: str) -> str:
        """Why a trial is of no use; "" if it is."""
        needed = (*PROBLEMS[self.problem].packages, *CONTENDERS[contender].packages)
        if missing := [package for package in needed if find_spec(package) is None]:
            return f"{', '.join(missing)} not installed"
        ordinary = self.results.get((self.problem, self.batch, ORDINARY))
        if ordinary is not None and ordinary.skipped:
            return "the ordinary step was skipped"
        for row in self.results.rows:
            same = (row.problem, row.contender, row.stamp) == (self.problem, contender, self.stamp)
            if same and row.batch < self.batch and row.skipped:
                return row.skipped
        return ""

    def _time(self) -> None:
        """Store the times of all that take part, unless they are there."""
        rows = [row for row in self._rows() if not row.skipped]
        if all(row.timed for row in rows):
            return
        names = [row.contender for row in rows]
        try:
            answers = in_fresh_process(time_all, self.problem, self.batch, names, self.conditions)
        except Failed as failure:
            answers = dict.fromkeys(names, str(failure))
        for row in rows:
            found = answers[row.contender]
            found = {"skipped": found} if isinstance(found, str) else found
            self.results.put(replace(row, **found))
