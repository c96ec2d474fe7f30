"""Types 16 to 18, 22 and 25: curves, mean shift and quantisation of the tone."""

import functools

import numpy as np
import torch
from torch import Tensor

from gmiqa.data.distortions.colourspaces import lab_to_rgb, rgb_to_lab


def _parabola(x: Tensor, middle: float) -> Tensor:
    """The curve through (0,0) (.5,middle) (1,1), clipped: a spline through three points is their parabola."""
    b = 4 * middle - 1
    return ((1 - b) * x * x + b * x).clamp(0, 1)


def brighten(x: Tensor, amount: float) -> Tensor:
    """(2 * curve of RGB + curve of Lab's L) / 3, the curve through (.5, .5 + amount/2)."""
    lab = rgb_to_lab(x)
    lightness = 100 * _parabola(lab[:, :1] / 100, 0.5 + amount / 2)
    return (2 * _parabola(x, 0.5 + amount / 2) + lab_to_rgb(torch.cat([lightness, lab[:, 1:]], dim=1))) / 3


def darken(x: Tensor, amount: float) -> Tensor:
    """The curve through (.5, .5 - amount/2), on RGB only."""
    return _parabola(x, 0.5 - amount / 2)


def mean_shift(x: Tensor, shift: float) -> Tensor:
    return (x + shift).clamp(0, 1)


def quantisation(x: Tensor, thresholds: float) -> Tensor:
    """Multi-level Otsu over all channels of an image: that many thresholds, each class replaced by its mean
    but for the outer two, which take the picture's own ends: a stretch afterwards then changes nothing.

    The thresholds maximise the variance between classes. For a histogram of 256 bins with cumulative mass P and first
    moment S, a class (i, j] adds (S_j - S_i)^2 / (P_j - P_i); dynamic programming over the last threshold finds the
    optimum in thresholds * 256^2 steps.
    """
    n, bins = len(x), 256
    codes = (x * (bins - 1)).round().long().clamp(0, bins - 1).flatten(1)
    offsets = bins * torch.arange(n, device=x.device)[:, None]
    histogram = torch.bincount((codes + offsets).flatten(), minlength=n * bins).reshape(n, bins).double()
    zero = histogram.new_zeros(n, 1)
    mass = torch.cat([zero, histogram.cumsum(1)], dim=1)
    moment = torch.cat([zero, (histogram * torch.arange(bins, device=x.device)).cumsum(1)], dim=1)
    difference = mass[:, None, :] - mass[:, :, None]
    gain = (moment[:, None, :] - moment[:, :, None]) ** 2 / difference.clamp(min=1)
    # A class ends after it starts; -1 (worse than any gain) forbids the rest.
    gain = torch.where(torch.ones_like(gain[0], dtype=torch.bool).triu(1), gain, -torch.inf)
    best = gain[:, 0, :]
    arguments: list[Tensor] = []
    for _ in range(int(thresholds)):
        best, argument = (best[:, :, None] + gain).max(dim=1)
        arguments.append(argument)
    edge = torch.full((n,), bins, device=x.device)
    table = torch.zeros(n, bins, device=x.device)
    levels = torch.arange(bins, device=x.device)
    rows = torch.arange(n, device=x.device)
    for argument in [*reversed(arguments), torch.zeros_like(best, dtype=torch.long)]:
        start = argument[rows, edge]
        mean = (moment[rows, edge] - moment[rows, start]) / (mass[rows, edge] - mass[rows, start]).clamp(min=1)
        inside = (levels >= start[:, None]) & (levels < edge[:, None])
        table = torch.where(inside, mean[:, None].float() / (bins - 1), table)
        edge = start
    values = table.gather(1, codes)
    low, high = torch.aminmax(values, dim=1, keepdim=True)
    first, last = torch.aminmax(x.flatten(1), dim=1, keepdim=True)
    return torch.where(values == low, first, torch.where(values == high, last, values)).reshape(x.shape)


@functools.cache
def _contrast_cubics(amount: float) -> np.ndarray:
    """(2,4) coefficients, cubic first, of the not-a-knot spline through the five points: one cubic each side of 1/2."""

    def row(t: float, derivative: int = 0) -> list[float]:
        return [[t**3, t**2, t, 1.0], [3 * t**2, 2 * t, 1.0, 0.0], [6 * t, 2.0, 0.0, 0.0]][derivative]

    nothing = [0.0] * 4
    lines = [row(t) + nothing for t in (0.0, 0.3, 0.5)] + [nothing + row(t) for t in (0.5, 0.7, 1.0)]
    lines += [row(0.5, d) + [-v for v in row(0.5, d)] for d in (1, 2)]
    values = [0.0, 0.25 - amount / 4, 0.5, 0.5, 0.75 + amount / 4, 1.0, 0.0, 0.0]
    return np.linalg.solve(np.array(lines), np.array(values)).reshape(2, 4)


def contrast_change(x: Tensor, amount: float) -> Tensor:
    """Spline through (0,0) (.3,.25-amount/4) (.5,.5) (.7,.75+amount/4) (1,1), clipped."""

    def cubic(coefficients: np.ndarray) -> Tensor:
        a, b, c, d = map(float, coefficients)
        return ((a * x + b) * x + c) * x + d

    dark, bright = _contrast_cubics(amount)
    return torch.where(x < 0.5, cubic(dark), cubic(bright)).clamp(0, 1)
