"""A small table that a notebook shows as HTML, a terminal as aligned text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["Table"]


class Table:
    """Rows of named values; numbers stand right, text left, floats with three digits.

    Args:
        rows: at least one mapping {column: value}, all with the same columns.
    """

    def __init__(self, rows: Iterable[Mapping[str, object]]) -> None:
        rows = list(rows)
        self._columns = list(rows[0])
        self._right = {c: not any(isinstance(row[c], str) for row in rows) for c in self._columns}
        self._cells = [[_text(row[c]) for c in self._columns] for row in rows]

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


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
