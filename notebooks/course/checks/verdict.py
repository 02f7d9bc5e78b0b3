"""What a check says of an answer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Case", "Verdict", "asked", "check_function", "not_yet", "right", "said", "shown"]

_LONGEST = 120


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether an answer passes, and why; true when it does, and shown as its message."""

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return self.message


def right(reason: str) -> Verdict:
    """The verdict on a right answer."""
    return Verdict(True, f"Right: {reason}")


def not_yet(reason: str) -> Verdict:
    """The verdict on an answer that is wrong or not there yet."""
    return Verdict(False, f"Not yet: {reason}")


def asked(function: Any, *arguments: Any, about: str) -> Any:
    """What a student's function answers, or the verdict where it gives no answer.

    Args:
        function: the student's; it may be anything, and may raise.
        arguments: what it is called with; copies, since it may change them.
        about: what it was asked, such as "for two round wells".
    """
    if not callable(function):
        return not_yet(f"this is {shown(function)}, not a function: pass the name without ().")
    try:
        return function(*arguments)
    except Exception as error:
        return not_yet(f"{about} your function raised {said(error)}.")


def said(error: Exception) -> str:
    """The type of an error and the first line of what it says."""
    lines = _safe(str, error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@dataclass(frozen=True)
class Case:
    """One question to a student's function.

    Attributes:
        arguments: what it is called with.
        expected: the number that it should return.
    """

    arguments: tuple[Any, ...]
    expected: float


def check_function(
    function: Callable[..., Any],
    cases: Iterable[Case],
    nudge: Callable[[Case, float], str],
    praise: str,
) -> Verdict:
    """Ask a student's function every case; the verdict names the first one that it gets wrong.

    Args:
        function: the student's; it may raise, return anything, or change its arguments.
        cases: what to ask, the easiest first.
        nudge: (case, the wrong number) -> a sentence towards the cure.
        praise: the end of the sentence "Right: ...".
    """
    if not callable(function):
        return not_yet(f"this is {shown(function)}, not a function: pass the name without ().")
    name = getattr(function, "__name__", "your function")
    for case in cases:
        call = f"{name}({', '.join(map(shown, case.arguments))})"
        expected = f"Expected {shown(case.expected)}."
        try:
            answer = function(*copy.deepcopy(case.arguments))
        except Exception as error:
            return not_yet(f"{call} raised {said(error)}. {expected}")
        if answer is None:
            return not_yet(f"{call} returned None. {expected} Does every way through it return?")
        number = as_number(answer)
        if number is None:
            return not_yet(f"{call} returned {shown(answer)}, which is no number. {expected}")
        if not math.isclose(number, case.expected, rel_tol=1e-6, abs_tol=1e-9):
            hint = nudge(case, number)
            return not_yet(f"{call} returned {shown(number)}. {expected} {hint}".rstrip())
    return right(praise)


def as_number(value: Any) -> float | None:
    """The value as a float (numbers, tensors and arrays of one element), None if it is none."""
    if isinstance(value, (str, bytes, bytearray)):
        return None
    try:
        return float(value)
    except Exception:
        return None


def shown(value: Any) -> str:
    """A value as it stands in a message: numbers with their sign, long texts cut."""
    if isinstance(value, (list, tuple)):
        text = f"[{', '.join(map(shown, value))}]"
    elif isinstance(value, float):
        text = f"{value:+.4g}" if value else "0"
    else:
        text = _safe(repr, value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _safe(to_text: Callable[[Any], str], value: Any) -> str:
    try:
        return to_text(value)
    except Exception:
        return f"a {type(value).__name__}"
