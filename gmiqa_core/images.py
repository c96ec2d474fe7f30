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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

from gmiqa_core.settings import UserError

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
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF",
            "gif": "GIF", "ppm": "PPM", "jp2": "JPEG2000", "jpeg2000": "JPEG2000"}  # fmt: skip
# EXIF orientation -> the transposition that shows the picture upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

Source = str | os.PathLike | bytes | BinaryIO


class ImageError(UserError):
    """A picture cannot be read or used; the message names it and says why."""


def read(source: Source, max_side: int | None = None) -> torch.Tensor:
    """Decode a path, bytes or a binary file object into a uint8 tensor (3, H, W), RGB, upright.

    With `max_side` the longer side is at most that (area average), and huge files are never decoded whole.
    """
    with _opened(source) as (picture, name):
        factor = _reduction(picture, max_side, name)
        picture.load()
        upright = _UPRIGHT.get(_orientation(picture))
        rgb = _reduced(picture, factor)
        image = _tensor(rgb if upright is None else rgb.transpose(upright))
    return image if max_side is None else limit(image, max_side)


def size(source: Source) -> tuple[int, int]:
    """(width, height) of the upright picture from its header alone."""
    with _opened(source) as (picture, _):
        width, height = picture.size
        if picture.format == "PNG" and "exif" not in picture.info:
            return width, height  # asked for EXIF that its header lacks, Pillow would decode the whole picture
        # Pillow's TIFF reader already reports the upright size
        return (height, width) if _orientation(picture) >= 5 and picture.format != "TIFF" else (width, height)


def limit(image: torch.Tensor, max_side: int) -> torch.Tensor:
    """Area downscale of a (3, H, W) uint8 or float image so that its longer side is at most `max_side`."""
    height, width = image.shape[-2:]
    longer = max(height, width)
    if longer <= max_side:
        return image
    new = (max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer)))
    if image.dtype == torch.uint8:
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
        return _tensor(picture.resize(new, Image.Resampling.BOX)).to(image.device)
    arrays = image.detach().float().cpu().numpy()
    planes = [Image.fromarray(plane).resize(new, Image.Resampling.BOX) for plane in arrays]
    return torch.from_numpy(np.stack([np.array(plane) for plane in planes])).to(image)


def to_float(image: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float32 in [0, 1]; floats pass through."""
    return image if image.is_floating_point() else image.float() / 255


def from_any(x, max_side: int | None = None) -> torch.Tensor:
    """A picture from a path, bytes, file object, PIL image, numpy array or tensor, as (3, H, W).

    uint8 stays uint8; 16-bit and bool become uint8; floats must lie in [0, 1] and stay float32. Arrays are (H, W) or
    (H, W, channels), tensors (H, W) or (channels, H, W), the other order is accepted where it is unambiguous; 1 and 2
    channels are grey (and alpha), 4 are RGBA; alpha is laid on white.
    """
    if isinstance(x, Image.Image):
        with _named("the PIL image"):
            upright = _UPRIGHT.get(_orientation(x))
            image = _tensor(_rgb(x if upright is None else x.transpose(upright)))
    elif isinstance(x, torch.Tensor):
        image = _from_samples(x.detach().clone(), channels_first=True)
    elif isinstance(x, np.ndarray):
        image = _from_samples(torch.from_numpy(_native(x)), channels_first=False)
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


def to_pil(image: torch.Tensor) -> Image.Image:
    """A (3, H, W) uint8 image, or a float one in [0, 1], as a PIL image."""
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def files(folder: str | os.PathLike) -> list[Path]:
    """All pictures under a folder, by suffix, in sorted order."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"no folder {folder}: expected a folder with pictures")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


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
    """The undecoded picture and its name; not by Image.open, whose limit is global and knows no scaled decoding."""
    stream: BinaryIO
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, stream, own = "the given bytes", io.BytesIO(source), True
    elif isinstance(source, (str, os.PathLike)):
        name, own = str(source), True
        if Path(source).is_dir():
            raise ImageError(f"cannot read {name}: it is a folder, expected one picture")
        with _named(name):
            stream = open(source, "rb")  # noqa: SIM115 - closed below
    elif hasattr(source, "read"):
        name, stream, own = str(getattr(source, "name", "the given file object")), source, False
    else:
        raise ImageError(f"cannot read a picture from {type(source).__name__}: expected a path, bytes or a file object")
    try:
        with _named(name):
            format = _sniff(stream, name)
            Image.init()
            factory = Image.OPEN[format][0]
            try:
                picture = factory(stream, "")
            except UnidentifiedImageError as error:
                raise ImageError(f"cannot read {name}: damaged {format} header") from error
            if min(picture.size) < 1:
                raise ImageError(f"cannot read {name}: it has no pixels {picture.size}")
            yield picture, name
    finally:
        if own:
            stream.close()


def _sniff(stream: BinaryIO, name: str) -> str:
    stream.seek(0)
    head = stream.read(16)
    stream.seek(0)
    if not head:
        raise ImageError(f"cannot read {name}: the file is empty")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    for format, signatures in _SIGNATURES:
        if head.startswith(signatures):
            return format
    kind = "HEIC/AVIF pictures are not read" if head[4:8] == b"ftyp" else "it is no picture of a known format"
    raise ImageError(f"cannot read {name}: {kind}; expected JPEG, PNG, BMP, WebP, TIFF, GIF or PNM (export it as one)")


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
        if picture.format == "WEBP":  # its decoder holds the canvas, the frame and their copy
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
    """RGB at 1/factor, strip by strip so that the converted copy is never held whole."""
    if factor == 1:
        return _rgb(picture)
    width, height = picture.size
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, 4_000_000 // (width * factor))
    for top in range(0, height, rows):
        strip = _rgb(picture.crop((0, top, width, min(top + rows, height))))
        result.paste(strip.reduce(factor), (0, top // factor))
    return result


def _rgb(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("LA").convert("RGBA") if mode == "La" else picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if mode.startswith(("I", "F")):  # 16-bit grey, or float in [0, 1]
        samples = np.array(picture).astype(np.float32) / (65535 if mode.startswith("I") else 1)
        if not (samples.min() >= 0 and samples.max() <= 1):
            raise ImageError(f"its samples ({mode}) are neither 16-bit integers nor floats in [0, 1]")
        return Image.fromarray((samples * 255).round().astype(np.uint8)).convert("RGB")
    return picture if mode == "RGB" else picture.convert("RGB")


def _tensor(rgb: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def _native(array: np.ndarray) -> np.ndarray:
    """An own copy in native byte order; 16-bit samples become uint8."""
    if array.dtype.kind not in "buif":
        raise ImageError(f"cannot use an array of {array.dtype} as a picture: expected numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return np.round(array / 257).astype(np.uint8)
    wide = array.dtype.kind in "ui" and array.dtype != np.uint8
    return np.array(array, dtype=np.int64 if wide else array.dtype.newbyteorder("="))


def _from_samples(x: torch.Tensor, channels_first: bool) -> torch.Tensor:
    """Raw samples of any layout and type -> (3, H, W) uint8 or float32 in [0, 1]."""
    shape = tuple(x.shape)
    if x.ndim == 4 and shape[0] == 1:
        x = x[0]
    if x.ndim == 2:
        x = x[None]
    elif x.ndim == 3:
        first, last = x.shape[0] <= 4, x.shape[-1] <= 4
        if not (first and (channels_first or not last)) and last:
            x = x.permute(2, 0, 1)
    if x.ndim != 3 or not 1 <= x.shape[0] <= 4 or x.numel() == 0:
        raise ImageError(f"cannot use an array of shape {shape} as a picture: expected (H, W), (H, W, 3) or (3, H, W)")
    x = _ranged(x)
    if x.shape[0] in (2, 4):
        colour, alpha = to_float(x[:-1]), to_float(x[-1:])
        blended = colour * alpha + (1 - alpha)
        x = blended if x.is_floating_point() else (blended * 255).round().to(torch.uint8)
    return x.expand(3, -1, -1).contiguous()


def _ranged(x: torch.Tensor) -> torch.Tensor:
    if x.dtype == torch.uint8:
        return x
    if x.dtype == torch.bool:
        return x.to(torch.uint8) * 255
    low, high = float(x.min()), float(x.max())
    if x.is_floating_point():
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise ImageError(f"float samples must lie in [0, 1] and be finite, these span {low:.4g}..{high:.4g}")
        return x.float()
    if low < 0 or high > 65535:
        raise ImageError(f"integer samples must lie in 0..255 or 0..65535, these span {low:.0f}..{high:.0f}")
    # 8-bit values in a wide type, or 16-bit ones
    return (x if high <= 255 else (x.float() / 257).round()).to(torch.uint8)
