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

    from gmiqa.score.folder import Extremes, Table, find

    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged file gets its row

    if args.map and args.engine == "ray":
        raise UserError("--map works with --engine local only")
    maps = Path(args.map or "").resolve()
    if args.map and args.recursive and any(maps.is_relative_to(Path(path).resolve()) for path in args.paths):
        raise UserError(f"--map {args.map} lies inside what is scored, and would be scored, too: choose another folder")
    for path in args.paths:
        if not os.path.lexists(path):
            raise UserError(f"no picture or folder {path}: check the path")
    total = sum(1 for _ in find(args.paths, args.recursive))
    if total == 0:
        deeper = "" if args.recursive else "; --recursive enters the folders inside"
        raise UserError(f"no pictures in {', '.join(args.paths)}{deeper}")

    scorer = _scorer(args)
    table = Table(args.csv) if args.csv else None
    extremes = Extremes(args.worst if args.worst is not None else 20)
    counts: Counter[str] = Counter()
    try:
        for score in _scores(args, scorer, table, extremes, counts, total):
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


def _scorer(args: argparse.Namespace) -> Scorer | RayScorer:
    if args.engine == "ray":
        from gmiqa.score.ray_engine import RayScorer

        return RayScorer(args.checkpoint, args.device, workers=args.workers)
    from gmiqa.score import Scorer

    return Scorer(args.checkpoint, args.device, workers=args.workers)


def _scores(
    args: argparse.Namespace, scorer: Scorer | RayScorer, table: Table | None, extremes: Extremes, counts: Counter,
    total: int,
) -> Iterator[Score]:
    """Every new score, after its row has been written to disk."""
    from gmiqa.runs.progress import Progress
    from gmiqa.score.folder import find, row_of, write_map

    for row in table.open() if table else ():
        if counts["scored"] == 0 and not row["error"]:
            _check_same_model(scorer, row, table)
        extremes.add(row)
        counts["unreadable" if row["error"] else "scored"] += 1
        counts["already there"] += 1
    with redirect_stdout(sys.stderr):
        bar = Progress("pictures", total - counts["already there"], jupyter=False)
    paths = (path for path in find(args.paths, args.recursive) if table is None or path not in table)
    stream = scorer.score_many(paths, with_map=True) if args.map else scorer.score_many(paths)  # type: ignore[call-arg]
    for score in stream:
        if score.map is not None:
            write_map(args.map, score)
        row = row_of(score)
        if table:
            table.add(row)
        extremes.add(row)
        counts["unreadable" if score.error else "scored"] += 1
        yield score
        with redirect_stdout(sys.stderr):
            bar.update()


def _check_same_model(scorer: Scorer | RayScorer, row: Row, table: Table | None) -> None:
    """Only the model that began a table may continue it: it must give the table's first score again."""
    again = next(scorer.score_many([row["path"]]))
    if table and not again.error and abs(again.quality - float(row["quality"])) > SAME:
        raise UserError(
            f"{table.path} was written by another model, or {row['path']} has changed since "
            f"({row['quality']} there, {again.quality:.4f} now): choose another file for --csv, or move it away"
        )


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
    sheet = args.sheet or (Path(args.csv).with_suffix(".html") if args.csv and extremes.n else None)
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
