"""Pictures out: encoded to bytes or a file; and the list of pictures in a folder."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from gmiqa.data.pixels.convert import ImageError, to_pil
from gmiqa_core.files import write_atomically

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
            ".avif")
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF",
            "gif": "GIF", "avif": "AVIF", "ppm": "PPM", "jp2": "JPEG2000", "jpeg2000": "JPEG2000"}  # fmt: skip


def encode(image: np.ndarray, format: str = "png", **options) -> bytes:
    """Encode a (3, H, W) uint8 image, or a float one in [0, 1]; `options` go to Pillow's writer (quality=...)."""
    name = _FORMATS.get(format.lower().lstrip("."))
    if name is None:
        raise ImageError(f"cannot write pictures as {format!r}: expected one of {', '.join(sorted(_FORMATS))}")
    buffer = io.BytesIO()
    to_pil(image).save(buffer, name, **options)
    return buffer.getvalue()


def write(image: np.ndarray, path: str | os.PathLike, **options) -> Path:
    """Encode by the path's suffix and write it; the file appears whole or not at all."""
    path = Path(path)
    data = encode(image, path.suffix or "none", **options)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def files(folder: str | os.PathLike) -> list[Path]:
    """All pictures under a folder, by suffix, in sorted order."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no folder {folder}: expected a folder with pictures")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
