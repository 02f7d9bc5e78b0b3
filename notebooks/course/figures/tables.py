"""A small table that a notebook shows as HTML, a terminal as aligned text: pandas's, rounded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd

__all__ = ["Table"]


class Table:
    """Rows of named values; numbers stand right, and on a page text stands left.

    Floats have three digits, and those of a column as many decimals as the largest, unless they
    lie more than a factor of 100 apart.

    Args:
        rows: mappings {column: value}, all with the same columns, or a DataFrame.
    """

    def __init__(self, rows: Iterable[Mapping[str, object]] | pd.DataFrame) -> None:
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame([*rows], dtype=object)
        self._text = frame.apply(_texts)
        self._left = [c for c in frame if any(isinstance(value, str) for value in frame[c])]

    def __repr__(self) -> str:
        # heads of several words want two spaces between columns
        return self._text.rename(columns=" {}".format).to_string(index=False)

    def _repr_html_(self) -> str:
        cells = self._text.map(escape)
        cells[self._left] = cells[self._left].map(_at_the_left)
        heads = {c: _at_the_left(escape(c)) if c in self._left else escape(c) for c in cells}
        with pd.option_context("display.max_colwidth", None):
            return cells.rename(columns=heads).to_html(index=False, escape=False, border=0)


def _at_the_left(text: str) -> str:
    return f'<div style="text-align:left">{text}</div>'


def _texts(column: pd.Series) -> pd.Series:
    """The cells of a column."""
    sizes = [abs(v) for v in column if isinstance(v, float) and v and math.isfinite(v)]
    form = ".3g"
    if sizes and max(sizes) <= 100 * min(sizes):
        # 1 counts as less than 1: in a column of shares it stands beside 0.998
        decade = math.floor(math.log10(max(sizes)) - 1e-9)
        form = f".{max(0, 2 - decade)}f"
    return column.map(lambda v: f"{v:{form}}" if isinstance(v, float) else str(v))
