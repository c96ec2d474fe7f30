"""``gmiqa run params/quick.yaml``: the notebooks in order, with papermill, into outputs/<name>/."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("run", help="run the notebooks in order, skipping what is done",
                                   description=__doc__)
    parser.add_argument("params", nargs="*", metavar="YAML", help="parameter files, later ones winning")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="one parameter, over the files")
    parser.add_argument("--name", help="folder below outputs/ (default: the names of the files)")
    parser.add_argument("--only", action="append", default=[], metavar="STAGE", help="only this stage (30 or "
                        "30_distortion_graphs); repeat or separate with commas")
    parser.add_argument("--from", dest="start", metavar="STAGE", help="this stage and all that depend on it")
    parser.add_argument("--force", action="store_true", help="run the selected stages even if they are done")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="independent stages side by side")
    parser.add_argument("--reuse", metavar="FOLDER", help="take over finished stages with the same key from the runs "
                        "in this folder")
    parser.add_argument("--timeout", type=float, default=0, metavar="S", help="seconds that one stage may take")
    parser.add_argument("--dry-run", action="store_true", help="print what would run and why; start nothing")


def run(args: argparse.Namespace) -> int:
    from gmiqa.report.findings import results
    from gmiqa.runs.chain import Chain
    from gmiqa.runs.order import stage_name
    from gmiqa.runs.provenance import repository_root
    from gmiqa.settings import load, parse_overrides
    from gmiqa_core.errors import UserError

    settings = load(*args.params, overrides=parse_overrides(args.p))
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected 1 or more")
    folder = run_folder(settings, args.params, args.name)
    only = [stage_name(word) for text in args.only for word in text.split(",")]
    chain = Chain(repository_root() / folder, settings, only=only, start=stage_name(args.start) if args.start else "",
                  force=args.force, jobs=args.jobs, timeout=args.timeout,
                  reuse=repository_root() / args.reuse if args.reuse else None)
    if args.dry_run:
        return chain.dry_run()
    status = chain.go()
    if status in (0, 1):
        results(chain.run)
    return status


def run_folder(settings: Any, params: list[str], name: str | None) -> Path:
    """--name, else ``run`` as given by -p or by the last file, else the names of the files: paper-koniq10k."""
    if name:
        return Path("outputs") / name
    if not params or settings.source["run"] in ("-p", params[-1]):
        return Path(settings.run).expanduser()
    return Path("outputs") / "-".join(Path(path).stem for path in params)
