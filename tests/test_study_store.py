"""Stored rows survive a kill at any byte, and read back as they were."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course.study.store import Store, read, select

NAMES = ("task", "seed", "value", "ended")
JOBS = [
    [{"task": "05269061", "seed": 0, "value": 0.25, "ended": "budget"}],
    [
        {"task": "a699fb00", "seed": 0, "value": 1 / 3, "ended": "fitted"},
        {"task": "a699fb00", "seed": 1, "ended": "fitted"},
    ],
    [{"task": "3618c87e", "seed": 0, "value": float("nan"), "ended": "budget"}],
]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "part.csv.gz", NAMES)
    for rows in JOBS:
        store.add(rows)
    return store


def test_rows_read_back(store):
    columns = read(store.path)
    assert columns["task"].tolist() == ["05269061", "a699fb00", "a699fb00", "3618c87e"]
    np.testing.assert_allclose(columns["value"], [0.25, 1 / 3, np.nan, np.nan], rtol=1e-4)
    assert columns["seed"].tolist() == [0, 0, 1, 0]
    text = gzip.decompress(store.path.read_bytes()).decode()
    assert [*csv.DictReader(io.StringIO(text))] == store.text().to_dict("records")


def test_a_store_that_is_not_there_is_empty(tmp_path):
    store = Store(tmp_path / "none.csv.gz", NAMES)
    assert len(store.text()) == len(read(store.path)) == 0
    assert not store.path.exists()


@given(data=st.data())
def test_a_kill_at_any_byte_loses_one_job_at_most(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kill")
    store = Store(folder / "part.csv.gz", NAMES)
    ends = []
    for rows in JOBS:
        store.add(rows)
        ends.append(store.path.stat().st_size)
    whole = store.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    store.path.write_bytes(whole[:cut])
    again = Store(store.path, NAMES)
    kept = sum(end <= cut for end in ends)
    wanted = [row["task"] for rows in JOBS[:kept] for row in rows]
    assert again.text()["task"].tolist() == wanted
    for rows in JOBS[kept:]:
        again.add(rows)
    assert again.path.read_bytes() == whole


def test_tidy_keeps_the_rows_in_less_room(store):
    before, size = store.text(), store.path.stat().st_size
    store.tidy()
    after = store.text()
    assert sorted(after.to_numpy().tolist()) == sorted(before.to_numpy().tolist())
    assert store.path.stat().st_size < size
    first = store.path.read_bytes()
    store.tidy()
    assert store.path.read_bytes() == first


def test_other_columns_are_refused(store):
    with pytest.raises(ValueError, match="has the columns task,seed"):
        Store(store.path, ("task", "loss"))


def test_select_chooses_rows():
    rows = pd.DataFrame({"rule": ["a", "b", "a"], "value": [1.0, 2.0, 3.0]})
    assert select(rows, rule="a")["value"].tolist() == [1, 3]
    assert select(rows, value=[2.0, 3.0], rule=["a", "b"])["rule"].tolist() == ["b", "a"]
    assert len(select(rows, rule="c")) == 0
    with pytest.raises(ValueError, match="no column 'rul'"):
        select(rows, rul="a")
