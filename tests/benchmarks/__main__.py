"""The command: python -m tests.benchmarks [--quick] [--device cpu|cuda] [--models ...] ...

Measures what the results lack, saving each as it comes, so that a second start goes on where
the first was stopped; then writes the table, the figures and what README quotes of it, and
prints the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tests.benchmarks.contenders import CONTENDERS, ORDINARY, OURS
from tests.benchmarks.figures import memory_figure, time_figure
from tests.benchmarks.machine import ROOT, describe, stamp
from tests.benchmarks.problems import PROBLEMS
from tests.benchmarks.results import Results
from tests.benchmarks.running import Entry
from tests.benchmarks.tables import as_markdown, quoted
from tests.benchmarks.trial import Conditions

FOLDER = ROOT / "data" / "benchmarks"
QUICK_FOLDER = ROOT / "build" / "benchmarks"
README = ROOT / "README.md"
BEGIN, END = "<!-- tests.benchmarks writes from here -->", "<!-- to here -->"
BATCHES = (16, 128, 1024)
QUICK_BATCH = 8
QUICK_MODELS = ("mlp", "tinyconv")
QUICK_CONTENDERS = (OURS, "torch.func.vmap")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0."""
    args = _parse(arguments)
    conditions = Conditions(
        args.device, args.threads, args.memory, args.seconds, 2 if args.quick else args.repeats
    )
    chosen = args.contenders or (QUICK_CONTENDERS if args.quick else list(CONTENDERS))
    contenders = tuple(name for name in CONTENDERS if name in chosen or name == ORDINARY)
    folder = args.folder or (QUICK_FOLDER if args.quick else FOLDER)
    results = Results(folder, args.device)
    description = describe(conditions)
    here_and_now = stamp(description)
    entries = [
        Entry(problem, batch, contenders, conditions, results, here_and_now)
        for problem in args.models or (QUICK_MODELS if args.quick else PROBLEMS)
        for batch in _batches(problem, args.batches, args.quick)
    ]
    results.describe(description)
    with tqdm(total=len(entries) * (len(contenders) + 1), unit="part") as progress:
        for entry in entries:
            if args.fresh:
                results.discard(entry.problem, entry.batch)
            for name, measure in entry.parts():
                progress.set_description(f"{entry.problem} {entry.batch}: {name}")
                measure()
                progress.update()
    write(results, folder, args.device)
    return 0


def write(results: Results, folder: Path, device: str) -> None:
    """Print the table, and store it and the figures beside the results."""
    table = as_markdown(results)
    (folder / f"results-{device}.md").write_text(table, encoding="utf-8")
    for name, figure in (("time", time_figure), ("memory", memory_figure)):
        (folder / f"{name}-{device}.png").write_bytes(figure(results).png())
    if folder == FOLDER and device == "cpu":
        README.write_text(with_quote(README.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(table)


def with_quote(readme: str, results: Results) -> str:
    """README's text with what it quotes of the results as they are now."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{quoted(results)}\n\n{END}{after}"


def _batches(problem: str, asked: Sequence[int] | None, quick: bool) -> list[int]:
    of = PROBLEMS[problem]
    if of.fixed_batch is not None:
        return [of.fixed_batch]
    return sorted(set(asked or ([QUICK_BATCH] if quick else [*BATCHES, *of.goals])))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Time and memory of a consensus step beside an ordinary step and other ways.",
    )
    parser.add_argument("--quick", action="store_true", help="a tiny run, to see that it works")
    parser.add_argument("--fresh", action="store_true", help="measure what there is once more")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="+", choices=list(PROBLEMS), metavar="MODEL")
    parser.add_argument("--batches", nargs="+", type=int, metavar="B")
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=2, help="of torch (2)")
    parser.add_argument("--repeats", type=int, default=15, help="rounds to time (15)")
    parser.add_argument("--memory", type=float, default=12.0, help="GB a step may use (12)")
    parser.add_argument("--seconds", type=float, default=60.0, help="a step may take (60)")
    parser.add_argument("--folder", type=Path, help="of the results (data/benchmarks)")
    args = parser.parse_args(arguments)
    if args.batches and min(args.batches) < 1:
        parser.error("a batch has at least one example")
    if args.repeats < 1 or args.threads < 1:
        parser.error("repeats and threads are at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
