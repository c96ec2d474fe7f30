"""Statistics of block DCT coefficients: how much contrast a picture has at each of 64 spatial frequencies.

Saad, Bovik & Charrier, "Blind image quality assessment: a natural scene statistics approach in the DCT domain", IEEE
TIP 2012, model these coefficients; here mean, deviation and outer deciles of log |c| over the 8x8 blocks stand for the
model, in luminance and both colour differences, at full, half and quarter size.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, SCALES = 8, 3
COLOUR = (0, 1, 2, 3, 8, 9, 10, 16, 17, 24)  # frequencies kept of the colour differences, row by row
DECILES = tuple(range(1, 16, 2))  # frequencies whose outer deciles are kept too
EPS = 2.0  # of 255: below that a coefficient is rounding


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """(64,1,8,8): the orthonormal DCT-II of an 8x8 block."""
    k = torch.arange(SIDE, dtype=torch.float64)
    basis = torch.cos(math.pi / SIDE * (k + 0.5) * k[:, None]) * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    return torch.einsum("ui,vj->uvij", basis, basis).reshape(SIDE**2, 1, SIDE, SIDE).float()


def log_dct(rgb: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) in 0..255 -> (N, len(NAMES))."""
    mix = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], device=rgb.device)
    x = torch.einsum("cd,ndhw->nchw", mix, rgb)
    parts = []
    for _ in range(SCALES):
        h, w = x.shape[2:]
        if min(h, w) < SIDE:
            x = F.pad(x, (0, max(0, SIDE - w), 0, max(0, SIDE - h)), mode="replicate")
        n = x.shape[0]
        planes = F.conv2d(x.flatten(0, 1)[:, None], _filters().to(x), stride=SIDE).view(n, 3, SIDE**2, -1)
        logs = torch.log(planes.abs() + EPS)
        for channel, kept in enumerate((range(SIDE**2), COLOUR, COLOUR)):
            part = logs[:, channel, list(kept)]
            parts += [part.mean(2), part.std(2, correction=0)]
        parts += [torch.quantile(logs[:, 0, list(DECILES)], q, dim=2) for q in (0.1, 0.9)]
        level = planes[:, :, 0] / SIDE
        parts += [level.mean(2), level.std(2, correction=0)]
        x = F.avg_pool2d(x, 2) if min(x.shape[2:]) >= 2 else x
    return torch.cat(parts, 1)


def _names() -> list[str]:
    names: list[str] = []
    for scale in (1, 2, 4):
        for plane, kept in (("luminance", range(SIDE**2)), ("blue", COLOUR), ("red", COLOUR)):
            names += [f"{plane} {scale}: {what} of frequency {k // SIDE},{k % SIDE}" for what in ("mean", "deviation")
                      for k in kept]
        names += [f"luminance {scale}: {q} % of frequency {k // SIDE},{k % SIDE}" for q in (10, 90) for k in DECILES]
        names += [f"{plane} {scale}: {what} level" for what in ("mean", "deviation")
                  for plane in ("luminance", "blue", "red")]
    return names


NAMES = _names()
