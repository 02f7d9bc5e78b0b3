"""The studies from the command line: python -m course.study run | status | report | again.

run     runs what is missing of the parts named, or of all; stop it at any time, start it again
status  says what there is
report  compares the rules by the stored rows
again   runs jobs of a part once more and compares their rows with the stored ones
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from course.study.reports import report
from course.study.studies import FOLDER, PARTS, Studies


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for a mistake, which is said on stderr."""
    args = _parser().parse_args(arguments)
    try:
        args.action(Studies(args.folder), args)
    except (ValueError, ImportError) as error:
        print(f"study: {error}", file=sys.stderr)
        return 1
    return 0


def _run(studies: Studies, args: argparse.Namespace) -> None:
    if unknown := [part for part in args.parts if part not in PARTS]:
        raise ValueError(f"no part {unknown[0]!r}; there are: {', '.join(PARTS)}")
    of_backend = {"scheduler_host": args.scheduler} if args.scheduler else {}
    for part in args.parts or PARTS:
        package = getattr(PARTS[part], "package", "")
        if package and not args.parts and find_spec(package) is None:
            print(f"{part}: left out, needs the package {package}")
            continue
        studies.run(part, args.processes, args.backend, **of_backend)


def _status(studies: Studies, args: argparse.Namespace) -> None:
    for name, part in PARTS.items():
        try:
            jobs, missing = len(studies.jobs(name)), len(studies.missing(name))
            stands = "complete" if not missing else f"{jobs - missing} of {jobs} jobs"
        except ValueError:
            stands = "waits for tuning"
        print(f"{name:18} {stands:24} {part.about}")


def _report(studies: Studies, args: argparse.Namespace) -> None:
    for line in report(studies.rows):
        print(line)


def _again(studies: Studies, args: argparse.Namespace) -> None:
    wanted = dict(pair.split("=", 1) for pair in args.runs)
    rows = studies.again(args.part, **wanted)
    if not rows:
        raise ValueError(f"no run of '{args.part}' with {' '.join(args.runs)}")
    same = sum(stored == now for stored, now in rows)
    print(f"{same} of {len(rows)} rows are the stored ones to the last digit")
    for stored, now in rows:
        if stored != now:
            print(" ", {n: (stored.get(n), now[n]) for n in now if stored.get(n) != now[n]})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course.study", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=FOLDER, help="of the rows (data/study)")
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", parents=[common])
    run.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)}")
    run.add_argument("--processes", type=int, default=-1, help="at a time (one a core)")
    run.add_argument("--backend", default="loky", help="of joblib: loky, or dask (loky)")
    run.add_argument("--scheduler", metavar="ADDRESS", help="of the dask cluster, host:port")
    run.set_defaults(action=_run)
    commands.add_parser("status", parents=[common]).set_defaults(action=_status)
    commands.add_parser("report", parents=[common]).set_defaults(action=_report)
    again = commands.add_parser("again", parents=[common])
    again.add_argument("part", choices=list(PARTS), metavar="PART")
    again.add_argument("runs", nargs="+", metavar="COLUMN=VALUE", help="such as world=3 rule=mean")
    again.set_defaults(action=_again)
    return parser


if __name__ == "__main__":
    sys.exit(main())
