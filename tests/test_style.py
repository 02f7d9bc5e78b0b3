"""The repository is as ruff wants it, notebooks included."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_no_objection(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "."]
    finished = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        pytest.fail(finished.stdout + finished.stderr, pytrace=False)
