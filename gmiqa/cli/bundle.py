"""gmiqa bundle params/bundled.yaml: make the model that `score` uses, and print what it is worth."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(subparsers: argparse._SubParsersAction) -> None:
    """The arguments of `bundle`."""
    parser = subparsers.add_parser("bundle", help="make the scoring model", description=(
        "Trains one network on human scores and on distorted pictures, calibrates and writes it; then opens the test "
        "part once and prints the metrics. A command that was stopped continues."))
    parser.add_argument("params", nargs="*", metavar="YAML", help="parameter files, later ones winning")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="one parameter, over the files")
    parser.add_argument("-o", "--output", type=Path, help="folder to write to (default: the run's own)")
    parser.add_argument("--target", default="", help="name of the data set, for a folder with a CSV")
    parser.add_argument("--everything", action="store_true",
                        help="learn from all pictures, the test part included, with the calibration of the earlier run")


def run(args: argparse.Namespace) -> int:
    """Carry out `bundle`."""
    from gmiqa.release.bundle import release
    from gmiqa.settings import load, parse_overrides
    from gmiqa.torch_engine import device_of

    p = load(*args.params, overrides=parse_overrides(args.p))
    folder = Path(p.run)
    output = args.output or folder
    tables = release(p, folder, output, args.target, device_of(p.device), args.everything)
    for name, table in tables.items():
        table.to_csv(folder / f"release_{name}.csv", index=name in ("sigma", "behaviour"))
        if name != "predictions":
            print(f"\n{name}\n" + table.to_string(index=name in ("sigma", "behaviour")))
    print(f"\n{output / 'model.onnx'}")
    return 0
