"""The checks of the notebooks' exercises, one module a notebook.

A check takes a student's answer and returns a `Verdict`, which says what is right, or on which
input the answer is wrong, what was expected there and where to look. It never raises, whatever
the answer is.
"""

from course.checks.verdict import Case, Verdict, check_function, not_yet, right

__all__ = ["Case", "Verdict", "check_function", "not_yet", "right"]
