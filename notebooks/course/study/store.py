"""Rows on disk: a compressed CSV that grows job by job, and survives a kill at any moment."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["Store", "read", "select"]

_TEXT = ("task", "family", "setting", "rule", "optimizer", "at", "ended")


def select(rows: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows in which each of these columns has this value, or one of a list of values.

    Raises:
        ValueError: for a column that there is not.
    """
    if unknown := [name for name in wanted if name not in rows]:
        raise ValueError(f"no column {unknown[0]!r}; there are: {', '.join(rows)}")
    for name, value in wanted.items():
        several = isinstance(value, list | tuple | set | range)
        rows = rows[rows[name].isin(list(value) if several else [value])]
    return rows


def read(path: Path) -> pd.DataFrame:
    """The rows of a file NAME.csv.gz, numbers as numbers, an empty field among them as nan.

    Rows of a member that a kill left incomplete are passed over; a file that is not there has
    none.
    """
    # an id such as 05269061 is no number
    return pd.read_csv(io.StringIO(_text(path) or "task"), dtype=dict.fromkeys(_TEXT, str))


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
        header = _text(path).partition("\n")[0]
        if header and header != ",".join(columns):
            raise ValueError(
                f"{path} has the columns {header}, not {','.join(columns)}: "
                "move it away, or take another --folder"
            )

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append the rows of one job; they are on the disk when this returns."""
        if not self._looked:
            self._cut_off_incomplete()
        table = pd.DataFrame([self.as_text(row) for row in rows], columns=list(self._columns))
        text = table.to_csv(index=False, header=not self.path.stat().st_size)
        with self.path.open("ab") as file:
            file.write(gzip.compress(text.encode(), mtime=0))
            file.flush()
            os.fsync(file.fileno())

    def as_text(self, row: Mapping[str, Any]) -> dict[str, str]:
        """A row as it is stored: all columns, floats with five digits, "" for what it lacks."""
        if unknown := row.keys() - set(self._columns):
            raise ValueError(f"the rows of {self.path} have no column {sorted(unknown)[0]!r}")
        return {name: _short(row.get(name, "")) for name in self._columns}

    def text(self) -> pd.DataFrame:
        """All rows as they are stored, in the order in which they came."""
        text = _text(self.path) or ",".join(self._columns)
        return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)

    def tidy(self) -> None:
        """Write the rows, sorted, as one member, which takes less room."""
        table = self.text()
        text = table.sort_values(list(table), kind="stable").to_csv(index=False)
        new = self.path.with_suffix(".new")
        new.write_bytes(gzip.compress(text.encode(), mtime=0))
        new.replace(self.path)

    def _cut_off_incomplete(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            ends = [end for _, end in _members(file.read())]
            file.truncate(ends[-1] if ends else 0)
        self._looked = True


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return b"".join(text for text, _ in _members(path.read_bytes())).decode()


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
