"""Decoding: from a path, bytes or a file object to an upright RGB picture, in bounded memory."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError, features

from gmiqa.data.pixels.convert import ImageError, array_of, from_samples, is_tensor, limit, of_tensor, rgb_of

WHOLE_PIXELS = 48_000_000  # above this, pictures come back reduced
MEMORY = 800_000_000  # bytes that decoding one picture may take

_SIGNATURES = (
    ("JPEG", (b"\xff\xd8\xff",)),
    ("PNG", (b"\x89PNG\r\n\x1a\n",)),
    ("BMP", (b"BM",)),
    ("GIF", (b"GIF87a", b"GIF89a")),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("PPM", (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")),
)
_AVIF, _HEIC = (b"avif", b"avis"), (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_PLUGINS = {"JPEG": "Jpeg", "PNG": "Png", "BMP": "Bmp", "WEBP": "WebP", "TIFF": "Tiff", "GIF": "Gif", "AVIF": "Avif",
            "PPM": "Ppm"}  # fmt: skip
KNOWN = "JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF or PNM"
# EXIF orientation -> the transposition that shows the picture upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

Source = str | os.PathLike | bytes | BinaryIO


def read(source: Source, max_side: int | None = None) -> np.ndarray:
    """Decode a path, bytes or a binary file object into a uint8 array (3, H, W), RGB, upright.

    With `max_side` the longer side is at most that (area average), and huge files are never decoded whole.
    """
    with _opened(source) as (picture, name):
        factor = _reduction(picture, max_side, name)
        picture.load()
        upright = _UPRIGHT.get(_orientation(picture))
        rgb = _reduced(picture, factor)
        image = array_of(rgb if upright is None else rgb.transpose(upright))
    return image if max_side is None else limit(image, max_side)


def size(source: Source) -> tuple[int, int]:
    """(width, height) of the upright picture from its header alone."""
    with _opened(source) as (picture, _):
        width, height = picture.size
        if picture.format == "PNG" and "exif" not in picture.info:
            return width, height  # if the header has no EXIF, asking for it would make Pillow decode the whole picture
        # Pillow's TIFF reader already reports the upright size
        turned = 5 <= _orientation(picture) <= 8 and picture.format != "TIFF"
        return (height, width) if turned else (width, height)


def from_pil(picture: Image.Image) -> np.ndarray:
    """A PIL image, upright, as uint8 (3, H, W)."""
    with _named("the PIL image"):
        upright = _UPRIGHT.get(_orientation(picture))
        return array_of(rgb_of(picture if upright is None else picture.transpose(upright)))


def from_any(x, max_side: int | None = None) -> np.ndarray:
    """A picture from a path, bytes, file object, PIL image, numpy array or tensor, as (3, H, W).

    uint8 stays uint8; 16-bit and bool become uint8; floats must lie in [0, 1] and stay float32. Arrays are (H, W) or
    (H, W, channels), tensors (H, W) or (channels, H, W), the other order is accepted where it is unambiguous; 1 and 2
    channels are grey (and alpha), 4 are RGBA; alpha is laid on white.
    """
    if isinstance(x, Image.Image):
        image = from_pil(x)
    elif is_tensor(x):
        image = from_samples(of_tensor(x), channels_first=True)
    elif isinstance(x, np.ndarray):
        image = from_samples(x, channels_first=False)
    else:
        return read(x, max_side)
    return image if max_side is None else limit(image, max_side)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn whatever Pillow throws at broken or odd files into one ImageError that names the picture."""
    try:
        yield
    except ImageError as error:
        raise error if name in str(error) else ImageError(f"cannot read {name}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"cannot read {name}: not enough memory to decode it") from error
    except FileNotFoundError as error:
        raise ImageError(f"cannot read {name}: no such file") from error
    except Exception as error:  # Pillow's decoders raise half a dozen kinds on damaged files
        reason = str(error).strip() or type(error).__name__
        raise ImageError(f"cannot read {name}: the file is damaged or incomplete ({reason})") from error


@contextmanager
def _opened(source: Source) -> Iterator[tuple[ImageFile.ImageFile, str]]:
    """The undecoded picture and its name. Not by Image.open, whose size limit is global and which cannot scale."""
    stream: BinaryIO
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, stream, ours = "the given bytes", io.BytesIO(source), True
    elif isinstance(source, (str, os.PathLike)):
        name, ours = str(source), True
        if Path(source).is_dir():
            raise ImageError(f"cannot read {name}: it is a folder, expected one picture")
        with _named(name):
            stream = open(source, "rb")  # noqa: SIM115 - closed below
    elif hasattr(source, "read"):
        name, stream, ours = str(getattr(source, "name", "the given file object")), source, False
    else:
        raise ImageError(f"cannot read a picture from {type(source).__name__}: expected a path, bytes or a file object")
    try:
        with _named(name):
            format = _sniff(stream, name)
            importlib.import_module(f"PIL.{_PLUGINS[format]}ImagePlugin")  # and no other decoder
            factory = Image.OPEN[format][0]
            try:
                picture = factory(stream, "")
            except UnidentifiedImageError as error:
                raise ImageError(f"cannot read {name}: damaged {format} header") from error
            if min(picture.size) < 1:
                raise ImageError(f"cannot read {name}: it has no pixels {picture.size}")
            yield picture, name
    finally:
        if ours:  # a file object that was handed in stays open
            stream.close()


def _sniff(stream: BinaryIO, name: str) -> str:
    stream.seek(0)
    head = stream.read(32)
    stream.seek(0)
    if not head:
        raise ImageError(f"cannot read {name}: the file is empty")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    for format, signatures in _SIGNATURES:
        if head.startswith(signatures):
            return format
    brands = head[8:] if head[4:8] == b"ftyp" else b""
    if any(brand in brands for brand in _AVIF):
        if features.check("avif"):
            return "AVIF"
        raise ImageError(f"cannot read {name}: this Pillow has no AVIF decoder (export it as JPEG or PNG)")
    if brands.startswith(_HEIC):
        raise ImageError(f"cannot read {name}: HEIC pictures are not read (export it as JPEG)")
    raise ImageError(f"cannot read {name}: it is no picture of a known format; expected {KNOWN} (export it as one)")


def _reduction(picture: ImageFile.ImageFile, max_side: int | None, name: str) -> int:
    """Prepare scaled decoding of a huge picture; returns the integer factor still to reduce by after decoding."""
    width, height = picture.size
    if width * height <= WHOLE_PIXELS:
        return 1
    if picture.format in ("JPEG", "MPO"):
        progressive = bool(picture.info.get("progressive"))
        scale = 2
        while scale < 8 and width * height / scale**2 > WHOLE_PIXELS:
            scale *= 2
        if max_side is not None:
            while scale < 8 and max(width, height) / (2 * scale) >= 2 * max_side:
                scale *= 2
        # a progressive file's coefficients (2 bytes a sample) are held whole, whatever the scale
        needed = width * height * (4 / scale**2 + (6 if progressive else 0))
        _refuse_beyond(needed, picture, name)
        picture.draft(None, (width // scale, height // scale))
        width, height = picture.size
    else:
        samples = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}.get(picture.mode, 4)
        if picture.format in ("WEBP", "AVIF"):  # their decoders hold the canvas, the frame and their copy
            samples = 16
        _refuse_beyond(width * height * samples, picture, name)
    factor = 1
    while width * height / factor**2 > WHOLE_PIXELS:
        factor += 1
    if max_side is not None:
        factor = max(factor, max(width, height) // (2 * max_side))
    return factor


def _refuse_beyond(needed: float, picture: Image.Image, name: str) -> None:
    if needed > MEMORY:
        width, height = picture.size
        raise ImageError(
            f"cannot read {name}: {width} x {height} pixels ({picture.format}) would take {needed / 1e9:.1f} GB to "
            f"decode, the limit is {MEMORY / 1e9:.1f} GB; make it smaller first"
        )


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1) or 1)
    except Exception:  # EXIF is a stranger's bytes: a broken block means no orientation, not a broken picture
        return 1


def _reduced(picture: Image.Image, factor: int) -> Image.Image:
    """RGB at 1/factor, strip by strip, so that the converted copy is never in memory as a whole."""
    if factor == 1:
        return rgb_of(picture)
    width, height = picture.size
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, 4_000_000 // (width * factor))
    for top in range(0, height, rows):
        strip = rgb_of(picture.crop((0, top, width, min(top + rows, height))))
        result.paste(strip.reduce(factor), (0, top // factor))
    return result
