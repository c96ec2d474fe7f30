"""Features of many pictures: decoded in threads, computed in batches of one size, remembered by content.

A row is kept under the digest of the picture's bytes, so ten splits of one data set extract it once. With a `cache`
folder, it is also kept on disk, under the digest of the code that computes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.features import FEATURES, version
from gmiqa_core.errors import UserError
from gmiqa_core.files import written_atomically
from gmiqa_core.shapes import by_shape

BATCH, BATCH_PIXELS = 64, 300_000  # what a batch may hold: batches larger than a core's cache are slower
DECODERS = 4
_MEMORY: dict[tuple[str, int, str], np.ndarray] = {}


def matrix(
    pictures: Sequence[Any], features: str, max_side: int = 512, cache: str | Path | None = None,
    progress: Callable[[Iterable, int], Iterable] | None = None, device: str | torch.device = "cpu",
) -> np.ndarray:  # fmt: skip
    """(n, d) float64 features of pictures: paths, bytes, PIL images, arrays or tensors (3, H, W).

    max_side  longer pictures are shrunk by area first
    cache     folder for the rows; None keeps them in this process
    progress  wraps the loop over the pictures: progress(iterable, total)
    """
    feature_set, rows = FEATURES[features], _Rows(cache, features, max_side)
    digests: list[str] = []  # of all pictures
    fresh: list[str] = []  # of those that are computed
    with ThreadPoolExecutor(DECODERS) as threads:
        loaded: Iterable = images.ahead(threads, partial(_loaded, max_side=max_side, known=rows.has), pictures)
        loaded = progress(loaded, len(pictures)) if progress else loaded
        for positions, stack in by_shape(_unknown(loaded, digests, fresh), BATCH, BATCH_PIXELS):
            with torch.inference_mode():
                values = feature_set.function(_to_255(stack.to(device))).double().cpu().numpy()
            for position, row in zip(positions, values, strict=True):
                rows.put(fresh[position], np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=0.0))
    rows.save()
    return np.stack([rows.get(digest) for digest in digests]) if digests else np.zeros((0, len(feature_set.names)))


def _unknown(loaded: Iterable[tuple[str, Tensor | None]], digests: list[str], fresh: list[str]) -> Iterator[Tensor]:
    """The pictures whose features are not known yet, once each. Records the digests of all pictures, and of these."""
    seen = set()
    for digest, image in loaded:
        digests.append(digest)
        if image is not None and digest not in seen:
            seen.add(digest)
            fresh.append(digest)
            yield image


def _to_255(stack: Tensor) -> Tensor:
    """uint8, or floats in [0, 1] -> floats in 0..255."""
    return stack.float() * (255 if stack.is_floating_point() else 1)


def _loaded(picture: Any, max_side: int, known: Callable[[str], bool]) -> tuple[str, Tensor | None]:
    """Digest of a picture, and the picture unless its features are known."""
    name = "the given bytes"
    if isinstance(picture, (str, os.PathLike)):
        name = str(picture)
        try:
            picture = Path(picture).read_bytes()
        except OSError as error:
            raise images.ImageError(f"cannot read {picture}: {error.strerror}") from error
    if isinstance(picture, bytes):
        digest = sha256(picture).hexdigest()
        try:
            return digest, None if known(digest) else images.read(picture, max_side)
        except images.ImageError as error:
            raise images.ImageError(str(error).replace("the given bytes", name)) from error
    image = images.limit(images.from_any(picture), max_side).cpu().contiguous()
    digest = sha256(str((tuple(image.shape), image.dtype)).encode() + image.numpy().tobytes()).hexdigest()
    return digest, None if known(digest) else image


class _Rows:
    """Rows by digest: in this process, and in one file per feature set, size and version of the code."""

    def __init__(self, folder: str | Path | None, features: str, max_side: int):
        self.features, self.max_side, self.fresh = features, max_side, False
        self.file = Path(folder) / f"{features}-{max_side}-{version()}.npz" if folder else None
        for name in (features, FEATURES[features].within):
            file = Path(folder) / f"{name}-{max_side}-{version()}.npz" if folder and name else None
            if file is not None and file.is_file():
                with np.load(file) as archive:
                    for digest, row in zip(archive["digests"], archive["rows"], strict=True):
                        _MEMORY.setdefault((name, max_side, str(digest)), row)

    def has(self, digest: str) -> bool:
        return self._find(digest) is not None

    def get(self, digest: str) -> np.ndarray:
        row = self._find(digest)
        if row is None:
            raise UserError(f"no {self.features} features of picture {digest[:12]}")
        return row

    def _find(self, digest: str) -> np.ndarray | None:
        row = _MEMORY.get((self.features, self.max_side, digest))
        if row is None and (larger := FEATURES[self.features].within):
            row = _MEMORY.get((larger, self.max_side, digest))
            row = None if row is None else row[: len(FEATURES[self.features].names)]
        return row

    def put(self, digest: str, row: np.ndarray) -> None:
        _MEMORY[self.features, self.max_side, digest] = row
        self.fresh = True

    def save(self) -> None:
        if self.file is None or not self.fresh:
            return
        rows = {key[2]: row for key, row in _MEMORY.items() if key[:2] == (self.features, self.max_side)}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(self.file) as beside, open(beside, "wb") as stream:
            np.savez(stream, digests=np.array(list(rows)), rows=np.stack(list(rows.values())))
