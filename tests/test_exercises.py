"""The exercises: every solution in the notebooks passes its check, and wrong answers do not."""

import ast
import re

import nbformat
import numpy as np
import pytest
import torch

from course.checks import Case, Verdict, check_function, not_yet, right
from course.checks import one_weight as checks
from course.panels.agreement_panel import FamilyOfRules
from course.panels.arc_lab import ArcLab
from course.panels.between_panel import Between
from course.panels.spirals_panel import Spirals
from course.study.first_study import rates
from course.study.studies import Studies
from tests.oracle import consensus_veto
from tests.refresh_notebooks import NOTEBOOKS, code_cells

FOLDED = re.compile(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def imports(notebook):
    """The import statements of all cells, as one module."""
    statements = []
    for cell in code_cells(notebook):
        try:
            statements += ast.parse(cell.source).body
        except SyntaxError:  # a magic
            continue
    return ast.Module([s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)], [])


def solutions(notebook):
    """The python block of every folded solution; one without a block is None."""
    return [
        block[1] if (block := PYTHON.search(body)) else None
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for summary, body in FOLDED.findall(cell.source)
        if "Solution" in summary
    ]


def last_line(source):
    return source.rstrip().splitlines()[-1]


def all_solutions():
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for number, solution in enumerate(solutions(notebook), start=1):
            yield pytest.param(notebook, solution, id=f"{path.stem}-{number}")


every_solution = pytest.mark.parametrize(("notebook", "solution"), list(all_solutions()))


@every_solution
def test_solution_passes_its_check(notebook, solution, monkeypatch):
    assert solution, "a solution is one ```python block"
    *statements, last = ast.parse(solution).body
    assert isinstance(last, ast.Expr), "a solution ends with the call of its check"
    monkeypatch.chdir(NOTEBOOKS)
    namespace = {}
    exec(compile(imports(notebook), "imports", "exec"), namespace)
    exec(compile(ast.Module(statements, []), "solution", "exec"), namespace)
    verdict = eval(compile(ast.Expression(last.value), "solution", "eval"), namespace)
    assert isinstance(verdict, Verdict)
    assert verdict, verdict.message


@every_solution
def test_unfinished_answer_runs_and_is_refused(notebook, solution):
    stubs = [c for c in code_cells(notebook) if last_line(c.source) == last_line(solution)]
    assert len(stubs) == 1, "one cell ends with the same check as the solution"
    shown = [output.get("data", {}).get("text/plain", "") for output in stubs[0].outputs]
    assert any(text.startswith("Not yet: ") for text in shown), "no verdict in the stored output"


# how a lesson's panel is made; what is folded under "One way" drives it to its target
PANELS = {
    "04_rules_of_agreement": ("panel", FamilyOfRules),
    "05_where_consensus_helps": ("panel", Spirals),
    "07_consensus_on_arc": ("lab", ArcLab),
    "09_open_questions": ("panel", lambda: Between(rates(Studies().rows))),
}


@pytest.fixture
def one_thread():
    """As the lessons set it: with networks this small, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", PANELS)
def test_the_way_that_a_lesson_names_reaches_its_target(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    (way,) = (PYTHON.search(body)[1] for summary, body in FOLDED.findall(prose) if "way" in summary)
    variable, make = PANELS[name]
    panel = make()
    assert panel.reached is None
    exec(compile(way, "one way", "exec"), {variable: panel})
    panel.wait()
    assert panel.reached


def test_verdict_is_true_when_passed_and_shown_as_its_message():
    assert right("so it is.")
    assert not not_yet("look again.")
    assert repr(right("so it is.")) == "Right: so it is."
    assert repr(not_yet("look again.")) == "Not yet: look again."
    with pytest.raises(AttributeError):
        right("so it is.").passed = False


def hurt_by(message):
    def function(*_):
        raise RuntimeError(message)

    return function


def exits(*_):
    raise ValueError


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


CASES = [Case(([1.0, 2.0],), 1.0)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (3.0, "not a function"),
        (None, "not a function"),
        (hurt_by("oh"), "raised RuntimeError: oh"),
        (exits, "raised ValueError"),
        (lambda: 1.0, "raised TypeError"),
        (lambda g: None, "returned None"),
        (lambda g: "1.0", "no number"),
        (lambda g: [1.0], "no number"),
        (lambda g: torch.ones(2), "no number"),
        (lambda g: Unprintable(), "a Unprintable, which is no number"),
        (lambda g: float("nan"), "returned +nan. Expected +1. Think."),
        (lambda g: 1.5, "([+1, +2]) returned +1.5. Expected +1. Think."),
    ],
)
def test_check_function_never_raises(answer, words):
    verdict = check_function(answer, CASES, lambda *_: "Think.", "yes.")
    assert not verdict
    assert verdict.message.startswith("Not yet: ")
    assert words in verdict.message


@pytest.mark.parametrize("answer", [min, lambda g: torch.tensor(1.0), lambda g: torch.ones(1), sum])
def test_check_function_takes_any_kind_of_number(answer):
    wrong = answer is sum
    assert bool(check_function(answer, CASES, lambda *_: "", "yes.")) != wrong


def test_a_function_that_changes_its_arguments_harms_nobody():
    def greedy(g):
        g.sort()
        return g.pop(0)

    assert check_function(greedy, CASES * 2, lambda *_: "", "yes.")
    assert CASES[0].arguments == ([1.0, 2.0],)


@pytest.mark.parametrize("gradients", [[-1, -1, 5], (1.0, 1.0, -2.5), torch.tensor([4.0, -1, -2])])
def test_mean_hurts_two_passes(gradients):
    verdict = checks.check_mean_hurts_two(gradients)
    assert verdict, verdict.message


@pytest.mark.parametrize(
    ("gradients", "words"),
    [
        ([+1.0, -2.0, +2.0], "only example 2 gets worse"),
        ([1.0, 2.0, 2.0], "They need to disagree"),
        ([1.0, 1.0, -2.0], "A mean of 0 moves nothing"),
        ([0.0, 0.0, 0.0], "A mean of 0 moves nothing"),
        ([1.0, 2.0], "three finite numbers"),
        ([1.0, 2.0, float("nan")], "three finite numbers"),
        ([1.0, 2.0, None], "three finite numbers"),
        (["a", "b", "c"], "three finite numbers"),
        ("abc", "three finite numbers"),
        (None, "a list of three numbers"),
        (5.0, "a list of three numbers"),
    ],
)
def test_mean_hurts_two_refuses(gradients, words):
    verdict = checks.check_mean_hurts_two(gradients)
    assert not verdict
    assert words in verdict.message


def by_three_cases(a, b):
    if a > 0 and b > 0:
        return min(a, b)
    return max(a, b) if a < 0 and b < 0 else 0.0


def forgetful(a, b):
    """Right on two numbers except that a conflict is not remembered when folding."""
    return by_three_cases(a, b) or (b if a == 0.0 and b == 0.5 else 0.0)


@pytest.mark.parametrize(
    ("merge", "words"),
    [
        (lambda a, b: 0.0, "They agree"),
        (lambda a, b: (a + b) / 2, "the mean of the two"),
        (lambda a, b: min(abs(a), abs(b)) if a * b > 0 else 0.0, "has their sign"),
        (lambda a, b: min(a, b) if a * b > 0 else 0.0, "nearest to zero is the max"),
        (lambda a, b: min(a, b, key=abs), "merge"),
        (lambda a, b: (a or b) if a * b == 0 else by_three_cases(a, b), "share a non-zero sign"),
        (forgetful, "nothing may undo it"),
        (lambda a, b: 1 / 0, "ZeroDivisionError"),
        (lambda a: a, "TypeError"),
        (None, "not a function"),
    ],
)
def test_merge_refuses(merge, words):
    if callable(merge):
        merge.__name__ = "merge"
    verdict = checks.check_merge(merge)
    assert not verdict
    assert words in verdict.message


def test_merge_passes():
    assert checks.check_merge(by_three_cases)
    assert checks.check_merge(lambda a, b: consensus_veto([a, b]))
    assert checks.check_merge(lambda a, b: torch.tensor(consensus_veto([float(a), float(b)])))


def side(gradients, k, of=min, empty=0.0):
    """The asked-for rule, with a way to choose `of` those that agree."""
    for sign in (1, -1):
        magnitudes = [sign * x for x in gradients if sign * x > 0]
        if len(magnitudes) >= k:
            return sign * of(magnitudes)
    return empty


def mean_of(numbers):
    return sum(numbers) / len(numbers)


@pytest.mark.parametrize(
    ("at_least_k", "words"),
    [
        (lambda g, k: 0.0, "Count: 3 positive, 0 negative, and k is 3"),
        (lambda g, k: min(g, key=abs), "Neither side has enough"),
        (lambda g, k: side(g, k, of=mean_of), "That is a mean"),
        (lambda g, k: mean_of(g) if side(g, k) else 0.0, "That is a mean"),
        (lambda g, k: side(g, k, of=max), "farthest from zero"),
        (lambda g, k: -side(g, k), "subtracting it is the optimizer's part"),
        (lambda g, k: side(g, len(g)), "k is 2"),
        (lambda g, k: np.sign(side(g, k)) * min(map(abs, g)), "those that agree only"),
        (lambda g, k: side([x for x in g if x], k - g.count(0)), "a zero belongs to neither"),
        (lambda g, k: g[99], "raised IndexError"),
        (lambda g, k: None, "returned None"),
        (side([1.0], 1), "not a function"),
    ],
)
def test_at_least_k_refuses(at_least_k, words):
    verdict = checks.check_at_least_k(at_least_k)
    assert not verdict
    assert words in verdict.message


def test_at_least_k_passes():
    verdict = checks.check_at_least_k(side)
    assert verdict, verdict.message
