"""8-bit pictures, distorted and then shrunk: what fills the slots of a pool."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gmiqa.data import images
from gmiqa.data.distortions import distort
from gmiqa.data.images.gather import to_unit

BITS = 22  # of Pillow's fixed-point weights
FEW = 8  # pictures that a CPU distorts at a time: it takes longest over memory that it has not had before


def distorted(pictures: Tensor, type: np.ndarray, level: np.ndarray, seeds: Sequence[int],
              checksums: Sequence[int] | None = None) -> Tensor:
    """uint8 in, uint8 out; type 0 stays as it is, but for the generator's stretch."""
    # The identity of type 18 at level 3, so that undistorted pictures go through the same stretch.
    type, level = np.where(type > 0, type, 18), np.where(type > 0, level, 3)
    result = torch.empty_like(pictures, memory_format=torch.contiguous_format)
    few = FEW if pictures.device.type == "cpu" else max(1, len(pictures))
    for part in (slice(k, k + few) for k in range(0, len(pictures), few)):
        result[part] = images.to_uint8(distort(to_unit(pictures[part]), type[part], level[part], seeds[part],
                                               checksums=None if checksums is None else checksums[part]))
    return result


def shrunk(pictures: Tensor, max_side: int) -> Tensor:
    """uint8 (n,3,h,w), brought down by area to a longer side of `max_side`, if that is given: what images.limit does,
    to the bit, without leaving the card."""
    if not max_side or max(pictures.shape[2:]) <= max_side:
        return pictures
    h, w = pictures.shape[2:]
    new = max(1, round(h * max_side / max(h, w))), max(1, round(w * max_side / max(h, w)))
    columns_first = None if pictures.device.type == "cpu" else _columns_first((h, w), new)
    if columns_first is None:
        return torch.stack([images.limit(picture, max_side) for picture in pictures])
    return area(pictures, new, columns_first)


def area(pictures: Tensor, new: tuple[int, int], columns_first: bool) -> Tensor:
    """Pillow's BOX filter for uint8 (...,h,w), each of its two passes rounded to 8 bits. The sums are whole numbers
    below 2^53, which float64 holds exactly in whatever order they are added."""
    rows, columns = (_weights(length, short).to(pictures.device)
                     for length, short in zip(pictures.shape[-2:], new, strict=True))

    def rounded(sums: Tensor) -> Tensor:
        return ((sums + 2 ** (BITS - 1)) / 2**BITS).floor().clamp(0, 255)

    x = pictures.double()
    x = rounded(rows @ rounded(x @ columns.T)) if columns_first else rounded(rounded(rows @ x) @ columns.T)
    return x.to(torch.uint8)


@functools.lru_cache(maxsize=64)
def _columns_first(size: tuple[int, int], new: tuple[int, int]) -> bool | None:
    """The order of the two passes, which differs between versions of Pillow: asked of the one at hand with a random
    picture. None if it does something else."""
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    wanted = np.array(Image.fromarray(picture.numpy()).resize(new[::-1], Image.Resampling.BOX))
    for order in (True, False):
        if np.array_equal(area(picture, new, order).numpy(), wanted):
            return order
    return None


@functools.lru_cache(maxsize=64)
def _weights(length: int, short: int) -> Tensor:
    """(short, length) whole numbers: Pillow's weight of each old pixel in each new one, times 2^BITS."""
    scale = length / short
    weights = torch.zeros(short, length, dtype=torch.float64)
    for k in range(short):
        centre = (k + 0.5) * scale
        first, end = max(0, int(centre - scale / 2 + 0.5)), min(length, int(centre + scale / 2 + 0.5))
        inside = [float(-0.5 < (x - centre + 0.5) * (1 / scale) <= 0.5) for x in range(first, end)]
        for x, value in zip(range(first, end), inside, strict=True):
            weights[k, x] = math.floor(0.5 + value / sum(inside) * 2**BITS)
    return weights
