"""How well predictions agree with human scores: each formula once, for many resamples at a time.

Every metric is written for a matrix of weights W (B, n): row b says how often each picture is in resample b, and a row
of ones is the plain value. So value, interval and paired difference share one formula, and no resample is sorted.

    SROCC   Pearson correlation of mid-ranks                                 (Spearman 1904; ties get their mean rank)
    PLCC    Pearson correlation
    PLCC after the logistic   f(x) = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2   (VQEG 2000), fitted by least squares
    KROCC   tau-b = (concordant - discordant) / sqrt((n0 - ties_x)(n0 - ties_y))     (Kendall 1945)
    RMSE    in the unit of the target
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

Array = np.ndarray
CELLS = 2_000_000  # numbers held in memory at once


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def _plcc(W: Array, x: Array, y: Array) -> Array:
    total = W.sum(1)
    x, y = x - x.mean(), y - y.mean()
    # rounding leaves a constant resample with a variance near 1e-32 of the largest square: that is zero
    floor = 1e-26 * total**2 * np.abs(x).max() ** 2 * np.abs(y).max() ** 2
    x = x - ((W * x).sum(1) / total)[:, None]
    y = y - ((W * y).sum(1) / total)[:, None]
    square = (W * x * x).sum(1) * (W * y * y).sum(1)
    return np.clip(_ratio((W * x * y).sum(1), np.where(square > floor, np.sqrt(square), 0.0)), -1, 1)


def _ranks(W: Array, x: Array) -> Array:
    """Mid-ranks (B, n) of x within each resample: copies and ties share the mean of the ranks that they fill."""
    values, which = np.unique(x, return_inverse=True)
    counts = np.zeros((len(values), len(W)))
    np.add.at(counts, which, W.T)
    upto = counts.cumsum(0)
    return (upto - (counts - 1) / 2)[which].T


def _srocc(W: Array, x: Array, y: Array) -> Array:
    middle = (W.sum(1, keepdims=True) + 1) / 2
    x, y = _ranks(W, x) - middle, _ranks(W, y) - middle
    return np.clip(_ratio((W * x * y).sum(1), np.sqrt((W * x * x).sum(1) * (W * y * y).sum(1))), -1, 1)


def _krocc(W: Array, x: Array, y: Array) -> Array:
    kind = np.float32 if W.sum(1).max() < 4000 else np.float64  # sums of whole numbers below 2^24 are exact in float32
    weights = W.astype(kind)
    agree, differ_x, differ_y = np.zeros((3, len(W)))
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) ** 2 // CELLS)):
        dx, dy = np.sign(x[rows, None] - x), np.sign(y[rows, None] - y)
        for sums, pairs in ((agree, dx * dy), (differ_x, dx * dx), (differ_y, dy * dy)):
            sums += (W[:, rows] * (weights @ pairs.T.astype(kind))).sum(1)
    return np.clip(_ratio(agree, np.sqrt(differ_x) * np.sqrt(differ_y)), -1, 1)


def _rmse(W: Array, x: Array, y: Array) -> Array:
    return np.sqrt((W * (x - y) ** 2).sum(1) / W.sum(1))


def _plcc_logistic(W: Array, x: Array, y: Array) -> Array:
    """The logistic is refitted to every resample; its slope keeps its sign, so a reversed prediction stays negative."""
    beta = fit(W, x, y)
    curve = curve_of(x, beta[:, :, None])
    total = W.sum(1, keepdims=True)
    curve = curve - (W * curve).sum(1, keepdims=True) / total
    target = y - (W * y).sum(1, keepdims=True) / total
    below = np.sqrt((W * curve**2).sum(1) * (W * target**2).sum(1))
    value = np.clip(_ratio((W * curve * target).sum(1), np.where(below > 1e-14, below, 0.0)), -1, 1)
    return value * np.sign(beta[:, 0] - beta[:, 1])


def curve_of(x: Array, beta: Array) -> Array:
    """beta (..., 4, 1) -> f(x) (..., n)."""
    b1, b2, b3, b4 = (beta[..., k, :] for k in range(4))
    return (b1 - b2) * special.expit((x - b3) / np.abs(b4)) + b2


def logistic(x: Any, beta: Any) -> Array:
    """(b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2."""
    return curve_of(np.asarray(x, float).reshape(-1), np.asarray(beta, float)[:, None])


def fit(W: Array, x: Array, y: Array, steps: int = 200) -> Array:
    """Weighted least squares for all resamples together (Levenberg-Marquardt) -> beta (B, 4), in the units of x and y.

    The first row of ones is fitted alone from the usual start; the others start from its result.
    """
    scale_x, scale_y = (x.std() or 1.0), (y.std() or 1.0)
    u, v = (x - x.mean()) / scale_x, (y - y.mean()) / scale_y
    rising = float((u * v).mean()) >= 0
    start = np.array([v.max() if rising else v.min(), v.min() if rising else v.max(), 0.0, 1.0])
    whole = _levenberg(np.ones((1, len(u))), u, v, start[None], steps)
    beta = whole if len(W) == 1 and (W == 1).all() else _levenberg(W, u, v, np.repeat(whole, len(W), 0), 12)
    heights = beta[:, :2] * scale_y + y.mean()
    return np.column_stack([heights, beta[:, 2] * scale_x + x.mean(), np.abs(beta[:, 3]) * scale_x])


def _levenberg(W: Array, x: Array, y: Array, beta: Array, steps: int) -> Array:
    damping = np.full(len(W), 1e-2)
    loss = (W * (curve_of(x, beta[:, :, None]) - y) ** 2).sum(1)
    for _ in range(steps):
        b1, b2, b3, b4 = (beta[:, k, None] for k in range(4))
        t = (x - b3) / np.abs(b4)
        s = special.expit(t)
        slope = (b1 - b2) * s * (1 - s) / np.abs(b4)
        J = np.stack([s, 1 - s, -slope, -slope * t * np.sign(b4)], 2)  # (B, n, 4): df / d beta
        WJ = W[:, :, None] * J
        A = np.einsum("bni,bnj->bij", WJ, J)
        g = np.einsum("bni,bn->bi", WJ, y - ((b1 - b2) * s + b2))
        diagonal = np.einsum("bii->bi", A)
        A = A + np.eye(4) * (damping[:, None] * (diagonal + 1e-9))[:, :, None]
        trial = beta + np.linalg.solve(A, g[:, :, None])[:, :, 0]
        trial[:, 3] = np.where(np.abs(trial[:, 3]) < 1e-3, 1e-3, trial[:, 3])  # steeper than that is a step
        new = (W * (curve_of(x, trial[:, :, None]) - y) ** 2).sum(1)
        better = new < loss
        gain = np.where(better, loss - new, 0.0)
        beta, loss = np.where(better[:, None], trial, beta), np.where(better, new, loss)
        damping = np.clip(np.where(better, damping / 4, damping * 4), 1e-10, 1e10)
        if (gain <= 1e-12 * (loss + 1e-12)).all() and (better | (damping > 1e6)).all():
            break
    return beta


def fisher(r: Array) -> Array:
    """arctanh: the scale on which a correlation's error is nearly normal."""
    return np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))


@dataclass(frozen=True)
class Metric:
    name: str
    title: str
    weighted: Callable[[Array, Array, Array], Array]
    higher_is_better: bool = True
    least: int = 3  # pairs needed
    needs_spread: bool = True  # not defined for a constant
    scale: Callable[[Array], Array] = fisher  # intervals are symmetric on it
    unscale: Callable[[Array], Array] = np.tanh


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("srocc", "SROCC", _srocc),
        Metric("plcc", "PLCC", _plcc),
        Metric("plcc_logistic", "PLCC (logistic)", _plcc_logistic, least=5),
        Metric("krocc", "KROCC", _krocc),
        Metric("rmse", "RMSE", _rmse, higher_is_better=False, least=1, needs_spread=False, scale=np.asarray,
               unscale=np.asarray),
    )
}
