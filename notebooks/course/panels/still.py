"""A panel as a still picture: its controls, target and status beside what it shows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from io import BytesIO

from matplotlib.image import imread

from course.figures import style

__all__ = ["beside"]

_WIDTH, _LINE = 3.4, 0.27  # inches
_LETTERS = 34  # in a line
_MOST = 9  # controls with a line each; more of them share lines


def beside(
    picture: style.Picture,
    lines: Mapping[str, str],
    target: str,
    reached: str | None,
    status: str,
) -> bytes:
    """Return PNG bytes: the controls as they stand, and the picture.

    Args:
        picture: what the panel shows.
        lines: {what a control is called: its value in words}.
        target: what to race for, "" where there is nothing.
        reached: how it is reached, None where it is not.
        status: the status line.
    """
    pixels = imread(BytesIO(picture.png()))
    height, width = (side / style.DPI for side in pixels.shape[:2])
    told = [f"{label}: {value}" for label, value in lines.items()]
    rows = [(text, "black") for text in (told if len(told) <= _MOST else ["; ".join(told)])]
    if target:
        rows.append((f"☑ Reached: {reached}" if reached else f"☐ Target: {target}", style.NEUTRAL))
    if status:
        rows.append((status, style.NEUTRAL))
    wrapped = [(textwrap.fill(text, _LETTERS), color) for text, color in rows]
    needed = sum(text.count("\n") + 1.25 for text, _ in wrapped) * _LINE + 0.2
    tall = max(height, needed)
    figure = style.Picture(figsize=(_WIDTH + width, tall), dpi=style.DPI, facecolor="white")
    figure.figimage(pixels, xo=_WIDTH * style.DPI, yo=(tall - height) * style.DPI)
    top = tall - 0.1
    for text, color in wrapped:
        look = {"fontsize": style.TEXT_SIZE, "color": color, "va": "top", "linespacing": 1.25}
        figure.text(0.1 / (_WIDTH + width), top / tall, text, **look)
        top -= (text.count("\n") + 1.25) * _LINE
    return figure.png()
