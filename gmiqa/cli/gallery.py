"""``gmiqa gallery``: every notebook of a finished run as a page and one picture, for the repository."""

from __future__ import annotations

import argparse
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("gallery", help="remake outputs/gallery from a finished run", description=__doc__)
    parser.add_argument("params", nargs="*", metavar="YAML", help="parameter files of the run (default: quick)")
    parser.add_argument("--name", help="folder of the run below outputs/, if it was given one")


def run(args: argparse.Namespace) -> int:
    from gmiqa.cli.run import run_folder
    from gmiqa.report.gallery import make
    from gmiqa.runs.provenance import repository_root
    from gmiqa.settings import load

    root = repository_root()
    params = args.params or ["params/quick.yaml"]
    size, count = make(root / run_folder(load(*params), params, args.name), root / "outputs" / "gallery")
    print(f"outputs/gallery: {count} notebooks, {size / 2**20:.1f} MB")
    return 0
