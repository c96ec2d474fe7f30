"""Features of many pictures: decoded in threads, computed in batches of one size, remembered by content.

A row is kept under the digest of the picture's bytes, so ten splits of one data set extract it once; with a `cache`
folder it is also kept on disk, under the digest of the code that computes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.baselines import dct, extended, nss
from gmiqa.data import images
from gmiqa_core.errors import UserError

BATCH_PIXELS = 300_000  # what a batch may hold: beyond a core's cache, larger batches are slower
DECODERS, AHEAD = 4, 16


@dataclass(frozen=True)
class Feature:
    """A feature set: `function` maps RGB (N, 3, H, W) in 0..255 to (N, len(names)); `within`: the first columns of."""

    function: Callable[[Tensor], Tensor]
    names: tuple[str, ...]
    within: str = ""


FEATURES = {
    "brisque": Feature(nss.brisque, tuple(nss.BRISQUE_NAMES), within="extended"),
    "extended": Feature(extended.extended, tuple(extended.EXTENDED_NAMES)),
    "extended_dct": Feature(lambda rgb: torch.cat([extended.extended(rgb), dct.log_dct(rgb)], 1),
                            (*extended.EXTENDED_NAMES, *dct.NAMES)),
    "brightness": Feature(lambda rgb: nss.luminance(rgb).mean((1, 2))[:, None], ("mean luminance",)),
    "sharpness": Feature(nss.sharpness, ("log mean gradient",)),
}
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
    feature = FEATURES[features]
    stored = _Stored(cache, features, max_side)
    digests: list[str] = [""] * len(pictures)
    waiting: dict[tuple[int, ...], dict[str, Tensor]] = {}  # unique pictures of one size

    def compute(batch: dict[str, Tensor]) -> None:
        stack = torch.stack(list(batch.values())).to(device, torch.float32)
        with torch.inference_mode():
            rows = feature.function(stack).double().cpu().numpy()
        for digest, row in zip(batch, rows, strict=True):
            stored.put(digest, np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=0.0))

    with ThreadPoolExecutor(DECODERS) as threads:
        loaded: Iterable = _in_order(threads, lambda picture: _loaded(picture, max_side, stored.has), pictures)
        for i, (digest, image) in enumerate(progress(loaded, len(pictures)) if progress else loaded):
            digests[i] = digest
            if image is None or stored.has(digest):
                continue
            group = waiting.setdefault(tuple(image.shape), {})
            group[digest] = image
            if len(group) * image.shape[1] * image.shape[2] >= BATCH_PIXELS:
                compute(waiting.pop(tuple(image.shape)))
    for group in waiting.values():
        compute(group)
    stored.save()
    return np.stack([stored.get(digest) for digest in digests]) if digests else np.zeros((0, len(feature.names)))


def _in_order(threads: ThreadPoolExecutor, function: Callable, items: Sequence) -> Iterable:
    """`map` in threads, a few items ahead and no further: a data set need not fit into memory."""
    ahead = [threads.submit(function, item) for item in items[:AHEAD]]
    for i in range(len(items)):
        result = ahead[i].result()
        ahead[i] = None  # type: ignore[call-overload]
        if len(ahead) < len(items):
            ahead.append(threads.submit(function, items[len(ahead)]))
        yield result


def _loaded(picture: Any, max_side: int, known: Callable[[str], bool]) -> tuple[str, Tensor | None]:
    """Digest of a picture, and its samples in 0..255 unless its features are known."""
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
            return digest, None if known(digest) else images.read(picture, max_side).float()
        except images.ImageError as error:
            raise images.ImageError(str(error).replace("the given bytes", name)) from error
    image = images.limit(images.from_any(picture), max_side).cpu().contiguous()
    digest = sha256(str((tuple(image.shape), image.dtype)).encode() + image.numpy().tobytes()).hexdigest()
    return digest, None if known(digest) else image.float() * (255 if image.is_floating_point() else 1)


class _Stored:
    """Rows by digest: in this process, and in one file per feature set, size and version of the code."""

    def __init__(self, folder: str | Path | None, features: str, max_side: int):
        self.features, self.max_side, self.fresh = features, max_side, False
        self.file = Path(folder) / f"{features}-{max_side}-{_version()}.npz" if folder else None
        for name in (features, FEATURES[features].within):
            file = Path(folder) / f"{name}-{max_side}-{_version()}.npz" if folder and name else None
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
        partial = self.file.with_suffix(f".{os.getpid()}.part")
        with partial.open("wb") as stream:
            np.savez(stream, digests=np.array(list(rows)), rows=np.stack(list(rows.values())))
        partial.replace(self.file)


@lru_cache(maxsize=1)
def _version() -> str:
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (nss, extended, dct))
    return sha256(code).hexdigest()[:12]
