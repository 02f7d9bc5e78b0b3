"""What the README shows works, and what it links to exists."""

import re
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import FOLDER, with_quote
from tests.benchmarks.results import Results

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_example_prints_what_it_says(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(example, {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", example)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_the_costs_are_those_of_the_stored_results():
    assert with_quote(README, Results(FOLDER, "cpu")) == README
