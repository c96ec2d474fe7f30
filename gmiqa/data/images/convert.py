"""Samples of any layout and type -> RGB; PIL images both ways; area downscale."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from gmiqa_core.batch import to_float
from gmiqa_core.errors import UserError


class ImageError(UserError):
    """A picture that cannot be read or used; the message names it and says why."""


def limit(image: torch.Tensor, max_side: int) -> torch.Tensor:
    """Area downscale of a (3, H, W) uint8 or float image so that its longer side is at most `max_side`."""
    height, width = image.shape[-2:]
    longer = max(height, width)
    if longer <= max_side:
        return image
    new = (max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer)))
    if image.dtype == torch.uint8:
        picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
        return tensor_of(picture.resize(new, Image.Resampling.BOX)).to(image.device)
    arrays = image.detach().float().cpu().numpy()
    planes = [Image.fromarray(plane).resize(new, Image.Resampling.BOX) for plane in arrays]
    return torch.from_numpy(np.stack([np.array(plane) for plane in planes])).to(image)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Floats in [0, 1] are rounded to 8 bits, so that a tensor equals the file it came from; uint8 passes through."""
    return (image * 255).round().to(torch.uint8) if image.is_floating_point() else image


def to_pil(image: torch.Tensor) -> Image.Image:
    """A (3, H, W) uint8 image, or a float one in [0, 1], as a PIL image."""
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def rgb_of(picture: Image.Image) -> Image.Image:
    """A PIL image of any mode in RGB: alpha on white, 16-bit and float samples brought to 8 bits."""
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


def tensor_of(rgb: Image.Image) -> torch.Tensor:
    """An RGB PIL image as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def _native(array: np.ndarray) -> np.ndarray:
    """A copy in native byte order; 16-bit samples become uint8."""
    if array.dtype.kind not in "buif":
        raise ImageError(f"cannot use an array of {array.dtype} as a picture: expected numbers")
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return np.round(array / 257).astype(np.uint8)
    wide = array.dtype.kind in "ui" and array.dtype != np.uint8
    return np.array(array, dtype=np.int64 if wide else array.dtype.newbyteorder("="))


def from_samples(x: torch.Tensor | np.ndarray, channels_first: bool) -> torch.Tensor:
    """Raw samples of any layout and type -> (3, H, W) uint8 or float32 in [0, 1], a copy."""
    x = torch.from_numpy(_native(x)) if isinstance(x, np.ndarray) else x.detach().clone()
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
    """uint8, or float32 in [0, 1]; ImageError for samples beyond their type's range."""
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
