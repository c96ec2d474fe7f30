"""What a method must beat before its number means anything: the mean, the file size, brightness and sharpness."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from gmiqa.baselines.base import Baseline, OneNumber
from gmiqa.baselines.extraction import matrix
from gmiqa.data import images


class Mean(Baseline):
    """The mean training score for every picture: no order at all, so no rank correlation either."""

    title = "mean"

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        self.mean = float(quality.mean())

    def _predict(self, pictures: list[Any]) -> np.ndarray:
        return np.full(len(pictures), self.mean)


class FileSize(OneNumber):
    """Log of the file's size in bytes; for a picture without a file, of the size of its PNG."""

    title = "file size"

    def numbers(self, pictures: list[Any]) -> np.ndarray:
        return np.log([_bytes(picture) for picture in pictures])


class Measured(OneNumber):
    """One column of a feature set: `brightness` or `sharpness`."""

    def __init__(self, name: str, max_side: int = 512, cache: str | Path | None = None):
        self.title, self.max_side, self.cache = name, max_side, cache

    def numbers(self, pictures: list[Any]) -> np.ndarray:
        return matrix(pictures, self.title, self.max_side, self.cache)[:, 0]


def _bytes(picture: Any) -> int:
    if isinstance(picture, (str, os.PathLike)):
        try:
            return max(1, os.stat(picture).st_size)
        except OSError as error:
            raise images.ImageError(f"cannot read {picture}: {error.strerror}") from error
    if isinstance(picture, bytes):
        return len(picture)
    return len(images.encode(images.from_any(picture), compress_level=1))  # it orders pictures as the slow levels do
