"""gmiqa export CHECKPOINT FILE.onnx: a model that `gmiqa score` runs without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from gmiqa_core.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    """The arguments of `export`."""
    parser = subparsers.add_parser("export", help="write a checkpoint as an ONNX file, to score with", description=(
        "Writes the network of a checkpoint, as notebook 40 saves it, with its calibration into one ONNX file: "
        "gmiqa score PICTURE --checkpoint FILE.onnx"))
    parser.add_argument("checkpoint", type=Path, help="a .safetensors file of notebook 40_fine_tuning")
    parser.add_argument("file", type=Path, help="the .onnx file to write")


def run(args: argparse.Namespace) -> int:
    """Carry out `export`."""
    from gmiqa.release.export import export

    if args.file.suffix != ".onnx":
        raise UserError(f"{args.file}: expected a name that ends in .onnx")
    facts = export(args.checkpoint, args.file)
    size = args.file.stat().st_size / 1e6
    print(f"{args.file}: {size:.1f} MB; predicts {facts.get('target', 'the data set of its training')}")
    return 0
