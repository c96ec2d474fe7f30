"""From whatever a user has to what the network accepts."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from gmiqa.data import pixels

SMALLEST = 32  # the backbone halves its input five times
LARGE = 24_000_000  # pixels: larger pictures are decoded one at a time, so that memory stays bounded
_large_picture = threading.Lock()


@dataclass(frozen=True)
class Prepared:
    """A picture as the network takes it: x float (3,h,w) in [0,1]; width and height are the file's."""

    picture: Any
    x: np.ndarray
    width: int
    height: int


def prepare(picture: Any, max_side: int) -> Prepared:
    """Decode a picture, bring its longer side down to max_side, and pad it to the network's smallest size."""
    width, height = file_size(picture)
    with _large_picture if width * height > LARGE else nullcontext():
        x = pixels.to_uint8(pixels.from_any(picture, max_side if width else None))
        if not width:
            height, width = x.shape[1:]
        return Prepared(picture, to_network(pixels.limit(x, max_side)), width, height)


def to_network(x: np.ndarray) -> np.ndarray:
    """uint8 (3,h,w) -> float32 in [0,1], edges repeated up to SMALLEST pixels."""
    right, bottom = max(0, SMALLEST - x.shape[2]), max(0, SMALLEST - x.shape[1])
    if right or bottom:
        x = np.pad(x, ((0, 0), (0, bottom), (0, right)), mode="edge")
    return x.astype(np.float32) / 255


def file_size(picture: Any) -> tuple[int, int]:
    """(width, height) of a file, from its header; (0, 0) for anything but a path. Opening a pipe would block."""
    if not isinstance(picture, str | os.PathLike):
        return 0, 0
    try:
        mode = os.stat(picture).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise pixels.ImageError(f"cannot read {os.fspath(picture)}: {reason.lower()}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise pixels.ImageError(f"cannot read {os.fspath(picture)}: it is a pipe, socket or device, expected a file")
    return pixels.size(picture)


def path_of(picture: Any) -> str:
    """The path as given, or "" for anything that is not a path."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else ""
