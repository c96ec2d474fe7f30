"""``gmiqa findings``: what the study found, from its tables, as docs/findings.md, findings.csv and a gallery page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("findings", help="write what the study found", description=__doc__)
    parser.add_argument("--of", type=Path, metavar="FOLDER", help="results folder of gmiqa study: print what it finds, "
                        "and write nothing (default: the repository's, and write)")


def run(args: argparse.Namespace) -> int:
    from gmiqa.report import study, study_page
    from gmiqa.report.findings import records
    from gmiqa.runs.provenance import repository_root
    from gmiqa.runs.study import RECORD, Results
    from gmiqa_core.errors import UserError

    if args.of is not None:
        if not (args.of / RECORD).is_file():
            raise UserError(f"--of {args.of}: no {RECORD} is there; expected a results folder of gmiqa study, such as "
                            "outputs/findings")
        for row in records(study.findings(Results(args.of))):
            if row["value"] is not None:
                print(f"{row['outcome']}: {study_page.sentence(row)}")
        return 0
    root = repository_root()
    gallery = root / "outputs" / "gallery"
    frame = study_page.write(Results(root / "outputs" / "findings"), root / "docs" / "findings.md", gallery)
    print(f"{study_page.summary(frame)} See docs/findings.md")
    return 0
