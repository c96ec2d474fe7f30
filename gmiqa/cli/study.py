"""``gmiqa study params/study.yaml``: the experiments that decide the claims, unit by unit, side by side on CPU cores.

What is finished stays in the results folder and is not done again, so the same command continues a run that was
stopped, on this machine or another one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("study", help="run the experiments that decide the claims", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="*", metavar="YAML", help="parameter files (default: params/study.yaml)")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="one parameter, over the files")
    parser.add_argument("--only", action="append", default=[], metavar="EXPERIMENT", help="ablations, graphs, "
                        "adaptation, metaqap, stack, rivals, human or human_stack; repeat or separate with commas "
                        "(default: all)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes of one thread, side by side")
    parser.add_argument("--until", type=float, default=0, metavar="S", help="stop after so many seconds")
    parser.add_argument("--to", type=Path, default=Path("outputs/findings"), metavar="FOLDER",
                        help="results folder (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("outputs/study"), metavar="FOLDER",
                        help="folder of the trainings (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print what is left; start nothing")


def run(args: argparse.Namespace) -> int:
    import os

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that start from here
    from gmiqa.runs import study
    from gmiqa.settings import load, parse_overrides
    from gmiqa_core.errors import UserError

    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    p = load(*(args.params or ["params/study.yaml"]), overrides=parse_overrides(args.p))
    names = study.known([word for text in args.only for word in text.split(",")])
    results, work = study.Results(args.to), study.work_folder(args.work, p)
    if args.dry_run:
        for name in study.wanted(names, p):
            results.checked(name, p)
            for shard, units in study.left(p, name, results, work).items():
                print(f"{name} {shard}: {', '.join(units)}")
        return 0
    return 1 if study.run(p, names, results, work, args.jobs, args.until) else 0
