"""NIQE (Mittal, Soundararajan & Bovik, IEEE SPL 2013): distance of a picture's patch statistics to pristine ones.

Patches of 96 x 96 at full and 48 x 48 at half size give 36 features each; pristine pictures give only patches that are
at least 0.75 as sharp as their sharpest one. Both are described by Gaussians; the distance is
sqrt((m1 - m2)' ((S1 + S2) / 2)^-1 (m1 - m2)).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.baselines.base import OneNumber
from gmiqa.data import images
from gmiqa.features.nss import features18, half, luminance, mscn

PATCH = 96
SHARP = 0.75


class NIQE(OneNumber):
    """`pristine`: the pictures its model of undistorted content is fitted to; None: the embedded photographs."""

    title = "NIQE"
    rises = False

    def __init__(self, pristine: Sequence[Any] | None = None, patch: int = PATCH, max_side: int = 512):
        self.pristine, self.patch, self.max_side = pristine, patch, max_side
        self._model: tuple[np.ndarray, np.ndarray] | None = None

    def fit_pristine(self, pictures: Sequence[Any]) -> NIQE:
        """Mean and covariance of the sharp patches of pristine pictures."""
        parts = []
        for picture in pictures:
            rows, sharpness = self._patches(picture)
            parts.append(rows[sharpness >= SHARP * sharpness.max()])
        rows = np.concatenate(parts)
        self._model = rows.mean(0), _covariance(rows)
        return self

    def distances(self, pictures: Sequence[Any]) -> np.ndarray:
        """NIQE of each picture; lower is better."""
        if self._model is None:
            from gmiqa.data.embedded import photographs

            self.fit_pristine(list(photographs().values()) if self.pristine is None else self.pristine)
        with ThreadPoolExecutor(2) as threads:
            return np.array(list(threads.map(self._distance, pictures)))

    numbers = distances

    def _distance(self, picture: Any) -> float:
        assert self._model is not None
        mean, covariance = self._model
        rows, _ = self._patches(picture)
        difference = rows.mean(0) - mean
        pooled = (covariance + _covariance(rows)) / 2
        return float(np.sqrt(max(0.0, difference @ np.linalg.pinv(pooled, hermitian=True) @ difference)))

    def _patches(self, picture: Any) -> tuple[np.ndarray, np.ndarray]:
        """(P, 36) features and (P,) sharpness of a picture's whole patches; a small picture is one patch."""
        image = images.limit(images.from_any(picture), self.max_side)
        rgb = image.float() * (255 if image.is_floating_point() else 1)
        y = luminance(rgb[None])
        side = min(self.patch, *y.shape[-2:])
        side -= side % 2 if side > 1 else 0
        height, width = (n // side * side for n in y.shape[-2:])
        y = y[:, :height, :width]
        columns = []
        sharpness = torch.zeros(0)
        with torch.inference_mode():
            for scale, size in ((1, side), (2, max(1, side // 2))):
                m, sigma = mscn(y)
                columns.append(features18(_cut(m, size)))
                if scale == 1:
                    sharpness = _cut(sigma, size).mean((1, 2))
                y = half(y)
        return torch.cat(columns, 1).double().numpy(), sharpness.numpy()


def _cut(x: Tensor, side: int) -> Tensor:
    """(1, H, W) -> (P, side, side)."""
    return x[0].unfold(0, side, side).unfold(1, side, side).reshape(-1, side, side)


def _covariance(rows: np.ndarray) -> np.ndarray:
    """Covariance of (P, 36); a single patch has none."""
    return np.cov(rows, rowvar=False) if len(rows) > 1 else np.zeros((rows.shape[1], rows.shape[1]))
