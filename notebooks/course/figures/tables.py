"""A small table that a notebook shows as HTML, a terminal as aligned text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["Table"]


class Table:
    """Rows of named values; numbers stand right, text left.

    Floats have three digits, and those of a column as many decimals as the largest, unless they
    lie more than a factor of 100 apart.

    Args:
        rows: at least one mapping {column: value}, all with the same columns.
    """

    def __init__(self, rows: Iterable[Mapping[str, object]]) -> None:
        rows = list(rows)
        self._columns = list(rows[0])
        self._right = {c: not any(isinstance(row[c], str) for row in rows) for c in self._columns}
        columns = [_texts([row[c] for row in rows]) for c in self._columns]
        self._cells = list(zip(*columns, strict=True))

    def __repr__(self) -> str:
        lines = [self._columns, *self._cells]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self._columns))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if self._right[column] else cell.ljust(width)
                for cell, width, column in zip(line, widths, self._columns, strict=True)
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        body = "".join(f"<tr>{self._row('td', cells)}</tr>" for cells in self._cells)
        head = f"<tr>{self._row('th', self._columns)}</tr>"
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"

    def _row(self, tag: str, cells: Sequence[str]) -> str:
        sides = ("right" if self._right[column] else "left" for column in self._columns)
        return "".join(
            f'<{tag} style="text-align:{side}">{escape(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )


def _texts(values: Sequence[object]) -> list[str]:
    """The cells of a column."""
    sizes = [abs(v) for v in values if isinstance(v, float) and v and math.isfinite(v)]
    form = ".3g"
    if sizes and max(sizes) <= 100 * min(sizes):
        # 1 counts as less than 1: in a column of shares it stands beside 0.998
        decade = math.floor(math.log10(max(sizes)) - 1e-9)
        form = f".{max(0, 2 - decade)}f"
    return [f"{v:{form}}" if isinstance(v, float) else str(v) for v in values]
