"""The demo's bar of panels, driven without a browser."""

import base64

import pytest

from course.panels.demo import Demo


def test_a_panel_keeps_its_state_while_another_is_shown():
    demo = Demo()
    demo.show("OneWeight").set(gradients=(1.0, -1.0))
    two = demo.show("TwoWeights")
    assert demo.show("TwoWeights") is two
    assert demo.show("OneWeight").values["gradients"] == (1.0, -1.0)
    with pytest.raises(ValueError, match="'Three'.*OneWeight, TwoWeights"):
        demo.show("Three")


def test_the_map_records_as_soon_as_it_is_shown():
    demo = Demo()
    shown = demo.show("AgreementMap")
    assert shown.running
    shown.stop()
    assert shown.wait(60)


def test_without_a_kernel_the_chosen_panel_is_left():
    demo = Demo()
    two = demo.show("TwoWeights")
    bundle = demo._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == two.png()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == demo.model_id
