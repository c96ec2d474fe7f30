"""Files that appear whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside `path` to write to. When the block ends, its content is flushed to the disk and takes the place of
    `path`. After an exception `path` is as it was, and nothing is left beside it. The folder must exist."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with open(beside, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file in one piece; see `written_atomically`."""
    with written_atomically(path) as beside:
        beside.write_bytes(content)
