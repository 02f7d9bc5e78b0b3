"""What a step costs: the numbers it makes, counted live, and the benchmark's time and memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from course.figures import style

__all__ = [
    "LINES",
    "ORDINARY",
    "Cost",
    "Numbers",
    "count_numbers",
    "draw_memory",
    "draw_time",
    "measured_on",
    "read_costs",
]

_DATA = Path(__file__).resolve().parents[3] / "data" / "benchmarks"
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


@dataclass(frozen=True)
class Cost:
    """One way to make a step, on one model and batch; None where it was not measured.

    Attributes:
        problem: name of the model.
        batch: number of examples.
        contender: name of the way.
        peak_bytes: memory at the step's worst moment, above the state before it.
        parameter_bytes: size of the model.
        ratio_low, ratio_median, ratio_high: quartiles of its time, in ordinary steps.
    """

    problem: str
    batch: int
    contender: str
    peak_bytes: int | None
    parameter_bytes: int | None
    ratio_low: float | None
    ratio_median: float | None
    ratio_high: float | None


def read_costs(device: str = "cpu") -> list[Cost]:
    """The rows of data/benchmarks/results-DEVICE.csv, in their order."""
    with (_DATA / f"results-{device}.csv").open(encoding="utf-8", newline="") as file:
        return [
            Cost(
                row["problem"],
                int(row["batch"]),
                row["contender"],
                *(_read(row[f"{of}_bytes"], int) for of in ("peak", "parameter")),
                *(_read(row[f"ratio_{of}"], float) for of in ("low", "median", "high")),
            )
            for row in csv.DictReader(file)
        ]


def _read(text: str, kind: type[int] | type[float]) -> float | None:
    return kind(text) if text else None


def measured_on(device: str = "cpu") -> str:
    """The machine, the version of torch and the date of the newest of those rows."""
    said = json.loads((_DATA / f"results-{device}.json").read_text(encoding="utf-8"))
    machine = said["machine"]
    named = machine.get("gpu", f"{machine['cpu']}, {machine['cores']} cores")
    return f"{named}, torch {said['versions']['torch']}, {said['date']}"


def draw_time(costs: Sequence[Cost], titles: Mapping[str, str]) -> style.Picture:
    """Draw how many ordinary steps a step costs, over the batch; bands span the quartiles.

    Args:
        costs: contenders that `LINES` does not name are left out.
        titles: {name of a model: title of its panel}; models without a row get no panel.

    Raises:
        ValueError: if no model is left.
    """
    picture, panels = _panels(costs, titles, "Time of a step, in ordinary steps (log scale)")
    for problem, ax in panels.items():
        rows = [c for c in costs if c.problem == problem and c.ratio_median is not None]
        ax.set_yscale("log")
        _draw_lines(ax, [(c, c.ratio_median) for c in rows])
        for name, line in LINES.items():
            timed = sorted(
                (c.batch, c.ratio_low, c.ratio_high) for c in rows if c.contender == name
            )
            if timed:
                ax.fill_between(*zip(*timed, strict=True), color=line["color"], alpha=0.2, lw=0)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        style.label(ax, titles[problem], "batch (examples)", "ordinary steps")
    _finish(picture, panels)
    return picture


def draw_memory(costs: Sequence[Cost], titles: Mapping[str, str]) -> style.Picture:
    """Draw how much a step needs at its worst moment, above the state before it.

    Arguments and errors as for `draw_time`.
    """
    picture, panels = _panels(
        costs, titles, "Peak memory of a step, in sizes of the model (log scale)"
    )
    for problem, ax in panels.items():
        rows = [c for c in costs if c.problem == problem and c.peak_bytes is not None]
        ax.set_yscale("log")
        _draw_lines(ax, [(c, c.peak_bytes / c.parameter_bytes) for c in rows])
        style.label(ax, titles[problem], "batch (examples)", "sizes of the model")
    _finish(picture, panels)
    return picture


def _panels(
    costs: Sequence[Cost], titles: Mapping[str, str], title: str
) -> tuple[style.Picture, dict[str, Axes]]:
    measured = {cost.problem for cost in costs}
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
    return picture, dict(zip(problems, axes.flat, strict=False))


def _draw_lines(ax: Axes, values: Sequence[tuple[Cost, float]]) -> None:
    for name, line in LINES.items():
        points = sorted((cost.batch, value) for cost, value in values if cost.contender == name)
        if points:
            ax.plot(*zip(*points, strict=True), label=name, **line)
    ax.set_xscale("log", base=2)
    batches = sorted({cost.batch for cost, _ in values})
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.grid(color=style.PALE)


def _finish(picture: style.Picture, panels: Mapping[str, Axes]) -> None:
    """Plain numbers on the axes, and one legend below all panels."""
    found: dict[str, Any] = {}
    for ax in panels.values():
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_locator(NullLocator())
        handles, names = ax.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    order = [name for name in LINES if name in found]
    picture.legend(
        [found[name] for name in order],
        order,
        loc="outside lower center",
        ncols=1 if len(panels) == 1 else 3,
        fontsize=style.TEXT_SIZE,
        frameon=False,
        handlelength=3,
    )
    picture.alt = f"{picture.title}, of {', '.join(order)}"
