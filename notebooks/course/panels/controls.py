"""What can be set on a panel: each control says which values it takes, to Python and to a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any

__all__ = ["Control", "choice", "ladder", "number", "numbers", "several", "tick"]

_DIGITS = 6  # a slider's 0 may come as 3e-16, which would be a vote


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes:
        kind: "number", "numbers", "tick", "choice", "ladder" (a slider over `options`) or
            "several" (some of `options`).
        label: what a page calls it.
        first: its value at first.
        low, high, step: of a number, or of each of the numbers.
        options: (label, value) pairs.
        fewest, most: how many numbers.
        tab: the tab of the page on which it stands, "" where there are none.
        log: whether a slider moves by factors.
    """

    kind: str
    label: str
    first: Any
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()
    fewest: int = 0
    most: int = 0
    tab: str = ""

    def on(self, tab: str) -> Control:
        """The same control on a tab."""
        return replace(self, tab=tab)

    def checked(self, name: str, value: Any) -> Any:
        """Return the value as it is kept; raises ValueError in words for one not taken."""
        try:
            return self._checked(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name} = {value!r} is not possible: {self._allowed()}") from None

    def spec(self) -> dict[str, Any]:
        """The control as JSON can carry it."""
        return {**asdict(self), "first": _plain(self.first), "options": _plain(self.options)}

    def words(self, value: Any) -> str:
        """The value as a reader sees it."""
        if self.kind == "tick":
            return "yes" if value else "no"
        if self.kind == "numbers":
            return ", ".join(f"{v:+g}".replace("-", "−") for v in value)
        if self.kind == "several":
            return ", ".join(map(str, value)) or "none"
        if self.options:
            return next(label for label, option in self.options if option == value)
        return f"{value:g}".replace("-", "−")

    def _checked(self, value: Any) -> Any:
        if self.kind == "tick":
            return _if(isinstance(value, bool), value)
        if self.kind == "numbers":
            values = tuple(self._number(v) for v in value)
            return _if(self.fewest <= len(values) <= self.most, values)
        if self.kind == "several":
            values = [option for _, option in self.options]
            return _if(set(value) <= set(values), tuple(v for v in values if v in value))
        if self.options:
            return _if(value in [option for _, option in self.options], value)
        return self._number(value)

    def _number(self, value: Any) -> float:
        real = isinstance(value, Real) and not isinstance(value, bool)
        rounded = round(float(_if(real and math.isfinite(value), value)), _DIGITS)
        whole = float(self.step).is_integer()
        _if(self.low <= rounded <= self.high and (not whole or rounded.is_integer()), rounded)
        return int(rounded) if whole else rounded

    def _allowed(self) -> str:
        if self.kind == "tick":
            return "expected True or False"
        if self.options:
            some = "some" if self.kind == "several" else "one"
            return f"expected {some} of {', '.join(repr(option) for _, option in self.options)}"
        many = f"{self.fewest} to {self.most} numbers" if self.most else "a number"
        whole = "whole " if float(self.step).is_integer() and not self.most else ""
        return f"expected {many.replace('a ', f'a {whole}')} from {self.low:g} to {self.high:g}"


def number(label: str, low: float, high: float, step: float, first: float) -> Control:
    """A number from `low` to `high`; a whole one where the step is whole."""
    return Control("number", label, first, low, high, step)


def numbers(
    label: str, low: float, high: float, step: float, first: Sequence[float], fewest: int, most: int
) -> Control:
    """A list of `fewest` to `most` numbers."""
    return Control("numbers", label, tuple(first), low, high, step, fewest=fewest, most=most)


def tick(label: str, first: bool = False) -> Control:
    """Yes or no."""
    return Control("tick", label, first)


def choice(label: str, options: Iterable[Any], first: Any = None) -> Control:
    """One of some values, each given as a value or as (label, value)."""
    return _of("choice", label, options, first)


def ladder(label: str, options: Iterable[Any], first: Any = None) -> Control:
    """One of some values in their order, on a slider."""
    return _of("ladder", label, options, first)


def several(label: str, options: Iterable[Any], first: Sequence[Any] = ()) -> Control:
    """Any of some values, a tuple."""
    return replace(_of("several", label, options, first), first=tuple(first))


def _of(kind: str, label: str, options: Iterable[Any], first: Any) -> Control:
    pairs = tuple(o if isinstance(o, tuple) else (_written(o), o) for o in options)
    return Control(kind, label, pairs[0][1] if first is None else first, options=pairs)


def _written(value: Any) -> str:
    return f"{value:g}".replace("-", "−") if isinstance(value, float) else str(value)


def _if(condition: bool, value: Any) -> Any:
    if not condition:
        raise ValueError
    return value


def _plain(value: Any) -> Any:
    """The value without what JSON has no word for: −inf goes as text."""
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return "-inf" if value == -math.inf else value
