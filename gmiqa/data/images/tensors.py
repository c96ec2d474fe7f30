"""gmiqa.data.pixels for tensors: each function gives the same samples as the one of its name there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gmiqa.data import pixels
from gmiqa.data.pixels import Source
from gmiqa.data.pixels.convert import of_tensor


def read(source: Source, max_side: int | None = None) -> torch.Tensor:
    """Decode a path, bytes or a binary file object into a uint8 tensor (3, H, W), RGB, upright.

    With `max_side` the longer side is at most that (area average), and huge files are never decoded whole.
    """
    return torch.from_numpy(pixels.read(source, max_side))


def from_pil(picture: Image.Image) -> torch.Tensor:
    """A PIL image, upright, as uint8 (3, H, W)."""
    return torch.from_numpy(pixels.from_pil(picture))


def from_any(x: Any, max_side: int | None = None) -> torch.Tensor:
    """A picture from a path, bytes, file object, PIL image, numpy array or tensor, as (3, H, W); see pixels.from_any.
    What was a tensor stays on its device."""
    image = torch.from_numpy(pixels.from_any(x, max_side))
    return image.to(x.device) if isinstance(x, torch.Tensor) else image


def limit(image: torch.Tensor, max_side: int) -> torch.Tensor:
    """Area downscale of a (3, H, W) uint8 or float image so that its longer side is at most `max_side`."""
    return image if max(image.shape[-2:]) <= max_side else torch.from_numpy(
        pixels.limit(of_tensor(image), max_side)).to(image)


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """Floats in [0, 1] are rounded to 8 bits, so that a tensor equals the file it came from; uint8 passes through."""
    return (image * 255).round().to(torch.uint8) if image.is_floating_point() else image


def to_pil(image: torch.Tensor) -> Image.Image:
    """A (3, H, W) uint8 image, or a float one in [0, 1], as a PIL image."""
    return pixels.to_pil(of_tensor(image))


def encode(image: torch.Tensor, format: str = "png", **options) -> bytes:
    """Encode a (3, H, W) uint8 image, or a float one in [0, 1]; `options` go to Pillow's writer (quality=...)."""
    return pixels.encode(of_tensor(image), format, **options)


def write(image: torch.Tensor, path: str | os.PathLike, **options) -> Path:
    """Encode by the path's suffix and write it; the file appears whole or not at all."""
    return pixels.write(of_tensor(image), path, **options)
