"""Rows on disk: a compressed CSV that grows job by job, and survives a kill at any moment."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Columns", "Store"]

_TEXT = ("task", "setting", "rule", "at", "ended")


class Columns(dict[str, np.ndarray]):
    """A table as {column: array}, of text or of float64; all of one length."""

    def where(self, **wanted: Any) -> Columns:
        """The rows in which each of these columns has this value (or one of a list of values).

        Raises:
            ValueError: for a column that there is not.
        """
        if unknown := [name for name in wanted if name not in self]:
            raise ValueError(f"no column {unknown[0]!r}; there are: {', '.join(self)}")
        keep = np.ones(len(self), dtype=bool)
        for name, value in wanted.items():
            several = isinstance(value, list | tuple | set | range)
            keep &= np.isin(self[name], list(value) if several else [value])
        return Columns({name: column[keep] for name, column in self.items()})

    def __len__(self) -> int:
        return len(next(iter(self.values()), ()))


class Store:
    """One part's rows in a gzip file, to which each job adds a member of its own.

    Several members, one after another, are one gzip file to every reader. A member that a kill
    left incomplete is cut off when the store is opened, and its job is run again.

    Args:
        path: of the file, NAME.csv.gz; need not exist.
        columns: of the rows.

    Raises:
        ValueError: if the file has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = tuple(columns)
        if path.exists():
            _cut_off_incomplete(path)
        if path.exists() and path.stat().st_size:
            header = next(csv.reader(io.StringIO(self._text())))
            if tuple(header) != self._columns:
                raise ValueError(
                    f"{path} has the columns {', '.join(header)}, not {', '.join(columns)}: "
                    "move it away, or take another --folder"
                )

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append the rows of one job; they are on the disk when this returns."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if not self.path.exists() or not self.path.stat().st_size:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)
        with self.path.open("ab") as file:
            file.write(gzip.compress(text.getvalue().encode(), mtime=0))
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[dict[str, str]]:
        """All rows as text, in the order in which they came."""
        return list(csv.DictReader(io.StringIO(self._text())))

    def columns(self) -> Columns:
        """All rows as columns; an empty field among numbers is nan."""
        rows = self.rows()
        return Columns(
            {name: _as_array(name, [row[name] for row in rows]) for name in self._columns}
        )

    def tidy(self) -> None:
        """Sort the rows and write them as one member, which takes less room."""
        header, *lines = self._text().splitlines()
        text = "\n".join([header, *sorted(lines, key=lambda line: line.split(","))]) + "\n"
        new = self.path.with_suffix(".new")
        new.write_bytes(gzip.compress(text.encode(), mtime=0))
        new.replace(self.path)

    def _text(self) -> str:
        return gzip.decompress(self.path.read_bytes()).decode() if self.path.exists() else ""


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def _as_array(name: str, values: list[str]) -> np.ndarray:
    # an id such as 05269061 is no number
    return np.array(values if name in _TEXT else [float(value or "nan") for value in values])


def _cut_off_incomplete(path: Path) -> None:
    data = memoryview(path.read_bytes())
    whole = 0
    while whole < len(data):
        member = zlib.decompressobj(wbits=31)
        try:
            member.decompress(data[whole:])
        except zlib.error:
            break
        if not member.eof:
            break
        whole = len(data) - len(member.unused_data)
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
