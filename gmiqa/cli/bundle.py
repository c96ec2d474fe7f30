"""gmiqa bundle RUN: make the model that `score` uses from a finished run, and print what it is worth."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(subparsers: argparse._SubParsersAction) -> None:
    """The arguments of `bundle`."""
    parser = subparsers.add_parser("bundle", help="make the scoring model from a finished run", description=(
        "Stacks the network of RUN's fine-tuning with a regression on hand-crafted features, trains the network of the "
        "quality map, calibrates and writes all of them; then opens the test part once and prints the metrics."))
    parser.add_argument("run", type=Path, help="folder of a finished run, such as outputs/bundled")
    parser.add_argument("-o", "--output", type=Path, help="folder to write to (default: inside the package)")
    parser.add_argument("--target", default="", help="name of the data set, for a folder with a CSV")
    parser.add_argument("--cache", type=Path, help="folder that keeps hand-crafted features")


def run(args: argparse.Namespace) -> int:
    """Carry out `bundle`."""
    from gmiqa.release.bundle import release
    from gmiqa.score.scorer import BUNDLED

    folder = args.output or BUNDLED.parent
    tables = release(args.run, folder, args.cache, args.target)
    for name in ("metrics", "paired", "sigma", "types", "unnamed"):
        print(f"\n{name}\n" + tables[name].to_string(index=name == "sigma", float_format="{:.4f}".format))
    for name, table in tables.items():
        table.to_csv(args.run / f"release_{name}.csv", index=name == "sigma")
    print(f"\n{folder / 'model.safetensors'}")
    return 0
