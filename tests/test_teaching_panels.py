"""What TEACHING.md tells of panels is true: each target is missed at first and reached as told."""

import ast
import re

import pytest
import torch

from course.checks.engine import check_like_minded
from course.panels.agreement_map import AgreementMap
from course.panels.agreement_panel import FamilyOfRules
from course.panels.arc_lab import ArcLab
from course.panels.between_panel import Between
from course.panels.one_weight_panel import OneWeight
from course.panels.panel import Panel
from course.panels.spirals_panel import Spirals
from course.panels.study_panel import StudyPanel
from course.panels.two_weights_panel import TwoWeights
from course.study.running import Study
from tests.refresh_notebooks import NOTEBOOKS

SECONDS = 300
TEXT = (NOTEBOOKS / "TEACHING.md").read_text(encoding="utf-8")
ROWS = dict(
    re.findall(
        r"^\| ([^|(]+) \([^|]*\) \| [^|]+ \| (.+) \|$", TEXT.split("## Panels and targets")[1], re.M
    )
)
PANELS = {
    "One weight": OneWeight,
    "Two weights": TwoWeights,
    "The agreement map": AgreementMap,
    "Family of rules": FamilyOfRules,
    "Spirals": Spirals,
    "The ARC lab": ArcLab,
    "What lies between": lambda: Between(Study().rates()),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipes(told):
    """The arguments of each `set(...)`, by the way that Python reads them."""
    for call in re.findall(r"`set\((.*?)\)`", told):
        keywords = ast.parse(f"set({call})", mode="eval").body.keywords
        yield {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords}


def test_every_panel_is_told_of():
    assert {*PANELS, "The study", "like-minded examples"} == set(ROWS)


@pytest.mark.parametrize("name", PANELS)
def test_a_recipe_reaches_its_target(name):
    told = ROWS[name]
    found = [*recipes(told)]
    if name == "Two weights":
        assert len(found) == 2
    for values in found:
        panel = PANELS[name]()
        assert panel.reached is None
        presets = [p for p in panel.presets if f"preset *{p}*" in told]
        for preset in presets:
            panel.choose(preset)
        if type(panel).work is Panel.work:
            panel.set(**values)
        elif name == "The agreement map":
            panel.start()
            assert panel.wait(SECONDS)
            assert panel.reached is None
            panel.set(**values)
        else:
            panel.set(**values)
            panel.start()
            assert panel.wait(SECONDS)
        assert panel.problem is None, panel.status
        assert panel.reached, values


def test_like_minded_examples():
    batch = re.search(r"`([^`]*torch\.rand\(64, 20\))`", ROWS["like-minded examples"])[1]
    inputs, targets = eval(batch), torch.zeros(64, dtype=torch.long)
    verdict = check_like_minded(inputs, targets)
    assert verdict, verdict


def test_the_study_has_a_find():
    panel = StudyPanel(Study().results("main"))
    panel.set(measure="test loss", moment=0.1, rules=("consensus",))
    assert "test loss at equal training loss, for consensus" in ROWS["The study"]
    assert "It survives." in panel.reached


def test_presets_named_in_the_plans_exist():
    plans = TEXT.split("## 45 minutes")[1].split("## One notebook")[0]
    known = [name for panel in PANELS.values() for name in getattr(panel, "presets", {})]
    told = re.search(r"presets in this order: (.*?)\. Before each", plans)[1]
    for name in [*re.findall(r"\*([^*]+)\*", told), "masked weights held"]:
        assert name in known
