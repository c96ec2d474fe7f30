"""Pictures in and out: whatever a user has becomes an RGB uint8 tensor (3, H, W), or one line says why it cannot.

Handled: JPEG (MPO too), PNG, BMP, WebP, TIFF, GIF and PNM, their first frame; EXIF orientation; alpha, laid on white;
palettes; CMYK; 16-bit and float samples; grey; a single pixel. Colour profiles are not applied: samples are read as
sRGB. Only these decoders are ever tried, so a file's name or content cannot reach any other.

Very large pictures: up to `WHOLE_PIXELS` a picture is decoded as it is, so every route gives the same samples. Above
that a JPEG is decoded at 1/2, 1/4 or 1/8 scale by its own transform and other formats are reduced strip by strip after
decoding; what would need more than `MEMORY` bytes to decode is refused with the reason. `size` tells the true size.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gmiqa.data.images.convert import ImageError, from_samples, limit, to_float, to_pil
from gmiqa.data.images.decode import MEMORY, WHOLE_PIXELS, Source, from_pil, read, size

__all__ = ["MEMORY", "SUFFIXES", "WHOLE_PIXELS", "ImageError", "Source", "encode", "files", "from_any", "limit", "read",
           "size", "to_float", "to_pil", "write"]  # fmt: skip

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF",
            "gif": "GIF", "ppm": "PPM", "jp2": "JPEG2000", "jpeg2000": "JPEG2000"}  # fmt: skip


def from_any(x, max_side: int | None = None) -> torch.Tensor:
    """A picture from a path, bytes, file object, PIL image, numpy array or tensor, as (3, H, W).

    uint8 stays uint8; 16-bit and bool become uint8; floats must lie in [0, 1] and stay float32. Arrays are (H, W) or
    (H, W, channels), tensors (H, W) or (channels, H, W), the other order is accepted where it is unambiguous; 1 and 2
    channels are grey (and alpha), 4 are RGBA; alpha is laid on white.
    """
    if isinstance(x, Image.Image):
        image = from_pil(x)
    elif isinstance(x, torch.Tensor):
        image = from_samples(x, channels_first=True)
    elif isinstance(x, np.ndarray):
        image = from_samples(x, channels_first=False)
    else:
        return read(x, max_side)
    return image if max_side is None else limit(image, max_side)


def encode(image: torch.Tensor, format: str = "png", **options) -> bytes:
    """Encode a (3, H, W) uint8 image, or a float one in [0, 1]; `options` go to Pillow's writer (quality=...)."""
    name = _FORMATS.get(format.lower().lstrip("."))
    if name is None:
        raise ImageError(f"cannot write pictures as {format!r}: expected one of {', '.join(sorted(_FORMATS))}")
    buffer = io.BytesIO()
    to_pil(image).save(buffer, name, **options)
    return buffer.getvalue()


def write(image: torch.Tensor, path: str | os.PathLike, **options) -> Path:
    """Encode by the path's suffix and write it; the file appears whole or not at all."""
    path = Path(path)
    data = encode(image, path.suffix or "none", **options)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def files(folder: str | os.PathLike) -> list[Path]:
    """All pictures under a folder, by suffix, in sorted order."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no folder {folder}: expected a folder with pictures")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
