"""Folders of pictures: found as a stream, their rows kept in a CSV file that survives a kill.

Memory does not grow with the number of pictures, except for the names inside one folder and, when a run is continued,
one short key per finished row.
"""

from __future__ import annotations

import csv
import heapq
import io
import math
import os
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO

from gmiqa.data import pixels
from gmiqa.score.quality_map import overlay
from gmiqa.score.result import Score
from gmiqa_core.errors import UserError

HEADER = ("path", "quality", "sigma", "distortion", "probability", "severity", "width", "height", "error")
# suffixes of pictures: formats that we read, and some that we do not, so that their rows say so
SUFFIXES = (*pixels.SUFFIXES, ".jpe", ".jfif", ".pnm", ".pbm", ".jp2", ".heic", ".heif")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", " ", "＝", "＋", "－", "＠")  # what a spreadsheet may run or hide
SHOWN = 1024  # pixels of the longer side of a map
LONGEST = 220  # bytes of a name: room for .png, and for what an unfinished file is called
Row = dict[str, str]


def find(paths: Iterable[str | os.PathLike], recursive: bool = False) -> Iterator[str]:
    """Paths of pictures, sorted within each folder: every file named, and the files in folders that have a picture's
    suffix. Hidden files are left out; links are followed, and no folder is entered twice."""
    entered: set[tuple[int, int]] = set()
    for path in paths:
        if os.path.isdir(path):
            yield from _inside(os.fspath(path), recursive, entered)
        else:
            yield os.fspath(path)


def _inside(folder: str, recursive: bool, entered: set[tuple[int, int]]) -> Iterator[str]:
    try:
        status = os.stat(folder)
        key = (status.st_dev, status.st_ino)
        names = [] if key in entered else sorted(os.listdir(folder))
    except OSError:
        yield folder  # reading it will put the reason into its row
        return
    entered.add(key)
    folders = []
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.isdir(path):
            folders.append(path)
        elif name.lower().endswith(SUFFIXES):
            yield path
    for path in folders if recursive else ():
        yield from _inside(path, recursive, entered)


def row_of(score: Score) -> Row:
    """A score as the cells of its CSV row: text that a spreadsheet shows but never runs."""
    read = not score.error
    return {
        "path": _cell(score.path),
        "quality": f"{score.quality:.4f}" if read else "",
        "sigma": f"{score.sigma:.4f}" if read else "",
        "distortion": score.distortion,
        "probability": f"{score.probability:.4f}" if read else "",
        "severity": f"{score.severity:.4f}" if read else "",
        "width": str(score.width) if read else "",
        "height": str(score.height) if read else "",
        "error": _cell(" ".join(score.error.split())),
    }


def map_path(folder: str | os.PathLike, picture: str) -> Path:
    """The file of a picture's map: `photos/a.jpg` becomes `folder/photos/a.jpg.png`; long names end in a hash."""
    parts = [{"..": "up"}.get(part, part) for part in Path(picture).parts if part != Path(picture).anchor]
    *above, name = parts or ["."]
    whole = os.fsencode(name)
    if len(whole) > LONGEST:
        name = f"{os.fsdecode(whole[:LONGEST - 9])}-{sha256(whole).hexdigest()[:8]}"
    return Path(folder, *above, f"{name}.png")


def write_map(folder: str | os.PathLike, score: Score) -> None:
    """The picture in grey with its bad places in orange, as a PNG file, see map_path."""
    assert score.map is not None
    path = map_path(folder, score.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the map {path}: {error.strerror or error}") from error
    pixels.write(overlay(pixels.read(score.path, SHOWN), score.map), path)


def _cell(text: str) -> str:
    """Bytes that are not UTF-8 are written as escapes; ./ comes before what would start a formula, and keeps a path a
    path."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\0")
    return f"./{text}" if text.startswith(FORMULA) else text


class Table:
    """The CSV file of a run. Rows are on disk as soon as they are written. Opened again, it drops a row that a kill cut
    short, yields the finished rows, and continues after them."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._done: set[int] = set()
        self._file: IO[str] | None = None

    def open(self) -> Iterator[Row]:
        """Start or continue: yields the rows that are there. Refuses a file that is not a table of scores."""
        try:
            end = 0
            if self.path.exists():
                for end, row in self._finished():  # noqa: B007 - the last end is used below
                    if row is not None:
                        self._done.add(hash(row["path"]))
                        yield row
                os.truncate(self.path, end)
            self._file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115 - closed in close()
            if end == 0:
                self._write(HEADER)
        except OSError as error:
            raise UserError(f"cannot write the table {self.path}: {error.strerror or error}") from error

    def _finished(self) -> Iterator[tuple[int, Row | None]]:
        """(offset of its end, row) of every complete record; None for the header."""
        with open(self.path, "rb") as file:
            start = file.read(len(_line(HEADER))).decode("utf-8", "replace")
            if not _line(HEADER).startswith(start):
                raise UserError(
                    f"{self.path} exists and is not a table of scores (its first line should be {','.join(HEADER)}): "
                    "choose another file for --csv, or move it away"
                )
            file.seek(0)
            for number, (end, cells) in enumerate(_records(file)):
                if len(cells) != len(HEADER):
                    raise UserError(
                        f"{self.path}, record {number + 1} has {len(cells)} cells, expected {len(HEADER)}: "
                        "the table was changed; choose another file for --csv"
                    )
                yield end, (dict(zip(HEADER, cells, strict=True)) if number else None)

    def __contains__(self, path: str) -> bool:
        return hash(_cell(path)) in self._done

    def add(self, row: Row) -> None:
        """Append one row and hand it to the operating system."""
        try:
            self._write(row.values())
        except OSError as error:
            raise UserError(
                f"cannot write the table {self.path}: {error.strerror or error}; the same command continues it"
            ) from error

    def _write(self, cells: Iterable[str]) -> None:
        assert self._file is not None, "open() comes first"
        self._file.write(_line(cells))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(list(cells))  # with its own line end, so that it quotes both \r and \n
    return line.getvalue().removesuffix("\r\n") + "\n"


def _records(file: IO[bytes]) -> Iterator[tuple[int, list[str]]]:
    """Complete records of a CSV file, each with the offset where it ends. A record is complete at a line's end with an
    even number of quotes before it (quoted names may hold line ends)."""
    record, end = b"", 0
    for line in file:
        record += line
        if line.endswith(b"\n") and record.count(b'"') % 2 == 0:
            end += len(record)
            text = record.decode("utf-8", "replace")
            yield end, next(csv.reader(io.StringIO(text, newline="")), [])
            record = b""


class Extremes:
    """The n best and n worst rows of a stream."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._best: list[tuple[float, int, Row]] = []
        self._worst: list[tuple[float, int, Row]] = []
        self._seen = 0

    def add(self, row: Row) -> None:
        """Take one row into account; rows with an error have no quality and are passed over."""
        quality = float(row["quality"] or "nan")
        if math.isnan(quality):
            return
        self._seen += 1
        for heap, key in ((self._best, quality), (self._worst, -quality)):
            heapq.heappush(heap, (key, -self._seen, row))
            if len(heap) > self.n:
                heapq.heappop(heap)

    @property
    def best(self) -> list[Row]:
        """Best first."""
        return [row for *_, row in sorted(self._best, key=lambda entry: entry[:2], reverse=True)]

    @property
    def worst(self) -> list[Row]:
        """Worst first."""
        return [row for *_, row in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]
