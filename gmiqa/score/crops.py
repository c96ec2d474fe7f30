"""What the network sees of a picture: crops as its tests took them, and smaller copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmiqa.score.prepare import SMALLEST


def crops(x: np.ndarray, meta: dict[str, Any]) -> list[np.ndarray]:
    """The inputs (1,3,h,w) for a picture (3,h,w): the `views` crops of side `crop` with which the network was tested,
    always the same ones; the whole picture where it was tested on whole pictures."""
    crop = int(meta.get("crop") or 0)
    views = int(meta.get("views") or 0) if crop else 0
    return [crop_of(x, k, crop, bool(meta.get("turn")))[None] for k in range(views)] or [x[None]]


def crop_of(x: np.ndarray, k: int, crop: int, turn: bool) -> np.ndarray:
    """Crop k of a picture, mirrored half of the time; with `turn`, turned by k quarter turns. The same part as
    gmiqa_core.prediction.crop_of takes."""
    rng = np.random.default_rng((0, 0, k))
    height, width = (min(crop, side) for side in x.shape[1:])
    top, left = (int(rng.integers(n - size + 1)) for n, size in zip(x.shape[1:], (height, width), strict=True))
    part = x[:, top : top + height, left : left + width]
    part = part[..., ::-1] if rng.random() < 0.5 else part
    return np.ascontiguousarray(np.rot90(part, k, (1, 2)) if turn else part)


def shrunk(x: np.ndarray, factor: float) -> np.ndarray:
    """Area averaging of (...,h,w) by `factor` below 1, to SMALLEST pixels at least; bins may share a pixel."""
    if factor >= 1:
        return x
    for axis in (-2, -1):
        side = x.shape[axis]
        new = max(SMALLEST, round(side * factor))
        first, last = np.arange(new) * side // new, -(-(np.arange(new) + 1) * side // new)
        sums = np.cumsum(x, axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        count = (last - first).reshape((-1, 1) if axis == -2 else (-1,))
        x = ((sums.take(last, axis) - sums.take(first, axis)) / count).astype(np.float32)
    return x
