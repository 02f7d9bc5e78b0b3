"""Holds the committed notebooks to what their readers rely on, without running them."""

import json
import re

import nbformat
import pytest

from tests import refresh_notebooks
from tests.notebook_hooks import STATEMENT, is_stored, skip_unless_stored, stated_seconds

MOST_LINES = 15
MOST_BYTES = 3_000_000
NOT_IN_SOURCES = ["sys.path", "clear_output"]
LAST_SECTIONS = ["Exercises", "Recap", "Quiz", "Further reading"]
EXERCISE = re.compile(r"(\d)\. .+ &nbsp; \((?:easy|medium|hard|open), (\d+) minutes\)")
MACHINE = re.compile(
    re.escape(str(refresh_notebooks.NOTEBOOKS.parent))
    + r"|/home/|/root/|/Users/|/tmp/|[A-Z]:\\\\|site-packages|at 0x[0-9a-fA-F]{6,}"
)

ALL = sorted(refresh_notebooks.NOTEBOOKS.glob("*.ipynb"))
LESSONS = sorted(refresh_notebooks.NOTEBOOKS.glob("0*.ipynb"))
SAVED = """\
notebooks/{name}.ipynb is not as the course stores it: somebody ran or edited it, and saved it.
That breaks nothing. The other tests of this notebook cannot judge your run, and are skipped.
To have the stored lesson back, move your own to another folder if you want to keep it, and then:
    git restore notebooks/{name}.ipynb
If you changed the lesson and mean it, run it from the top and store that:
    python tests/refresh_notebooks.py {name}"""


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_is_as_it_was_stored(path):
    if not is_stored(path):
        pytest.fail(SAVED.format(name=path.stem), pytrace=False)


@pytest.fixture(params=ALL, ids=lambda path: path.stem)
def notebook(request):
    skip_unless_stored(request.param)
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def first_cell(notebook):
    cell = notebook.cells[0]
    assert cell.cell_type == "markdown", "the first cell should introduce the notebook"
    return cell.source


def test_pictures_for_other_pages_are_the_ones_in_the_notebook(notebook):
    for name, png in refresh_notebooks.figures(notebook).items():
        assert (refresh_notebooks.FIGURES / name).read_bytes() == png, name


def test_outputs_show_no_accidents(notebook):
    assert refresh_notebooks.complaints(notebook) == []


def test_cells_are_short_and_plain(notebook):
    for number, cell in enumerate(refresh_notebooks.code_cells(notebook), start=1):
        lines = cell.source.splitlines()
        assert len(lines) <= MOST_LINES, f"cell [{number}] has {len(lines)} lines"
        assert not [line for line in lines if line.rstrip().endswith(";")], f"cell [{number}]"
        assert not [word for word in NOT_IN_SOURCES if word in cell.source], f"cell [{number}]"


def test_names_no_machine(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
        found = MACHINE.search(json.dumps(cell))
        assert found is None, f"{found[0]} in the cell {cell.source[:60]!r}"


def test_is_small(notebook):
    assert len(nbformat.writes(notebook)) < MOST_BYTES


def test_says_what_it_asks_of_the_reader(notebook, first_cell):
    assert re.search(r"know before|before you (start|begin)|prerequisite", first_cell, re.I)
    assert stated_seconds(notebook) is not None, f'"… {STATEMENT}" belongs in the first cell'


def test_details_are_closed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            opened, closed = (
                len(re.findall(tag, cell.source)) for tag in (r"<details\b", "</details>")
            )
            assert opened == closed, f"in the cell {cell.source[:60]!r}"


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    skip_unless_stored(request.param)
    return request.param


@pytest.fixture
def prose(lesson):
    notebook = nbformat.read(lesson, as_version=4)
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_has_the_shape_of_all_lessons(lesson, prose):
    """Always the same, so that readers stop noticing it."""
    head = prose.split("## ")[0]
    assert re.match(r"# .+\?\n\n\w", head), "a question, and a paragraph that leads to it"
    for part in ("**Afterwards you can**\n- ", "**Know before:** ", "**Time:** "):
        assert part in head
    last = [name for name in re.findall(r"^## (.+)$", prose, re.M) if name in LAST_SECTIONS]
    assert last == LAST_SECTIONS[lesson.stem.startswith("00") :]
    assert len(re.findall(r"\*\*Predict", prose)) == len(
        re.findall(r"^\*\*Predict\.\*\* ", prose, re.M)
    )
    _, after_recap = prose.split("## Recap\n")
    following = [f"({path.name})" for path in LESSONS if path > lesson] or ["(TEACHING.md)"]
    assert following[0] in after_recap, "each lesson ends where the next one begins"


def test_exercises_and_quiz_say_how_long_and_answer(prose):
    headings = re.findall(r"^### Exercise (.+)$", prose, re.M)
    exercises = [EXERCISE.fullmatch(heading) for heading in headings]
    assert [found[1] for found in exercises] == [str(i + 1) for i in range(len(exercises))]
    if exercises:
        number = {2: "two", 3: "three"}[len(exercises)]
        stated = re.search(rf"The {number} exercises take about (\d+) minutes more", prose)
        assert abs(sum(int(found[2]) for found in exercises) - int(stated[1])) <= 5
    quiz = prose.split("## Quiz\n")[1].split("\n## ")[0]
    assert re.findall(r"^\*\*(\d)\.\*\* ", quiz, re.M) == ["1", "2", "3"]
    assert quiz.count("<details><summary>Answer</summary>") == 3
