"""Many runs at once, their curves and their tables."""

import math

import pytest

import consensus_lib as cl
from course import arc
from course.figures import style
from course.figures.curves import PANELS, draw_curves
from course.figures.runs import fit_all
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
    good, bad, other = fit_all(jobs)
    assert good.loss == pytest.approx(arc.fit(**jobs[0]).loss)
    assert other.loss == pytest.approx(arc.fit(**jobs[2]).loss)
    assert bad.stopped == "diverged"
    assert "0/3" in capsys.readouterr().out


def test_curves_show_every_seed_and_their_median():
    runs = {
        "mean": [history([1.0, 0.5, 0.25]), history([1.0, 0.7]), history([1.0, 0.3, 0.2])],
        "consensus": [history([0.9, 0.8, 0.7])],
        "random mask": [history([0.5, 0.5, 0.5])],
    }
    picture = draw_curves(runs, ("loss", "consensus_ratio"), title="A title")
    loss, ratio = picture.axes
    assert picture.title == "A title"
    assert (loss.get_yscale(), ratio.get_yscale()) == ("log", "linear")
    assert loss.get_title() == PANELS["loss"][0]
    thick = {line.get_label(): line for line in loss.lines if line.get_linewidth() > 2}
    assert list(thick["mean"].get_ydata()) == pytest.approx([1.0, 0.5, 0.225])
    assert thick["mean"].get_color() == style.MEAN["color"]
    assert thick["consensus"].get_color() == style.CONSENSUS["color"]
    assert thick["random mask"].get_color() == style.OTHER_RULES[0]["color"]
    assert len(loss.lines) == 5 + 3
    thin = loss.lines[1].get_ydata()
    assert math.isnan(thin[2])
    assert any(line.get_ydata()[0] == 0.25 for line in ratio.lines[-1:])
    assert picture.png().startswith(b"\x89PNG")


def test_an_unknown_panel_is_refused():
    with pytest.raises(KeyError, match="accuracy"):
        draw_curves({"mean": [history([1.0])]}, ("accuracy",))


def test_a_table_reads_in_a_terminal_and_on_a_page():
    table = Table(
        [{"rule": "a < b", "loss": 0.12345, "n": 3}, {"rule": "c", "loss": 100.0, "n": 12}]
    )
    assert repr(table) == "rule    loss   n\na < b  0.123   3\nc        100  12"
    html = table._repr_html_()
    assert "a &lt; b" in html
    assert html.count("<tr>") == 3
    assert '<td style="text-align:right">0.123</td>' in html


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
