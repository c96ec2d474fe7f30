"""Types 19 to 21 and 23: jitter, displaced patches, pixelation, colour blocks."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

STANDARD_AREA = 512 * 384  # KADID's pictures, which the counts of types 20 and 23 belong to


def jitter(x: Tensor, amount: float, generators: list[Generator]) -> Tensor:
    """Five rounds of a random warp: every pixel is fetched, bicubic, from a Gaussian distance of `amount` pixels."""
    n, _, h, w = x.shape
    rows = torch.linspace(-1, 1, h) if h > 1 else torch.zeros(1)
    columns = torch.linspace(-1, 1, w) if w > 1 else torch.zeros(1)
    identity = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    pixel = torch.tensor([2 / max(w - 1, 1), 2 / max(h - 1, 1)])
    for _ in range(5):
        shift = torch.stack([torch.randn(h, w, 2, generator=g) for g in generators])
        grid = (identity + amount * pixel * shift).to(x.device)
        x = F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=True)
    return x


def _count(number: float, h: int, w: int) -> int:
    """Scaled so that it is the same share of the picture, whatever its size."""
    return max(1, round(number * h * w / STANDARD_AREA))


def _gather(x: Tensor, sources: np.ndarray) -> Tensor:
    """New image i takes its pixel p from pixel sources[i, p] of image i; (n, h, w) indices into h*w."""
    n, c, h, w = x.shape
    index = torch.from_numpy(sources).to(x.device).reshape(n, 1, h * w).expand(n, c, h * w)
    return x.reshape(n, c, h * w).gather(2, index).reshape(x.shape)


def non_eccentricity_patches(x: Tensor, patches: float, generators: list[Generator]) -> Tensor:
    """Patches of 16x16 pixels copied, one after the other, to a place at most 8 pixels away in either direction."""
    n, _, h, w = x.shape
    side_h, side_w = min(16, (h + 1) // 2), min(16, (w + 1) // 2)
    sources = np.tile(np.arange(h * w).reshape(1, h, w), (n, 1, 1))
    for image, generator in zip(sources, generators, strict=True):
        count = _count(patches, h, w)
        u = torch.rand(count, 2, generator=generator).numpy()
        steps = torch.randint(-8, 9, (count, 2), generator=generator).numpy()
        limit = np.array([h - side_h, w - side_w])
        starts = (u * (limit + 1)).astype(int)
        targets = np.clip(starts + steps, 0, limit)
        for (r, c), (tr, tc) in zip(starts, targets, strict=True):
            image[tr : tr + side_h, tc : tc + side_w] = image[r : r + side_h, c : c + side_w].copy()
    return _gather(x, sources)


def pixelate(x: Tensor, amount: float) -> Tensor:
    """Nearest neighbour down by z = .95 - amount^.6 and back to size."""
    z = 0.95 - amount**0.6

    def there_and_back(length: int) -> Tensor:
        small = max(1, math.ceil(length * z))
        down = np.minimum((np.arange(small) + 0.5) * length / small, length - 1).astype(int)
        up = ((np.arange(length) + 0.5) * small / length).astype(int)
        return torch.from_numpy(down[up]).to(x.device)

    h, w = x.shape[-2:]
    return x[:, :, there_and_back(h)[:, None], there_and_back(w)]


def colour_blocks(x: Tensor, blocks: float, generators: list[Generator]) -> Tensor:
    """Solid squares of 32x32 pixels, each of a random colour, at random places."""
    h, w = x.shape[-2:]
    side_h, side_w = min(32, (h + 1) // 2), min(32, (w + 1) // 2)
    result = x.clone()
    for image, generator in zip(result, generators, strict=True):
        u = torch.rand(_count(blocks, h, w), 5, generator=generator)
        for fy, fx, *colour in u.tolist():
            r, c = int(fy * (h - side_h + 1)), int(fx * (w - side_w + 1))
            image[:, r : r + side_h, c : c + side_w] = torch.tensor(colour, device=x.device)[:, None, None]
    return result
