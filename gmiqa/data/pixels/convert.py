"""Samples of any layout and type -> RGB; PIL images both ways; area downscale."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image

from gmiqa_core.errors import UserError


class ImageError(UserError):
    """A picture that cannot be read or used; the message names it and says why."""


def limit(image: np.ndarray, max_side: int) -> np.ndarray:
    """Area downscale of a (3, H, W) uint8 or float image so that its longer side is at most `max_side`."""
    height, width = image.shape[-2:]
    longer = max(height, width)
    if longer <= max_side:
        return image
    new = (max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer)))
    if image.dtype == np.uint8:
        return array_of(Image.fromarray(_last(image)).resize(new, Image.Resampling.BOX))
    planes = [Image.fromarray(plane).resize(new, Image.Resampling.BOX) for plane in image.astype(np.float32)]
    return np.stack([np.asarray(plane) for plane in planes]).astype(image.dtype)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] are rounded to 8 bits, so that an array equals the file it came from; uint8 passes through."""
    return np.round(image * 255).astype(np.uint8) if image.dtype.kind == "f" else image


def to_pil(image: np.ndarray) -> Image.Image:
    """A (3, H, W) uint8 image, or a float one in [0, 1], as a PIL image."""
    return Image.fromarray(_last(to_uint8(image.clip(0, 1)) if image.dtype.kind == "f" else image))


def _last(image: np.ndarray) -> np.ndarray:
    """(3, H, W) -> (H, W, 3)."""
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def rgb_of(picture: Image.Image) -> Image.Image:
    """A PIL image of any mode in RGB: alpha on white, 16-bit and float samples brought to 8 bits."""
    mode = picture.mode
    if mode.startswith(("I", "F")):  # 16-bit grey, or float in [0, 1]; its transparent colour, if it has one, is shown
        samples = np.array(picture).astype(np.float32) / (65535 if mode.startswith("I") else 1)
        if not (samples.min() >= 0 and samples.max() <= 1):
            raise ImageError(f"its samples ({mode}) are neither 16-bit integers nor floats in [0, 1]")
        return Image.fromarray((samples * 255).round().astype(np.uint8)).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("LA").convert("RGBA") if mode == "La" else picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture if mode == "RGB" else picture.convert("RGB")


def array_of(rgb: Image.Image) -> np.ndarray:
    """An RGB PIL image as uint8 (3, H, W)."""
    return np.ascontiguousarray(np.array(rgb).transpose(2, 0, 1))


def is_tensor(x: Any) -> bool:
    """Whether x is a tensor of torch, which nobody has who has not loaded it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def of_tensor(x: Any) -> np.ndarray:
    """A tensor's samples; bfloat16, which NumPy lacks, as float32."""
    x = x.detach().cpu()
    return (x.float() if x.is_floating_point() and x.itemsize == 2 else x).numpy()


def _native(array: np.ndarray) -> np.ndarray:
    """A copy in native byte order; 16-bit samples become uint8."""
    if array.dtype.kind not in "buif":
        raise ImageError(f"cannot use an array of {array.dtype} as a picture: expected numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return np.round(array / 257).astype(np.uint8)
    wide = array.dtype.kind in "ui" and array.dtype != np.uint8
    return np.array(array, dtype=np.int64 if wide else array.dtype.newbyteorder("="))


def from_samples(x: np.ndarray, channels_first: bool) -> np.ndarray:
    """Raw samples of any layout and type -> (3, H, W) uint8 or float32 in [0, 1], a copy."""
    shape, x = x.shape, _native(x)
    if x.ndim == 4 and shape[0] == 1:
        x = x[0]
    if x.ndim == 2:
        x = x[None]
    elif x.ndim == 3:
        first, last = x.shape[0] <= 4, x.shape[-1] <= 4
        if not (first and (channels_first or not last)) and last:
            x = x.transpose(2, 0, 1)
    if x.ndim != 3 or not 1 <= x.shape[0] <= 4 or x.size == 0:
        raise ImageError(f"cannot use an array of shape {shape} as a picture: expected (H, W), (H, W, 3) or (3, H, W)")
    x = _ranged(x)
    if x.shape[0] in (2, 4):
        samples = x if x.dtype.kind == "f" else x.astype(np.float32) / 255
        colour, alpha = samples[:-1], samples[-1:]
        blended = colour * alpha + (1 - alpha)
        x = blended if x.dtype.kind == "f" else to_uint8(blended)
    return np.ascontiguousarray(x if x.shape[0] == 3 else x.repeat(3, axis=0))


def _ranged(x: np.ndarray) -> np.ndarray:
    """uint8, or float32 in [0, 1]; ImageError for samples beyond their type's range."""
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind == "b":
        return x.astype(np.uint8) * 255
    low, high = float(x.min()), float(x.max())
    if x.dtype.kind == "f":
        if not (low >= 0 and high <= 1):  # NaN fails both
            raise ImageError(f"float samples must lie in [0, 1] and be finite, these span {low:.4g}..{high:.4g}")
        return x.astype(np.float32)
    if low < 0 or high > 65535:
        raise ImageError(f"integer samples must lie in 0..255 or 0..65535, these span {low:.0f}..{high:.0f}")
    # 8-bit values in a wide type, or 16-bit ones
    return (x if high <= 255 else np.round(x.astype(np.float32) / 257)).astype(np.uint8)
