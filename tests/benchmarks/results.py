"""What has been measured so far: a CSV of all numbers, and a JSON of where they come from."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS, ORDINARY
from tests.benchmarks.problems import PROBLEMS

__all__ = ["Key", "Results", "Row"]

Key = tuple[str, int, str]


@dataclass(frozen=True)
class Row:
    """One contender on one model and batch; None where it was not measured.

    Attributes:
        problem: name of the model.
        batch: number of examples.
        contender: its name.
        skipped: why there is no result, or "".
        stamp: names the machine, versions and sources of the measurement.
        peak_bytes: memory at the step's worst moment, above the state before it.
        parameter_bytes: size of the model.
        repeats: how many rounds it was timed in.
        seconds_low, seconds_median, seconds_high: quartiles of the seconds of a step.
        ratio_low, ratio_median, ratio_high: quartiles of the ratios to the ordinary step.
    """

    problem: str
    batch: int
    contender: str
    skipped: str = ""
    stamp: str = ""
    peak_bytes: int | None = None
    parameter_bytes: int | None = None
    repeats: int | None = None
    seconds_low: float | None = None
    seconds_median: float | None = None
    seconds_high: float | None = None
    ratio_low: float | None = None
    ratio_median: float | None = None
    ratio_high: float | None = None

    @property
    def key(self) -> Key:
        """What the row is about."""
        return self.problem, self.batch, self.contender

    @property
    def timed(self) -> bool:
        """Whether there is a time."""
        return self.ratio_median is not None


class Results:
    """The rows in `folder`, saved whenever one is put in."""

    def __init__(self, folder: Path, device: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._csv = folder / f"results-{device}.csv"
        self._json = folder / f"results-{device}.json"
        self._rows: dict[Key, Row] = {}
        self._described: dict[str, object] | None = None
        if self._csv.exists():
            with self._csv.open(encoding="utf-8", newline="") as file:
                stored = [_row(texts) for texts in csv.DictReader(file)]
            known = [r for r in stored if r.problem in PROBLEMS and r.contender in CONTENDERS]
            self._rows = {row.key: row for row in known}

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order of the models, the batches and the contenders."""
        models, names = list(PROBLEMS), list(CONTENDERS)
        return sorted(
            self._rows.values(),
            key=lambda r: (models.index(r.problem), r.batch, names.index(r.contender)),
        )

    @property
    def description(self) -> dict[str, object]:
        """What the JSON says of machine, versions, conditions and date."""
        return json.loads(self._json.read_text(encoding="utf-8"))

    def get(self, key: Key) -> Row | None:
        """The row of that key."""
        return self._rows.get(key)

    def of(self, problem: str, batch: int) -> list[Row]:
        """The rows of one model and batch."""
        return [row for row in self.rows if (row.problem, row.batch) == (problem, batch)]

    def put(self, *rows: Row) -> None:
        """Put rows in the place of those of the same keys, and save."""
        self._rows |= {row.key: row for row in rows}
        beside = self._csv.with_suffix(".csv.part")
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows({n: _text(v) for n, v in asdict(row).items()} for row in self.rows)
        os.replace(beside, self._csv)  # a kill leaves the old file or the new one
        if self._described is not None:
            self._json.write_text(json.dumps(self._described, indent=2) + "\n", encoding="utf-8")

    def discard(self, problem: str, batch: int) -> None:
        """Forget what was measured of that model and batch."""
        self._rows = {k: row for k, row in self._rows.items() if k[:2] != (problem, batch)}

    def describe(self, description: Mapping[str, object]) -> None:
        """Say where the rows that are put in from now on come from; saved with the first."""
        self._described = {**description, "date": date.today().isoformat()}

    def extra_memory(self, row: Row) -> float | None:
        """Memory above the ordinary step's, as a multiple of the parameters."""
        ordinary = self.get((row.problem, row.batch, ORDINARY))
        if row.peak_bytes is None or ordinary is None or ordinary.peak_bytes is None:
            return None
        return (row.peak_bytes - ordinary.peak_bytes) / row.parameter_bytes


def _row(texts: Mapping[str, str]) -> Row:
    """A row from its texts; columns that it has no more are passed over."""
    kinds = {f.name: str(f.type).removesuffix(" | None") for f in fields(Row)}
    read = {"str": str, "int": int, "float": float}
    return Row(**{n: read[kinds[n]](t) for n, t in texts.items() if n in kinds and t})


def _text(value: str | float | None) -> str | float | None:
    return f"{value:.5g}" if isinstance(value, float) else value
