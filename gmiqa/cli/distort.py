"""gmiqa distort PHOTO: one of KADID-10k's 25 distortions at one of 5 levels, or a sheet of all."""

from __future__ import annotations

import argparse
from pathlib import Path

from gmiqa_core.errors import UserError

HELP = """Distorts a picture as KADID-10k's generator would. The levels are meant for pictures of about 512x384, so a
larger one is first reduced to that area (--full-size leaves it). --grid makes a contact sheet of all 25 types at all 5
levels. The number on each picture is KADID-10k's mean human score of that cell, from 1 (very annoying) to 5."""


def add(subparsers: argparse._SubParsersAction) -> None:
    """The arguments of `distort`."""
    parser = subparsers.add_parser("distort", help="distort a picture, or show all 125 distortions", description=HELP)
    parser.add_argument("photo", nargs="?", help="a picture")
    parser.add_argument("--type", help="number 1..25 or name; --list shows them")
    parser.add_argument("--level", type=int, default=3, help="1 (weak) to 5 (strong); default 3")
    parser.add_argument("-o", "--output", metavar="FILE", help="picture to write; default photo_TYPE_LEVEL.png here")
    parser.add_argument("--grid", action="store_true", help="contact sheet of all 125 instead of one distortion")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random part of a distortion; default 0")
    parser.add_argument("--full-size", action="store_true", help="do not reduce the picture to about 512x384")
    parser.add_argument("--no-stretch", action="store_true", help="without the generator's min-max stretch")
    parser.add_argument("--list", action="store_true", help="list the types with their parameters and exit")


def run(args: argparse.Namespace) -> int:
    """Carry out `distort`."""
    if args.list:
        return _list()
    if not args.photo:
        raise UserError("distort needs a picture: gmiqa distort photo.jpg --type jpeg --level 4")
    if args.grid == bool(args.type):
        raise UserError("say either --type NAME (with --level), or --grid for all of them; --list shows the types")
    from gmiqa.data import images
    from gmiqa.data.synthetic import bring_to_size

    picture = images.read(args.photo)
    if not args.full_size:
        picture = bring_to_size(picture)
    stem = Path(args.photo).stem
    path = _grid(args, picture, stem) if args.grid else _one(args, picture, stem)
    print(path)
    return 0


def _one(args: argparse.Namespace, picture, stem: str) -> Path:  # noqa: ANN001
    from gmiqa.data import images
    from gmiqa.data.distortions import TYPES, distort, type_id

    entry = TYPES[type_id(args.type) - 1]
    x = images.to_float(picture)[None]
    result = distort(x, entry.id, args.level, args.seed, stretch=not args.no_stretch)[0]
    return images.write(result, args.output or f"{stem}_{entry.name}_{args.level}.png")


def _grid(args: argparse.Namespace, picture, stem: str) -> Path:  # noqa: ANN001
    path = Path(args.output or f"{stem}_distortions.png")
    if path.suffix.lower() not in (".png", ".svg", ".pdf", ".jpg"):
        raise UserError(f"cannot write a contact sheet as {path.name}: expected .png, .jpg, .svg or .pdf")
    if not path.parent.is_dir():
        raise UserError(f"no folder {path.parent}: make it first")
    from gmiqa.data import images
    from gmiqa.data.distortions import TYPES, every_level
    from gmiqa.figures.distortions import contact_sheet, window
    from gmiqa.runs import progress

    cells = every_level(images.to_float(picture), args.seed)
    kept = [window(levels, 128) for _, levels in progress(cells, len(TYPES), "distortions")]
    try:
        contact_sheet(kept).savefig(path, dpi=160)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another file with -o") from None
    return path


def _list() -> int:
    from gmiqa.data.distortions import TYPES

    for t in TYPES:
        values = " ".join(f"{v:g}" for v in t.levels)
        note = f"  ({t.note})" if t.note else ""
        print(f"{t.id:2d} {t.name:25s} {t.group:12s} {t.parameter + ':':24s} {values}{note}")
    return 0
