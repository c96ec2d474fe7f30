"""Natural scene statistics: BRISQUE's 36 features and the parts of an extended hand-crafted set, batched over images.

Mittal, Moorthy & Bovik, "No-reference image quality assessment in the spatial domain", IEEE TIP 2012. A picture's
locally normalised luminance (MSCN) follows a generalised Gaussian, products of neighbours an asymmetric one; what
distorts a picture moves their parameters.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # horizontal, vertical, two diagonals
EPS = 1e-7


def luminance(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) in 0..255 -> (N, H, W) in 0..255, ITU-R BT.601."""
    return 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]


def gaussian(x: Tensor, sigma: float = 7 / 6, reach: int = 3) -> Tensor:
    """Separable Gaussian of 2 reach + 1 taps, edges repeated; (N, H, W). Shifted sums: on a CPU far ahead of conv2d."""
    taps = torch.exp(-(torch.arange(-reach, reach + 1).float() ** 2) / (2 * sigma**2))
    weights = (taps / taps.sum()).tolist()
    height, width = x.shape[-2:]
    padded = F.pad(x[:, None], (reach, reach, reach, reach), mode="replicate")[:, 0]
    rows = padded[:, :, reach : reach + width] * weights[reach]
    for i in range(reach):
        j = 2 * reach - i
        rows.add_(padded[:, :, i : i + width] + padded[:, :, j : j + width], alpha=weights[i])
    result = rows[:, reach : reach + height] * weights[reach]
    for i in range(reach):
        j = 2 * reach - i
        result.add_(rows[:, i : i + height] + rows[:, j : j + height], alpha=weights[i])
    return result


def mscn(x: Tensor, constant: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean-subtracted, contrast-normalised coefficients and the local deviation: (x - mu) / (sigma + C), sigma."""
    mu = gaussian(x)
    sigma = (gaussian(x * x) - mu * mu).clamp_(min=0).sqrt_()
    return (x - mu) / (sigma + constant), sigma


def half(x: Tensor) -> Tensor:
    """Half the size, after a low-pass."""
    if min(x.shape[-2:]) < 2:
        return x
    return F.avg_pool2d(gaussian(x, 0.8, 2)[:, None], 2)[:, 0]


@lru_cache(maxsize=1)
def _shapes() -> tuple[Tensor, Tensor, Tensor]:
    """Grid of GGD shapes a, the moment ratio (E|x|)^2 / E x^2 that identifies them, and sqrt(G(1/a) / G(3/a))."""
    a = torch.arange(0.2, 10.001, 0.001, dtype=torch.float64)
    ratio = torch.exp(2 * torch.lgamma(2 / a) - torch.lgamma(1 / a) - torch.lgamma(3 / a))
    return a.float(), ratio.float(), (torch.lgamma(1 / a) / 2 - torch.lgamma(3 / a) / 2).exp().float()


def _shape(ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The shape whose (E|x|)^2 / E x^2 is nearest to `ratio`, and sqrt(G(1/a) / G(3/a))."""
    a, ratios, scale = (grid.to(ratio.device) for grid in _shapes())
    index = torch.searchsorted(ratios, ratio.contiguous()).clamp(1, len(a) - 1)
    index = index - ((ratio - ratios[index - 1]) < (ratios[index] - ratio)).long()
    return a[index], scale[index]


def ggd(x: Tensor) -> Tensor:
    """(N, H, W) -> (N, 2): shape and variance of a generalised Gaussian, by moments."""
    square = (x * x).mean((1, 2)) + EPS
    return torch.stack([_shape(x.abs().mean((1, 2)) ** 2 / square)[0], square], 1)


def aggd(x: Tensor) -> Tensor:
    """(N, H, W) -> (N, 4): shape, mean, left and right variance of an asymmetric generalised Gaussian, by moments."""
    n = x.shape[1] * x.shape[2]
    left, right = x.clamp(max=0), x.clamp(min=0)
    negative = (x < 0).sum((1, 2)).clamp(1, max(n - 1, 1))
    left_square, right_square = (left * left).sum((1, 2)) + EPS, (right * right).sum((1, 2)) + EPS
    left_std, right_std = (left_square / negative).sqrt(), (right_square / (n - negative).clamp(min=1)).sqrt()
    g = left_std / right_std
    mean_abs, square = (right.sum((1, 2)) - left.sum((1, 2))) / n, (left_square + right_square) / n
    ratio = mean_abs**2 / square * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    a, scale = _shape(ratio)
    # mean = (b_right - b_left) G(2/a) / G(1/a), with b = std sqrt(G(1/a) / G(3/a))
    mean = (right_std - left_std) * scale * torch.exp(torch.lgamma(2 / a) - torch.lgamma(1 / a))
    return torch.stack([a, mean, left_std**2, right_std**2], 1)


def neighbours(m: Tensor) -> list[Tensor]:
    """Products of MSCN coefficients with their neighbour to the right, below, and on both diagonals."""
    return [m * torch.roll(m, shift, (1, 2)) for shift in SHIFTS]


def features18(m: Tensor) -> Tensor:
    """MSCN coefficients (N, H, W) -> (N, 18): 2 of the GGD, 4 for each of four neighbours."""
    return torch.cat([ggd(m), *(aggd(product) for product in neighbours(m))], 1)


def sharpness(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) in 0..255 -> (N, 1): log of the mean absolute step between neighbouring pixels."""
    y = luminance(F.pad(rgb, (0, 1, 0, 1), mode="replicate"))
    steps = y.diff(dim=1).abs().mean((1, 2)) + y.diff(dim=2).abs().mean((1, 2))
    return torch.log(steps + 0.01)[:, None]


def brisque(rgb: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) in 0..255 -> (N, 36): the 18 features at full and at half size."""
    y = luminance(rgb)
    return torch.cat([features18(mscn(y)[0]), features18(mscn(half(y))[0])], 1)


DIRECTIONS = ("right", "below", "diagonal", "other diagonal")
NAMES18 = ["shape", "variance", *(f"{direction} {part}" for direction in DIRECTIONS
                                  for part in ("shape", "mean", "left", "right"))]  # fmt: skip
BRISQUE_NAMES = [f"{name}, scale {scale}" for scale in (1, 2) for name in NAMES18]
