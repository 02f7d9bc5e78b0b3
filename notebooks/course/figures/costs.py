"""What a step costs: the numbers it makes, counted live, and the benchmark's time and memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course import DATA
from course.figures import style

__all__ = [
    "LINES",
    "ORDINARY",
    "Numbers",
    "count_numbers",
    "draw_costs",
    "draw_memory",
    "draw_time",
    "measured_on",
    "read_costs",
]

_DATA = DATA / "benchmarks"
_BAND = ["ratio_low", "ratio_high"]
_PANEL = (5.5, 4.2)  # inches

ORDINARY = "ordinary"
_vmap, _opacus, _, _backpack = style.OTHER_RULES
LINES: Mapping[str, Mapping[str, Any]] = {
    ORDINARY: {**style.MEAN, "marker": "o"},
    "ours, consensus (veto)": {**style.CONSENSUS, "marker": "o"},
    "torch.func.vmap": {**_vmap, "marker": "s"},
    "Opacus": {**_opacus, "marker": "^"},
    "BackPACK": {**_backpack, "marker": "v"},
}
_FEW = list(LINES)[:3]
_FINE = (1, 1.2, 1.5, 2, 3, 5, 7)
_TIME = "Time of a step", "ordinary steps (log scale)"
_MEMORY = "Peak memory of a step", "sizes of the model (log scale)"


@dataclass(frozen=True)
class Numbers:
    """How many numbers some code made.

    Attributes:
        largest: in its largest tensor, so that at least these existed at once.
        written: in all its tensors together, whether or not they existed at once.
    """

    largest: int
    written: int


def count_numbers(step: Callable[..., object], *arguments: object) -> Numbers:
    """Call step(*arguments) and count the numbers in the tensors that it makes.

    Backward passes are counted as well. A view of a tensor makes no number; a change in place
    writes its tensor once more. What an operator needs for itself is not seen.
    """
    counter = _Counter()
    with counter:
        step(*arguments)
    return Numbers(counter.largest, counter.written)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.largest = self.written = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        before = {_memory(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                new = _memory(tensor) not in before
                self.largest = max(self.largest, new * tensor.numel())
                self.written += (new or func._schema.is_mutable) * tensor.numel()
        return made


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def read_costs(device: str = "cpu") -> pd.DataFrame:
    """The rows of data/benchmarks/results-DEVICE.csv: a way to make a step, on a model and batch.

    Columns, nan where something was not measured: problem (name of the model), batch (number of
    examples), contender (name of the way), peak_bytes (memory at the step's worst moment, above
    the state before it), parameter_bytes (size of the model), ratio_low, ratio_median, ratio_high
    (quartiles of its time, in ordinary steps), and more that the benchmark wrote down.
    """
    return pd.read_csv(_DATA / f"results-{device}.csv")


def measured_on(device: str = "cpu") -> str:
    """The machine, the version of torch and the date of the newest of those rows."""
    said = json.loads((_DATA / f"results-{device}.json").read_text(encoding="utf-8"))
    machine = said["machine"]
    named = machine.get("gpu", f"{machine['cpu']}, {machine['cores']} cores")
    return f"{named}, torch {said['versions']['torch']}, {said['date']}"


def draw_time(costs: pd.DataFrame, titles: Mapping[str, str]) -> style.Picture:
    """Draw how many ordinary steps a step costs, over the batch; bands span the quartiles.

    Args:
        costs: as `read_costs`; contenders that `LINES` does not name are left out.
        titles: {name of a model: title of its panel}; models without a row get no panel.

    Raises:
        ValueError: if no model is left.
    """
    return _draw_models(_with_time(costs), titles, *_TIME)


def draw_memory(costs: pd.DataFrame, titles: Mapping[str, str]) -> style.Picture:
    """Draw how much a step needs at its worst moment, above the state before it.

    Arguments and errors as for `draw_time`.
    """
    return _draw_models(_with_memory(costs), titles, *_MEMORY)


def draw_costs(costs: pd.DataFrame, problem: str) -> style.Picture:
    """Draw time and memory of a step of one model: ordinary, ours and by vmap.

    Args:
        costs: as `read_costs`.
        problem: name of the model.

    Raises:
        ValueError: if the model has no row.
    """
    _require_some(costs, [problem])
    own = costs[(costs["problem"] == problem) & costs["contender"].isin(_FEW)]
    picture, axes = style.new_figure(1, 2, (2 * _PANEL[0], _PANEL[1] + 0.5))
    found = _draw_lines(axes[0], _with_time(own), *_TIME)
    found |= _draw_lines(axes[1], _with_memory(own), *_MEMORY)
    _finish(picture, found, f"Time and peak memory of a step, {problem}", ncols=len(found))
    return picture


def _with_time(costs: pd.DataFrame) -> pd.DataFrame:
    return costs.assign(value=costs["ratio_median"])


def _with_memory(costs: pd.DataFrame) -> pd.DataFrame:
    return costs.assign(value=costs["peak_bytes"] / costs["parameter_bytes"]).drop(columns=_BAND)


def _require_some(costs: pd.DataFrame, problems: Collection[str]) -> None:
    measured = set(costs["problem"])
    if measured.isdisjoint(problems):
        raise ValueError(
            f"there are results of {sorted(measured)}, and of none of {list(problems)}"
        )


def _draw_models(
    costs: pd.DataFrame, titles: Mapping[str, str], title: str, unit: str
) -> style.Picture:
    """A panel a model."""
    _require_some(costs, titles)
    problems = [problem for problem in titles if problem in set(costs["problem"])]
    cols = min(2, len(problems))
    rows = -(-len(problems) // cols)
    size = (_PANEL[0] * cols, _PANEL[1] * rows + 1.0)
    picture, axes = style.new_figure(rows, cols, size, title, squeeze=False)
    picture.get_layout_engine().set(w_pad=0.12)
    for ax in axes.flat[len(problems) :]:
        ax.remove()
    found: dict[str, Artist] = {}
    for problem, ax in zip(problems, axes.flat, strict=False):
        found |= _draw_lines(ax, costs[costs["problem"] == problem], titles[problem], unit)
    _finish(picture, found, picture.title, ncols=1 if len(problems) == 1 else 3)
    return picture


def _draw_lines(ax: Axes, costs: pd.DataFrame, title: str, unit: str) -> dict[str, Artist]:
    """A line a contender, `value` over `batch`, and a band where quartiles are known; {name: line}."""
    found: dict[str, Artist] = {}
    costs = costs.dropna(subset="value").sort_values("batch")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    for name, line in LINES.items():
        own = costs[costs["contender"] == name]
        if len(own):
            (found[name],) = ax.plot(own["batch"], own["value"], label=name, **line)
        if len(own) and _BAND[0] in own:
            low, high = (own[column] for column in _BAND)
            ax.fill_between(own["batch"], low, high, color=line["color"], alpha=0.2, lw=0)
    batches = costs["batch"].unique()
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.xaxis.set_minor_locator(NullLocator())
    lowest, highest = ax.get_ylim()
    ax.yaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if highest > 10 * lowest else _FINE, numticks=12)
    )
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(color=style.PALE)
    style.label(ax, title, "batch (examples)", unit)
    return found


def _finish(picture: style.Picture, found: Mapping[str, Artist], told: str, ncols: int) -> None:
    """One legend for all panels, in the order of `LINES`, and the text for who sees none."""
    order = [name for name in LINES if name in found]
    style.legend_below(picture, map(found.get, order), ncols=ncols)
    picture.alt = f"{told}, of {', '.join(order)}"
