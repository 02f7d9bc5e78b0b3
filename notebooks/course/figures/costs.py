"""What a step costs: the numbers it makes, counted live, and the benchmark's time and memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
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
    "draw_memory",
    "draw_time",
    "measured_on",
    "read_costs",
]

_DATA = DATA / "benchmarks"
_BAND = ["ratio_low", "ratio_high"]
_PANEL = (5.5, 4.2)  # inches

ORDINARY = "ordinary"
_vmap, _opacus, _backpack, _torchjd = style.OTHER_RULES
LINES: Mapping[str, Mapping[str, Any]] = {
    ORDINARY: {**style.MEAN, "marker": "o"},
    "ours, consensus (veto)": {**style.CONSENSUS, "marker": "o"},
    "torch.func.vmap": {**_vmap, "marker": "s"},
    "torch.func.vmap, chunks of 8": {**_vmap, "marker": "x", "linestyle": ":"},
    "Opacus": {**_opacus, "marker": "^"},
    "BackPACK": {**_backpack, "marker": "v"},
    "TorchJD GradDrop": {**_torchjd, "marker": "D"},
    "TorchJD UPGrad, autogram": {**_torchjd, "marker": "P", "linestyle": "--"},
}


@dataclass(frozen=True)
class Numbers:
    """How many numbers some code made.

    Attributes:
        largest: in its largest tensor, so that at least these existed at once.
        written: in all its tensors together, whether or not they existed at once.
    """

    largest: int
    written: int


def count_numbers(step: Callable[[], object]) -> Numbers:
    """Run some code and count the numbers in the tensors that it makes.

    Backward passes are counted as well. A view of a tensor makes no number; a change in place
    writes its tensor once more. What an operator needs for itself is not seen.
    """
    counter = _Counter()
    with counter:
        step()
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
    costs = costs.assign(value=costs["ratio_median"])
    return _draw(costs, titles, "Time of a step, in ordinary steps (log scale)", "ordinary steps")


def draw_memory(costs: pd.DataFrame, titles: Mapping[str, str]) -> style.Picture:
    """Draw how much a step needs at its worst moment, above the state before it.

    Arguments and errors as for `draw_time`.
    """
    costs = costs.assign(value=costs["peak_bytes"] / costs["parameter_bytes"])
    title = "Peak memory of a step, in sizes of the model (log scale)"
    return _draw(costs.drop(columns=_BAND), titles, title, "sizes of the model")


def _draw(costs: pd.DataFrame, titles: Mapping[str, str], title: str, unit: str) -> style.Picture:
    measured = set(costs["problem"])
    problems = [problem for problem in titles if problem in measured]
    if not problems:
        raise ValueError(f"there are results of {sorted(measured)}, and of none of {list(titles)}")
    cols = min(2, len(problems))
    rows = -(-len(problems) // cols)
    size = (_PANEL[0] * cols, _PANEL[1] * rows + 1.5)
    picture, axes = style.new_figure(rows, cols, size, title, squeeze=False)
    picture.get_layout_engine().set(w_pad=0.12)
    for ax in axes.flat[len(problems) :]:
        ax.remove()
    found: dict[str, Any] = {}
    for problem, ax in zip(problems, axes.flat, strict=False):
        of_problem = costs[costs["problem"] == problem].dropna(subset="value").sort_values("batch")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        for name, line in LINES.items():
            own = of_problem[of_problem["contender"] == name]
            if len(own):
                (found[name],) = ax.plot(own["batch"], own["value"], label=name, **line)
            if len(own) and _BAND[0] in own:
                low, high = (own[column] for column in _BAND)
                ax.fill_between(own["batch"], low, high, color=line["color"], alpha=0.2, lw=0)
        batches = of_problem["batch"].unique()
        ax.set_xticks(batches, [str(batch) for batch in batches])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.grid(color=style.PALE)
        style.label(ax, titles[problem], "batch (examples)", unit)
    order = [name for name in LINES if name in found]
    style.legend_below(picture, map(found.get, order), ncols=1 if len(problems) == 1 else 3)
    picture.alt = f"{picture.title}, of {', '.join(order)}"
    return picture
