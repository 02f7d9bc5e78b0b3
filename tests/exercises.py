"""What the tests of exercises share: wrong answers, and what a student should be told of each."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from course.checks import Verdict

Wrong = Mapping[Callable[..., Verdict], Sequence[tuple[Any, ...]]]
"""{check: [(*arguments, words)]}: the message has the words.

A bar stands between alternatives, and ".*" for whatever lies between.
"""


def every_wrong_answer(refused: Wrong) -> pytest.MarkDecorator:
    """Parametrize a test of (check, arguments, words)."""
    cases = [(check, case[:-1], case[-1]) for check, cases in refused.items() for case in cases]
    names = [f"{check.__name__}-{words}" for check, _, words in cases]
    return pytest.mark.parametrize(("check", "arguments", "words"), cases, ids=names)


def is_refused(check: Callable[..., Verdict], arguments: Sequence[Any], words: str) -> None:
    """The verdict on the answer is no, in these words."""
    verdict = check(*arguments)
    assert not verdict
    assert verdict.message.startswith("Not yet: ")
    patterns = [re.escape(part).replace(r"\.\*", ".*") for part in words.split("|")]
    assert re.search("|".join(patterns), verdict.message), verdict.message
