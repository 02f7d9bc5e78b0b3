"""The results as text: Markdown tables, which README and a terminal show alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.benchmarks.contenders import CONTENDERS, ORDINARY, OURS
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.results import Results, Row

__all__ = ["as_markdown", "quoted"]

NONE = "-"
QUOTED = (OURS, "ours, consensus (abstain)", "ours, AND-mask", "torch.func.vmap", "Opacus")
BUDGET = 2**23  # the default chunk_bytes of a recording
Cell = Callable[[Row], str]


def as_markdown(results: Results) -> str:
    """Machine, goals, time and memory of each model, and what has no result."""
    parts = ["# A consensus step beside an ordinary step", _machine(results)]
    if len({row.stamp for row in results.rows}) > 1:
        parts.append("Some of it is older, from other sources or versions: run the command again.")
    ours = [name for name, contender in CONTENDERS.items() if contender.is_ours]
    parts.append(_at_goals(results, ours, _ratio))
    for problem in dict.fromkeys(row.problem for row in results.rows):
        parts.append(f"## {PROBLEMS[problem].title}")
        parts.append("Seconds of the ordinary step, below it the ratio to it: median (quartiles).")
        parts.append(_by_batch(results, problem, _time))
        parts.append(_about_memory(results, problem))
        parts.append(_by_batch(results, problem, lambda row: _extra(results, row)))
    if missing := _without_result(results):
        parts += ["## No result", missing]
    return "\n\n".join(parts) + "\n"


def quoted(results: Results) -> str:
    """What README quotes of the results: some ways at the batches with a goal, medians alone."""
    table = _at_goals(results, QUOTED, lambda row: _short(row.ratio_median) if row.timed else NONE)
    return f"{table}\n\n*{_machine(results)}*"


def _machine(results: Results) -> str:
    said = results.description
    machine, versions, conditions = said["machine"], said["versions"], said["conditions"]
    where = [machine["cpu"], f"{machine['cores']} cores", f"{machine['memory_gb']} GB"]
    if "gpu" in machine:
        where.insert(0, f"{machine['gpu']}, {machine['gpu_memory_gb']} GB")
    else:
        where.append("no GPU, of which these figures say nothing (`--device cuda` measures there)")
    with_what = [f"{name} {number}" for name, number in versions.items() if number]
    return (
        f"{said['date']}: {', '.join(where)}; {', '.join(with_what)}; float32, no compilation, "
        f"threads: {conditions['threads']}. Forward pass, backward pass and rule; median of "
        f"{conditions['repeats']} rounds, fewer where a step takes more than four seconds."
    )


def _at_goals(results: Results, ways: Sequence[str], cell: Cell) -> str:
    """Some contenders at the batches that have a goal."""
    lines = []
    for problem, of in PROBLEMS.items():
        for batch, goal in of.goals.items():
            rows = [results.get((problem, batch, name)) for name in ways]
            if any(rows):
                cells = [NONE if row is None else cell(row) for row in rows]
                lines.append([of.title, str(batch), f"{goal}", *cells])
    if not lines:
        return "No batch with a goal was measured."
    return _table(["model", "batch", "goal", *(n.removeprefix("ours, ") for n in ways)], lines)


def _about_memory(results: Results, problem: str) -> str:
    text = "Peak memory above the ordinary step's, as a multiple of the parameters."
    sizes = {row.parameter_bytes for row in results.rows if row.problem == problem} - {None}
    if not sizes:
        return text
    return f"{text} The goal for ours: 2, and the chunk, {_short(2 + BUDGET / min(sizes))}."


def _by_batch(results: Results, problem: str, cell: Cell) -> str:
    rows = [row for row in results.rows if row.problem == problem]
    batches = sorted({row.batch for row in rows})
    found = {(row.contender, row.batch): cell(row) for row in rows}
    lines = [
        [name, *(found.get((name, batch), NONE) for batch in batches)]
        for name in CONTENDERS
        if any((name, batch) in found for batch in batches)
    ]
    return _table(["batch", *map(str, batches)], lines)


def _time(row: Row) -> str:
    if row.timed and row.contender == ORDINARY:
        return f"{row.seconds_median:.3g} s"
    return _ratio(row)


def _ratio(row: Row) -> str:
    if not row.timed:
        return NONE
    return f"{_short(row.ratio_median)} ({_short(row.ratio_low)} to {_short(row.ratio_high)})"


def _extra(results: Results, row: Row) -> str:
    extra = results.extra_memory(row)
    return NONE if extra is None else _short(extra)


def _short(number: float) -> str:
    return f"{number:.2f}" if abs(number) < 10 else f"{number:.0f}"


def _without_result(results: Results) -> str:
    """One line a contender, model and reason, with the batches."""
    batches: dict[tuple[str, str, str], list[str]] = {}
    for row in results.rows:
        if row.skipped:
            key = row.contender, PROBLEMS[row.problem].title, row.skipped
            batches.setdefault(key, []).append(str(row.batch))
    lines = [[name, title, ", ".join(at), why] for (name, title, why), at in batches.items()]
    return _table(["contender", "model", "batch", "reason"], lines) if lines else ""


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[text.replace("|", "/") for text in line] for line in (header, *lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        f"| {' | '.join(t.ljust(w) for t, w in zip(line, widths, strict=True))} |" for line in cells
    ]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([padded[0], rule, *padded[1:]])
