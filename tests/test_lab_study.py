"""The figures and the panel of notebook 08, on rows made up."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from course.figures import study_figures as figures
from course.figures import style
from course.panels.study_panel import StudyPanel
from course.study.first_study import study_tasks
from course.study.inference import holm
from course.study.reporting import compare_at
from course.study.rules import MAIN_RULES
from tests.study_rows import LEVELS, STEPS, columns, rows_of

TASKS = 30


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.2, 0.8, TASKS)
    scores = {rule: mean + 0.02 * rng.normal(size=TASKS) for rule in MAIN_RULES}
    scores["consensus"] = mean - 0.1 + 0.02 * rng.normal(size=TASKS)
    scores["agreement"] = mean + 0.1
    return columns(**{rule: np.round(values, 4).tolist() for rule, values in scores.items()})


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_forest_shows_each_interval_and_its_row(table):
    found = compare_at(table, "end")
    (ax,) = figures.draw_forest(found).axes
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2][1:]
    for row, (bar, c) in enumerate(zip(bars, found.comparisons, strict=True)):
        assert list(bar.get_xdata()) == pytest.approx(list(c.interval_95))
        assert list(bar.get_ydata()) == [row, row]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(MAIN_RULES[1:])
    assert texts(ax).count("better") == 1 + sum(c.verdict == "better" for c in found.comparisons)
    for c in found.comparisons:
        assert {str(c.better), str(c.worse), str(c.equal), c.verdict} <= set(texts(ax))
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.03, 0.06))
    assert bars[0].get_color() == style.CONSENSUS["color"]


def test_controls_are_rings_and_rules_are_dots(table):
    (ax,) = figures.draw_forest(compare_at(table, "end")).axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    faces = dict(zip(MAIN_RULES[1:], (to_rgba(d.get_markerfacecolor()) for d in dots), strict=True))
    white = {rule for rule, face in faces.items() if face == to_rgba("white")}
    assert white == {"random mask", "smallest", "scaled mean"}


def test_no_text_of_a_forest_leaves_the_picture(table):
    for picture in (
        figures.draw_forest(compare_at(table, "end")),
        figures.draw_forest(compare_at(table, 0.03, rules=["consensus"])),
        StudyPanel(table).picture,
    ):
        picture.canvas.draw()
        width, height = picture.get_size_inches() * picture.dpi
        for ax in picture.axes:
            for text in (*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels()):
                box = text.get_window_extent()
                if text.get_text() and text.get_visible():
                    assert -1 <= box.x0 < box.x1 <= width + 1, text.get_text()
                    assert -1 <= box.y0 < box.y1 <= height + 1, text.get_text()


def test_a_forest_of_few_tasks_has_intervals_without_ends():
    few = columns(mean=[0.5] * 4, consensus=[0.25] * 4)
    (ax,) = figures.draw_forest(compare_at(few, "end")).axes
    assert list(ax.lines[1].get_xdata()) == pytest.approx(list(ax.get_xlim()))


def test_a_forest_says_which_rules_never_came_to_it(table):
    (ax,) = figures.draw_forest(compare_at(table, 0.03, rules=["consensus", "abstain"])).axes
    assert "no pair of runs came to it: consensus, abstain" in texts(ax)


def test_every_rule_has_a_look_of_its_own():
    looks = [
        (look["color"], str(look["linestyle"]), look.get("marker"))
        for look in figures.LOOKS.values()
    ]
    assert len(set(looks)) == len(MAIN_RULES)


def test_rates_ring_the_chosen_one():
    rows = []
    for rate, score in ((0.001, 0.2), (0.01, 0.6), (0.03, 0.4)):
        rows += rows_of("mean", [score] * 3, learning_rate=rate)
        rows += rows_of("consensus", [score / 2] * 3, learning_rate=rate)
    chosen = {"mean": 0.01, "consensus": 0.001}
    (ax,) = figures.draw_rates(pd.DataFrame(rows), chosen).axes
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines["mean"].get_ydata()) == pytest.approx([0.2, 0.6, 0.4])
    rings = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() == "o"]
    assert rings == [pytest.approx([0.01, 0.6]), pytest.approx([0.001, 0.1])]


def test_losses_are_drawn_run_by_run():
    table = pd.DataFrame(rows_of("mean", [0.5] * 2) + rows_of("consensus", [0.5] * 2))
    picture = figures.draw_losses(table)
    assert [ax.get_title() for ax in picture.axes] == [f"task {t}" for t in study_tasks()[:2]]
    for ax in picture.axes:
        assert len(ax.lines) == 2 * 2
        assert list(ax.lines[0].get_xdata()) == list(STEPS)


def test_reach_draws_shares():
    table = pd.DataFrame(
        rows_of("mean", [0.5] * 4) + rows_of("consensus", [0.5] * 4, reached=(1.0,))
    )
    (ax,) = figures.draw_reach(table).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert lines == {"mean": [1, 1, 1], "consensus": [1, 0, 0]}
    assert list(ax.lines[0].get_xdata()) == list(LEVELS)
    assert ax.xaxis_inverted()


def test_ratios_are_medians_over_tasks_and_relative_to_the_floor_of_each():
    table = columns(mean=[0.5] * 5, consensus=[0.5] * 5)
    picture = figures.draw_ratios(table)
    (left, middle, right) = (ax.lines[0].get_ydata() for ax in picture.axes)
    assert list(left) == pytest.approx([0.4] + [0.2] * 4)
    assert list(middle) == pytest.approx([0.8] + [0.4] * 4)
    floors = [2.0 ** (1 - figures.training_pairs(task)) for task in study_tasks()[:5]]
    assert right[0] == pytest.approx(np.median([0.8 / floor for floor in floors]))


def test_fresh_pairs_are_means_and_ranges_over_seeds():
    rows = []
    for rule, shift in (("mean", 0.0), ("consensus", 0.25), ("abstain", 0.1)):
        for row in rows_of(rule, [0.5] * 2):
            seed = row["seed"] / 4
            rows.append(row | {"fresh_changed_accuracy": shift + seed, "fresh_exact": seed})
    picture = figures.draw_fresh(pd.DataFrame(rows))
    changed = picture.axes[0]
    ranges = [line for line in changed.lines if len(line.get_xdata()) == 2]
    assert [list(line.get_xdata()) for line in ranges] == [[0.0, 0.25], [0.25, 0.5]] * 2
    assert [t.get_text() for t in changed.get_yticklabels()] == sorted(study_tasks()[:2])


@pytest.fixture
def panel(table):
    return StudyPanel(table)


def test_the_panel_counts_what_it_shows_once(panel):
    assert len(panel.looks) == 1
    panel.set(rules=("consensus", "abstain", "mean"))
    assert len(panel.looks) == 2  # the mean against itself is no comparison
    panel.set(rules=("consensus",))
    panel.set(moment=0.3)
    assert len(panel.looks) == 3
    panel.set(moment=0.03)  # nobody came to it
    assert len(panel.looks) == 3
    assert "consensus" in panel.shown.unpaired
    panel.reset()
    assert len(panel.looks) == 1


def test_the_panel_corrects_for_all_looks(panel):
    panel.set(rules=MAIN_RULES[1:])
    for moment in ("end", 1.0, 0.3, "best"):
        panel.set(moment=moment)
    assert len(panel.looks) == 4 * 8
    (best,) = (c for c in panel.shown.comparisons if c.rule == "agreement")
    after = holm([*panel.looks.values()])[
        [*panel.looks].index(("agreement", "mean", "changed-cell accuracy", "best", "all"))
    ]
    assert panel.reached.startswith(f"agreement, p = {best.p_different:.2g} alone, {after:.2g}")
    assert "32 looks" in panel.reached
    assert f"Holm, {len(panel.looks)}" in texts(panel.picture.axes[0])


def test_the_panels_p_values_are_those_of_each_comparison_alone(panel, table):
    panel.set(rules=MAIN_RULES[1:])
    for c in panel.shown.comparisons:
        (alone,) = compare_at(table, "end", rules=[c.rule]).comparisons
        assert c == alone


def test_a_find_is_better_than_the_mean_and_nothing_else(panel):
    assert panel.reached is None  # consensus is worse
    panel.set(baseline="consensus", rules=("agreement",))
    assert panel.reached is None  # better, and not than the mean
    panel.set(baseline="mean")
    assert panel.reached.endswith("It survives.")
    panel.set(measure="test loss", rules=("consensus",))
    assert panel.reached is None  # a higher loss


def test_groups_of_tasks_are_told_apart_by_their_pairs(panel):
    panel.set(tasks="3 pairs")
    threes = [task for task in study_tasks()[:TASKS] if figures.training_pairs(task) == 3]
    assert panel.shown.tasks == len(threes)
    assert panel.shown.comparisons[0].tasks == len(threes)


@pytest.mark.parametrize("preset", list(StudyPanel.presets))
def test_every_preset_draws_in_the_same_size(panel, preset):
    size = panel.picture.get_size_inches().tolist()
    panel.choose(preset)
    assert panel.problem is None
    assert panel.picture.get_size_inches().tolist() == size
