"""gmiqa score PICTURE... FOLDER...: scores for pictures and folders of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from gmiqa_core.errors import UserError

if TYPE_CHECKING:
    from gmiqa.score import Score, Scorer
    from gmiqa.score.folder import Extremes, Row, Table
    from gmiqa.score.ray_engine import RayScorer

DONE, UNREADABLE, INTERRUPTED = 0, 3, 130
SAME = 0.02  # of 100: a score on another device

HELP = """Scores on 0..100, higher is better, with a standard deviation, the most probable distortion and its severity.
A picture that cannot be read gets a line with its error; all others are scored, and the exit code is 3
(0: all scored; 2: a mistake in the call). With --csv, a run that was stopped continues where it stopped."""


def add(subparsers: argparse._SubParsersAction) -> None:
    """The arguments of `score`."""
    parser = subparsers.add_parser("score", help="score pictures and folders of pictures", description=HELP)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a picture, or a folder of pictures")
    parser.add_argument("--csv", metavar="FILE", help="write a table, row by row; an existing table is continued")
    parser.add_argument("--json", action="store_true", help="print one JSON object per picture")
    parser.add_argument("--recursive", action="store_true", help="enter folders inside folders")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--checkpoint", metavar="FILE", help="a saved model (default: the bundled one)")
    parser.add_argument("--worst", type=_count, metavar="N", help="how many worst and best to show (default: 20)")
    parser.add_argument("--sheet", metavar="FILE", help="contact sheet (default: scores.html beside scores.csv)")
    parser.add_argument("--map", metavar="FOLDER", help="write there, for each picture, where it is bad, as PNG")
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="for ray see docs/scoring.md")
    parser.add_argument("--workers", type=_count, metavar="N", help="pictures in work at a time (default: all cores)")


def run(args: argparse.Namespace) -> int:
    """Score what was asked; returns the exit code."""
    import warnings

    from gmiqa.score.folder import Extremes, Table

    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged file gets its row

    _refuse_mistakes(args)
    scorer = _scorer(args)
    table = Table(args.csv) if args.csv else None
    extremes = Extremes(args.worst if args.worst is not None else 20)
    counts: Counter[str] = Counter()
    try:
        for score in _scores(args, scorer, table, extremes, counts):
            if not args.csv or args.json:
                _print(score, args.json)
    except KeyboardInterrupt:
        print("stopped" + ("; the same command continues from here" if args.csv else ""), file=sys.stderr)
        return INTERRUPTED
    finally:
        if table:
            table.close()
    _finish(args, extremes, counts, scorer.target)
    return UNREADABLE if counts["unreadable"] else DONE


def _refuse_mistakes(args: argparse.Namespace) -> None:
    """UserError for a call that cannot go well, before anything is scored."""
    from gmiqa.score.folder import find

    if args.map and args.engine == "ray":
        raise UserError("--map works with --engine local only")
    for path in args.paths:
        if not os.path.lexists(path):
            raise UserError(f"no picture or folder {path}: check the path")
    if next(find(args.paths, args.recursive), None) is None:
        deeper = "" if args.recursive else "; --recursive enters the folders inside"
        raise UserError(f"no pictures in {', '.join(args.paths)}{deeper}")
    if args.csv and os.path.exists(args.csv) and not os.path.isfile(args.csv):
        raise UserError(f"--csv {args.csv} is no plain file, which a table that can be continued needs: give a file's "
                        "name, or leave --csv out; --json prints one object per picture")
    sheet = _sheet(args)
    if args.csv and sheet and os.path.realpath(args.csv) == os.path.realpath(sheet):
        raise UserError(f"the contact sheet would be written over the table {args.csv}: give them different names, for "
                        "example --csv scores.csv --sheet scores.html")
    if args.map:
        _refuse_maps_among_pictures(args)


def _refuse_maps_among_pictures(args: argparse.Namespace) -> None:
    """UserError if a map would lie where pictures are looked for, or be written over a picture that was named."""
    from gmiqa.score.folder import find, map_path

    folders = [Path(os.path.realpath(path)) for path in args.paths if os.path.isdir(path)]
    named = {Path(os.path.realpath(path)) for path in args.paths}
    for path in find(args.paths, args.recursive):
        place = Path(os.path.realpath(map_path(args.map, path)))
        around = place.parents if args.recursive else [place.parent]
        if place in named or any(folder in around for folder in folders):
            raise UserError(f"--map {args.map} would put maps into what is scored ({place}), to be scored, too: choose "
                            "another folder")


def _sheet(args: argparse.Namespace) -> str | Path | None:
    """The contact sheet's file, if there is to be one."""
    beside = args.csv and args.worst != 0
    return args.sheet or (Path(args.csv).with_suffix(".html") if beside else None)


def _scorer(args: argparse.Namespace) -> Scorer | RayScorer:
    if args.engine == "ray":
        from gmiqa.score.ray_engine import RayScorer

        return RayScorer(args.checkpoint, args.device, workers=args.workers)
    from gmiqa.score import Scorer

    return Scorer(args.checkpoint, args.device, workers=args.workers)


def _scores(
    args: argparse.Namespace, scorer: Scorer | RayScorer, table: Table | None, extremes: Extremes, counts: Counter,
) -> Iterator[Score]:
    """Every new score, after its row has been written to disk."""
    from gmiqa.runs.progress import Progress
    from gmiqa.score.folder import find, map_path, row_of, write_map

    def is_due(path: str) -> bool:
        return table is None or path not in table or bool(args.map) and not map_path(args.map, path).exists()

    same = False
    for row in table.open() if table else ():
        same = same or not row["error"] and _is_same_model(scorer, row, args.csv)
        extremes.add(row)
        counts["unreadable" if row["error"] else "scored"] += 1
        counts["already there"] += 1
    if counts["scored"] and not same:
        raise UserError(f"none of the pictures in {args.csv} can be read again, to see whether this model wrote it: "
                        "start in the folder where it began, choose another file for --csv, or move it away")
    with redirect_stdout(sys.stderr):
        bar = Progress("pictures", sum(map(is_due, find(args.paths, args.recursive))), jupyter=False)
    paths = filter(is_due, find(args.paths, args.recursive))
    stream = scorer.score_many(paths, with_map=True) if args.map else scorer.score_many(paths)  # type: ignore[call-arg]
    for score in stream:
        if score.map is not None:
            write_map(args.map, score)
        if table is None or score.path not in table:  # else only its map was missing
            row = row_of(score)
            if table:
                table.add(row)
            extremes.add(row)
            counts["unreadable" if score.error else "scored"] += 1
            yield score
        with redirect_stdout(sys.stderr):
            bar.update()


def _is_same_model(scorer: Scorer | RayScorer, row: Row, table: str) -> bool:
    """Only the model that began a table may continue it: it must give a score of the table again. False if the picture
    cannot be read any more."""
    again = next(scorer.score_many([row["path"]])) if os.path.exists(row["path"]) else None
    if again is None or again.error:
        return False
    if abs(again.quality - float(row["quality"])) > SAME:
        raise UserError(
            f"{table} was written by another model, or {row['path']} has changed since "
            f"({row['quality']} there, {again.quality:.4f} now): choose another file for --csv, or move it away"
        )
    return True


def _print(score: Score, as_json: bool) -> None:
    if as_json:
        print(json.dumps(score.as_dict()), flush=True)
    else:
        name = score.path.encode(errors="backslashreplace").decode()
        print(f"{name}: {score}", flush=True)


def _finish(args: argparse.Namespace, extremes: Extremes, counts: Counter, target: str) -> None:
    """The worst, the contact sheet and one line of summary."""
    from gmiqa.score.contact_sheet import contact_sheet, write_sheet

    if args.worst and not args.json:
        print(f"the {len(extremes.worst)} worst:")
        for row in extremes.worst:
            print(f"  {float(row['quality']):5.1f} ± {float(row['sigma']):.1f}  {row['distortion']}  {row['path']}")
    sheet = _sheet(args)
    if sheet:
        write_sheet(sheet, contact_sheet(extremes.best, extremes.worst, counts["scored"], counts["unreadable"], target))
    words = [f"{counts['scored']} scored", f"{counts['unreadable']} could not be read"]
    if counts["already there"]:
        words.append(f"{counts['already there']} of them were already there")
    words += [str(path) for path in (args.csv, sheet) if path]
    print("; ".join(words), file=sys.stderr)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("expected a number from 0")
    return value
