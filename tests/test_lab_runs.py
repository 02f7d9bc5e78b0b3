"""Many runs at once, their curves and their tables."""

import math

import pandas as pd
import pytest

import consensus_lib as cl
from course import arc
from course.figures.curves import PANELS, draw_curves, medians
from course.figures.tables import Table

TASK = arc.load_task("3618c87e")


def history(values, floor=0.25):
    """A history whose every list is `values`."""
    return cl.History(
        loss=values,
        consensus_ratio=values,
        live_consensus_ratio=values,
        update_ratio=values,
        floor=[floor] * len(values),
        seconds=values,
    )


def test_runs_come_back_in_order_and_one_bad_run_is_kept_as_it_was(capsys):
    jobs = [
        {"task": TASK, "rule": cl.Mean(), "seed": 1, "steps": 3},
        {"task": TASK, "rule": cl.Mean(), "optimizer": "sgd", "learning_rate": 1e20},
        {"task": TASK, "rule": cl.Consensus(), "seed": 2, "steps": 3},
    ]
    good, bad, other = arc.fit_all(jobs)
    assert good.loss == pytest.approx(arc.fit(**jobs[0]).loss)
    assert other.loss == pytest.approx(arc.fit(**jobs[2]).loss)
    assert bad.stopped == "diverged"
    assert "0/3" in capsys.readouterr().out


def test_a_median_is_over_the_runs_that_come_as_far():
    found = medians([[1.0, 0.5, 0.25], [1.0, 0.7], [1.0, 0.3, 0.2]])
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.225])
    assert math.isnan(medians([[math.nan, 1.0]])[0])


def test_curves_say_what_they_show_also_of_runs_that_ended_early():
    runs = {"mean": [history([1.0, 0.5]), history([1.0])], "consensus": [history([0.9, 0.8])]}
    picture = draw_curves(runs, ("loss", "consensus_ratio"), title="A title")
    assert picture.title == "A title"
    assert picture.alt == "Curves of training loss, consensus ratio for mean, consensus"
    assert [ax.get_title() for ax in picture.axes] == [PANELS["loss"][0], "consensus ratio"]
    assert picture.png().startswith(b"\x89PNG")


def test_an_unknown_panel_is_refused():
    with pytest.raises(KeyError, match="accuracy"):
        draw_curves({"mean": [history([1.0])]}, ("accuracy",))


def test_a_table_reads_in_a_terminal_and_on_a_page():
    table = Table(
        [{"rule": "a < b", "loss": 0.12345, "n": 3}, {"rule": "c", "loss": 100.0, "n": 12}]
    )
    lines = [line.split() for line in repr(table).splitlines()]
    assert lines == [["rule", "loss", "n"], ["a", "<", "b", "0.123", "3"], ["c", "100", "12"]]
    html = table._repr_html_()
    assert "a &lt; b" in html
    assert "<td>0.123</td>" in html


def test_a_table_cuts_no_long_text_and_is_a_data_frame_s_too():
    long = "as long as the remarks of the study, " * 5
    frame = pd.DataFrame({"remark": [long], "n": [7]})
    for table in (Table(frame), Table([{"remark": long, "n": 7}])):
        assert long in repr(table)
        assert long in table._repr_html_()
        assert "<td>7</td>" in table._repr_html_()


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ([0.998, 1.0, 0.4], ["0.998", "1.000", "0.400"]),
        ([-0.0492, 0.00217, 0.0], ["-0.0492", "0.0022", "0.0000"]),
        ([2.22, 0.581], ["2.22", "0.58"]),
        ([2.22, 0.00643], ["2.22", "0.00643"]),
        ([float("inf"), float("nan"), 12.0], ["inf", "nan", "12.0"]),
        ([0.0, 0.0], ["0", "0"]),
        ([250.0, 1234.5], ["250", "1234"]),
    ],
)
def test_a_column_has_as_many_decimals_as_its_largest_number(column, cells):
    lines = repr(Table({"x": value} for value in column)).splitlines()[1:]
    assert [line.strip() for line in lines] == cells
