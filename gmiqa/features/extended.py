"""The extended hand-crafted set: NSS in luminance and opponent colours, contrast, colour, local sharpness, compression.

Each group is a function (N, 3, H, W) in 0..255 -> (N, d) with its names beside it; nothing is learned here. Local
values are taken on a grid of blocks and described by percentiles: a sharp subject in front of a blurred background is
a good picture, but a sharp background behind a blurred subject is not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa.features.nss import NAMES18, features18, gaussian, half, luminance, mscn

PERCENTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
GRID = 12  # blocks along each side


def opponent(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Red against green, and yellow against blue, orthonormal: each (N, H, W)."""
    r, g, b = rgb.unbind(1)
    return (r - g) / 2**0.5, (r + g - 2 * b) / 6**0.5


def blocks(x: Tensor) -> Tensor:
    """Means over a GRID x GRID partition: (N, H, W) -> (N, GRID^2)."""
    return F.adaptive_avg_pool2d(x[:, None], GRID).flatten(1)


def percentiles(x: Tensor) -> Tensor:
    """(N, k) -> (N, len(PERCENTILES))."""
    return torch.quantile(x, torch.tensor(PERCENTILES, device=x.device), dim=1).T


def moments(x: Tensor) -> Tensor:
    """(N, k) -> (N, 4): mean, deviation, skewness, log kurtosis."""
    mean, std = x.mean(1, keepdim=True), x.std(1, correction=0, keepdim=True) + 1e-3
    z = (x - mean) / std
    return torch.cat([mean, std, (z**3).mean(1, keepdim=True), ((z**4).mean(1, keepdim=True) + 1).log()], 1)


def centre(x: Tensor) -> Tensor:
    """Blocks (N, GRID^2) -> (N, 1): how far the middle stands above the border."""
    square = x.view(-1, GRID, GRID)
    inner = square[:, GRID // 4 : -GRID // 4, GRID // 4 : -GRID // 4].flatten(1).mean(1)
    return (inner - x.mean(1))[:, None]


def _spread(name: str, middle: bool = True) -> list[str]:
    return [*(f"{name}, {round(100 * p)} %" for p in PERCENTILES), *([f"{name}, middle"] if middle else [])]


def _moments(name: str) -> list[str]:
    return [f"{name} {moment}" for moment in ("mean", "deviation", "skewness", "kurtosis")]


def nss(rgb: Tensor) -> Tensor:
    """18 features of luminance at three scales, of both opponent colours at half and quarter size."""
    y = luminance(rgb)
    y2 = half(y)
    planes = [y, y2, half(y2)]
    for colour in opponent(F.avg_pool2d(rgb, 2) if min(rgb.shape[-2:]) >= 2 else rgb):
        planes += [colour, half(colour)]
    return torch.cat([features18(mscn(plane)[0]) for plane in planes], 1)


NSS_PLANES = ("luminance 1", "luminance 2", "luminance 4", "red-green 2", "red-green 4", "yellow-blue 2",
              "yellow-blue 4")  # fmt: skip
NSS_NAMES = [f"{plane}: {name}" for plane in NSS_PLANES for name in NAMES18]


def sharpness(rgb: Tensor) -> Tensor:
    """Local deviation, and energy of three band-passes with their ratios, over the blocks; noise in the flattest."""
    y = luminance(rgb)
    _, sigma = mscn(y)
    bands, low = [], y
    for width, reach in ((0.7, 2), (1.4, 4), (2.8, 8)):
        next_low = gaussian(low, width, reach)
        bands.append(blocks((low - next_low).abs()))
        low = next_low
    logs = [(band + 0.1).log() for band in (blocks(sigma), *bands)]
    ratios = [logs[1] - logs[2], logs[2] - logs[3]]
    parts = [torch.cat([percentiles(log), centre(log)], 1) for log in logs + ratios]
    flat = logs[0].argsort(1)[:, : GRID**2 // 10]
    noise = [log.gather(1, flat).mean(1, keepdim=True) for log in (logs[1], ratios[0])]
    return torch.cat([*parts, *noise], 1)


SHARPNESS_NAMES = [name for part in ("local deviation", "fine band", "middle band", "coarse band", "fine to middle",
                                     "middle to coarse") for name in _spread(part)]  # fmt: skip
SHARPNESS_NAMES += ["fine band where flat", "fine to middle where flat"]


def tone(rgb: Tensor) -> Tensor:
    """Distribution of luminance: percentiles, moments, clipped parts, entropy, contrast of large areas."""
    y = luminance(rgb)
    small = F.adaptive_avg_pool2d(y[:, None], 64).flatten(1)
    n = y.shape[1] * y.shape[2]
    index = (y / 8).long().clamp_(0, 31).flatten(1)
    counts = torch.zeros(len(y), 32, device=y.device)
    histogram = counts.scatter_add_(1, index, torch.ones_like(index, dtype=y.dtype)) / n
    entropy = -(histogram * (histogram + 1e-9).log()).sum(1, keepdim=True)
    ends = torch.stack([(y < 4).float().mean((1, 2)), (y > 251).float().mean((1, 2)), histogram.amax(1)], 1)
    large = blocks(y)
    contrast = large.std(1, correction=0, keepdim=True)
    return torch.cat([percentiles(small), moments(small), ends.sqrt(), entropy, contrast, centre(large)], 1)


TONE_NAMES = [*_spread("luminance", False), *_moments("luminance"), "black", "white", "largest bin", "entropy",
              "large contrast", "luminance, middle"]  # fmt: skip


def colour(rgb: Tensor) -> Tensor:
    """Saturation, colourfulness (Hasler & Suesstrunk, SPIE 2003), opponent moments, and where the hues are."""
    small = F.adaptive_avg_pool2d(rgb, 64)
    top, bottom = small.amax(1), small.amin(1)
    saturation = ((top - bottom) / (top + 1)).flatten(1)
    rg, yb = (plane.flatten(1) for plane in opponent(small))
    colourfulness = (rg.var(1, correction=0) + yb.var(1, correction=0)).sqrt() + 0.3 * (
        rg.mean(1) ** 2 + yb.mean(1) ** 2
    ).sqrt()
    chroma, hue = (rg**2 + yb**2).sqrt(), torch.atan2(yb, rg)
    sectors = ((hue + torch.pi) / (2 * torch.pi) * 8).long().clamp_(0, 7)
    hues = torch.zeros(len(rgb), 8, device=rgb.device).scatter_add_(1, sectors, chroma)
    hues = hues / chroma.sum(1, keepdim=True).clamp(1)
    grid = blocks((top - bottom) / (top + 1))
    cast = torch.stack([small[:, c].flatten(1).quantile(q, 1) for c in range(3) for q in (0.02, 0.98)], 1)
    return torch.cat([percentiles(saturation), moments(saturation), centre(grid), colourfulness[:, None].log1p(),
                      moments(rg), moments(yb), hues, cast], 1)  # fmt: skip


COLOUR_NAMES = [*_spread("saturation", False), *_moments("saturation"), "saturation, middle", "colourfulness",
                *_moments("red-green"), *_moments("yellow-blue"), *(f"hue {k}" for k in range(8)),
                *(f"{c} {q} %" for c in ("red", "green", "blue") for q in (2, 98))]  # fmt: skip


def compression(rgb: Tensor) -> Tensor:
    """Steps across the 8 x 8 grid of JPEG against steps beside it, in luminance and chroma; repeated samples."""
    parts = []
    for plane in (luminance(rgb), *opponent(rgb)):
        for dim in (1, 2):
            steps = plane.diff(dim=dim).abs()
            profile = steps.mean(3 - dim)  # (N, length - 1)
            at = torch.arange(profile.shape[1], device=rgb.device) % 8
            on, off = profile[:, at == 7], profile[:, at == 3]
            means = [x.mean(1) if x.shape[1] else profile.new_zeros(len(profile)) for x in (on, off)]
            parts += [torch.log((means[0] + 0.05) / (means[1] + 0.05)), (steps < 0.5).float().mean((1, 2))]
    return torch.stack(parts, 1)


COMPRESSION_NAMES = [f"{plane}: {name} {direction}" for plane in ("luminance", "red-green", "yellow-blue")
                     for direction in ("down", "across") for name in ("block steps", "equal neighbours")]  # fmt: skip

GROUPS: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "nss": (nss, NSS_NAMES), "sharpness": (sharpness, SHARPNESS_NAMES), "tone": (tone, TONE_NAMES),
    "colour": (colour, COLOUR_NAMES), "compression": (compression, COMPRESSION_NAMES),
}  # fmt: skip
EXTENDED_NAMES = [name for _, names in GROUPS.values() for name in names]


def extended(rgb: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) in 0..255 -> (N, len(EXTENDED_NAMES))."""
    return torch.cat([function(rgb) for function, _ in GROUPS.values()], 1)
