"""``gmiqa sweep FILE``: one chain run per point of a grid, and one table of all their numbers."""

from __future__ import annotations

import argparse
import shlex
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sweep", help="one run per combination of parameters, and one table of results",
                                   description=__doc__)
    parser.add_argument("file", metavar="YAML", help="base, grid and seeds (docs/cluster.md has one)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their commands; start nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side")
    parser.add_argument("--index", type=int, metavar="K", help="only the K-th run, from 0: for Slurm arrays")
    parser.add_argument("--results", action="store_true", help="only collect the table of what is finished")


def run(args: argparse.Namespace) -> int:
    from gmiqa.runs import sweep
    from gmiqa.runs.provenance import repository_root, write_atomically
    from gmiqa_core.errors import UserError

    every = points = sweep.read(args.file)
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    if args.index is not None:
        if not 0 <= args.index < len(points):
            raise UserError(f"--index {args.index}: the sweep has runs 0 to {len(points) - 1}")
        points = [points[args.index]]
    if args.dry_run:
        for k, point in enumerate(points):
            print(f"{k:>3}  {point.name}\n     {shlex.join(['python', *point.command[1:]])}")
        print(f"{len(points)} runs")
        return 0
    statuses = [0]
    if not args.results:
        statuses = sweep.execute(points, args.jobs)
    table = sweep.results(every)
    place = every[0].folder.parent / "results.csv"
    write_atomically(repository_root() / place, table.to_csv(index=False).encode())
    failed = sum(status != 0 for status in statuses)
    words = f"; {failed} runs failed" if failed else ""
    print(f"{place}: {len(table)} numbers of {table.run.nunique()} runs{words}")
    return 1 if failed else 0
