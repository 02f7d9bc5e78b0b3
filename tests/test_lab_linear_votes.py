"""Figures of the votes of a Linear layer say what the gradients say."""

import torch
from matplotlib.colors import to_hex

from course.figures import linear_votes
from tests.oracle import consensus_veto


def cells(ax):
    """{(row, column): (text, colour)} of the grid below and right of the origin."""
    faces = {patch.get_xy(): to_hex(patch.get_facecolor()) for patch in ax.patches}
    found = {}
    for text in ax.texts:
        x, y = (value - 0.5 for value in text.get_position())
        if (x, y) in faces and x >= 0 and y >= 0:
            found[int(y), int(x)] = text.get_text(), faces[x, y]
    return found


def test_sign_patterns_are_the_signs_and_the_sums_of_gradients():
    inputs = torch.tensor([[1.0, -2.0, 0.0], [3.0, 1.0, 2.0]])
    grad_outputs = torch.tensor([[0.5, -1.0], [2.0, 1.0]])
    picture = linear_votes.draw_sign_patterns(inputs, grad_outputs)
    *examples, last = picture.axes
    gradients = [
        [[float(d * a) for a in row] for d in delta]
        for row, delta in zip(inputs, grad_outputs, strict=True)
    ]
    for b, ax in enumerate(examples):
        for (o, i), (text, _) in cells(ax).items():
            assert text == ("+" if gradients[b][o][i] > 0 else "−" if gradients[b][o][i] else "0")
        assert len(cells(ax)) == 6
    assert len(cells(last)) == 6
    for (o, i), (text, face) in cells(last).items():
        votes = [g[o][i] for g in gradients]
        assert int(text.replace("−", "-")) == sum((v > 0) - (v < 0) for v in votes)
        assert (face != "#ffffff") == (consensus_veto(votes) != 0)
    assert "[[2, 0, 1], [0, 2, 1]]" in picture.alt


def test_unanimous_shares_stand_beside_the_floor():
    shares = {"mixed": {2: 0.5, 8: 0.01}, "alike": {2: 1.0, 4: 0.9}}
    (ax,) = linear_votes.draw_unanimous(shares).axes
    lines = {line.get_label(): dict(line.get_xydata().tolist()) for line in ax.get_lines()}
    assert lines["mixed"] == {2: 0.5, 8: 0.01}
    assert lines["alike"] == {2: 1.0, 4: 0.9}
    assert lines["coin-flip floor"] == {2: 1 / 2, 4: 1 / 8, 8: 1 / 128}
