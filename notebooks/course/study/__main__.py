"""The command: python -m course.study run|status|report|again.

run     runs what is missing of the parts named, or of all; stop it at any time, start it again
status  says what there is
report  compares the rules by the stored rows of a part
again   runs jobs of a part once more and compares their rows with the stored ones
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from course.figures.tables import Table
from course.study.plan import PARTS, Budget
from course.study.reporting import all_findings, finished, primary
from course.study.running import FOLDER, Study

QUICK_FOLDER = FOLDER.parents[1] / "build" / "study"
QUICK_BUDGET = Budget(steps=20, checkpoints=(0, 10, 20))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for a mistake, which is said on stderr."""
    args = _parser().parse_args(arguments)
    try:
        study = _study(args)
        args.action(study, args)
    except (ValueError, ImportError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    return 0


def _study(args: argparse.Namespace) -> Study:
    if args.quick:
        return Study(args.folder or QUICK_FOLDER, QUICK_BUDGET, tasks=1)
    return Study(args.folder or FOLDER)


def _run(study: Study, args: argparse.Namespace) -> None:
    if unknown := [part for part in args.parts if part not in PARTS]:
        raise ValueError(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    of_backend = {"scheduler_host": args.scheduler} if args.scheduler else {}
    for part in args.parts or PARTS:
        package = PARTS[part].package
        if package and not args.parts and find_spec(package) is None:
            print(f"{part}: left out, needs the package {package}")
            continue
        study.run(part, args.processes, args.backend, **of_backend)


def _status(study: Study, args: argparse.Namespace) -> None:
    for name, part in PARTS.items():
        try:
            jobs, missing = len(study.jobs(name)), len(study.missing(name))
            stands = "complete" if not missing else f"{jobs - missing} of {jobs} jobs"
        except ValueError:
            stands = "waits for learning rates"
        print(f"{name:17} {stands:26} {part.about}")


def _report(study: Study, args: argparse.Namespace) -> None:
    columns = study.results(args.part)
    if not len(columns):
        raise ValueError(f"no rows of '{args.part}' yet: run it first")
    for setting in dict.fromkeys(columns["setting"].tolist()):
        rows = finished(columns.where(setting=setting))
        print(f"== {args.part}, {setting} ==\n")
        for findings in all_findings(rows):
            print(findings.title)
            print(Table(findings.rows()) if findings.comparisons else "no pair of runs")
            if findings.unpaired:
                print(f"without a pair of runs: {', '.join(findings.unpaired)}")
            print()
        print(primary(rows))


def _again(study: Study, args: argparse.Namespace) -> None:
    wanted = {"task": args.task} | ({"rule": args.rule} if args.rule else {})
    runs = study.again(args.part, **wanted)
    if not runs:
        raise ValueError(f"no job of '{args.part}' with {wanted}")
    for job, rows in runs.items():
        print(*job.key)
        same = sum(stored == now for stored, now in rows)
        print(f"  {same} of {len(rows)} rows are the stored ones to the last digit")
        for stored, now in rows:
            for name, number in now.items():
                if stored.get(name) != number:
                    moment = f"seed {now['seed']}, {now.get('at', '')} {now.get('value', '')}"
                    print(f"    {moment}: {name} stored {stored.get(name)}, now {number}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, help="of the results (data/study)")
    common.add_argument(
        "--quick", action="store_true", help="a tiny study in build/study, to see that it works"
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", parents=[common])
    run.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    run.add_argument("--processes", type=int, default=-1, help="at a time (one a core)")
    run.add_argument("--backend", default="loky", help="of joblib: loky, or dask (loky)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of the dask cluster, host:port")
    run.set_defaults(action=_run)
    commands.add_parser("status", parents=[common]).set_defaults(action=_status)
    report = commands.add_parser("report", parents=[common])
    report.add_argument("part", nargs="?", default="main", choices=["main", "fresh", "others"])
    report.set_defaults(action=_report)
    again = commands.add_parser("again", parents=[common])
    again.add_argument("part", choices=list(PARTS), metavar="PART")
    again.add_argument("task", help="an ARC-AGI-1 id")
    again.add_argument("--rule", help="only this rule")
    again.set_defaults(action=_again)
    return parser


if __name__ == "__main__":
    sys.exit(main())
