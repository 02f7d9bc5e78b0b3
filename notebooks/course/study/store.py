"""Rows on disk: a compressed CSV that grows job by job, and survives a kill at any moment."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
    left incomplete is passed over, and cut off before the next is added.

    Args:
        path: of the file, NAME.csv.gz; need not exist.
        columns: of the rows.

    Raises:
        ValueError: if the file has other columns.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = tuple(columns)
        self._looked = False
        if text := self._text():
            header = next(csv.reader(io.StringIO(text)))
            if tuple(header) != self._columns:
                raise ValueError(
                    f"{path} has the columns {', '.join(header)}, not {', '.join(columns)}: "
                    "move it away, or take another --folder"
                )

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append the rows of one job; they are on the disk when this returns."""
        if not self._looked:
            self._cut_off_incomplete()
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if not self.path.stat().st_size:
            writer.writeheader()
        writer.writerows(self.as_text(row) for row in rows)
        with self.path.open("ab") as file:
            file.write(gzip.compress(text.getvalue().encode(), mtime=0))
            file.flush()
            os.fsync(file.fileno())

    def as_text(self, row: Mapping[str, Any]) -> dict[str, str]:
        """A row as it is stored: all columns, floats with five digits, "" for what it lacks."""
        if unknown := row.keys() - set(self._columns):
            raise ValueError(f"the rows of {self.path} have no column {sorted(unknown)[0]!r}")
        return {name: _short(row.get(name, "")) for name in self._columns}

    def rows(self) -> list[dict[str, str]]:
        """All rows as text, in the order in which they came."""
        return list(csv.DictReader(io.StringIO(self._text())))

    def columns(self) -> Columns:
        """All rows as columns; an empty field among numbers is nan."""
        rows = self.rows()
        return Columns(
            {name: _as_array(name, [row[name] for row in rows]) for name in self._columns}
        )

    def text(self) -> pd.DataFrame:
        """All rows as text, in the order in which they came."""
        text = io.StringIO(self._text())
        return pd.read_csv(text, dtype=str, keep_default_na=False) if text.getvalue() else self._no

    def frame(self) -> pd.DataFrame:
        """All rows, numbers as numbers; an empty field among them is nan."""
        text = io.StringIO(self._text())
        kinds = dict.fromkeys(_TEXT, str)
        return pd.read_csv(text, dtype=kinds) if text.getvalue() else self._no

    @property
    def _no(self) -> pd.DataFrame:
        return pd.DataFrame(columns=list(self._columns))

    def tidy(self) -> None:
        """Sort the rows and write them as one member, which takes less room."""
        header, *lines = self._text().splitlines()
        text = "\n".join([header, *sorted(lines, key=lambda line: line.split(","))]) + "\n"
        new = self.path.with_suffix(".new")
        new.write_bytes(gzip.compress(text.encode(), mtime=0))
        new.replace(self.path)

    def _text(self) -> str:
        if not self.path.exists():
            return ""
        return b"".join(text for text, _ in _members(self.path.read_bytes())).decode()

    def _cut_off_incomplete(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            ends = [end for _, end in _members(file.read())]
            file.truncate(ends[-1] if ends else 0)
        self._looked = True


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _as_array(name: str, values: list[str]) -> np.ndarray:
    # an id such as 05269061 is no number
    return np.array(values if name in _TEXT else [float(value or "nan") for value in values])


def _members(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The text of each complete member of a gzip file, and where it ends."""
    rest, end = memoryview(data), 0
    while rest:
        member = zlib.decompressobj(wbits=31)
        try:
            text = member.decompress(rest)
        except zlib.error:
            return
        if not member.eof:
            return
        end = len(data) - len(member.unused_data)
        rest = memoryview(data)[end:]
        yield text, end
