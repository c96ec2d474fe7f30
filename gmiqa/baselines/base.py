"""What every method that we compare with can do: fit(pictures, quality), predict(pictures)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from gmiqa_core.errors import UserError

Self = TypeVar("Self", bound="Baseline")


class Baseline:
    """Pictures are paths, bytes, PIL images, arrays or tensors (3, H, W); quality lies in [0, 1], higher is better.

    `title` is its name in tables; `learns` says what it takes from the training part: "nothing", "scale" (a line from
    its own number to quality, so that only its order counts) or "scores".
    """

    title = ""
    learns = "scores"

    def fit(self: Self, pictures: Sequence[Any], quality: Iterable[float]) -> Self:
        """Learn from scored pictures; returns itself."""
        pictures, target = list(pictures), np.asarray(list(quality), dtype=np.float64)
        if len(pictures) != len(target) or not len(target):
            raise UserError(f"{self.title}: {len(pictures)} pictures and {len(target)} scores to learn from")
        if not np.isfinite(target).all():
            raise UserError(f"{self.title}: {(~np.isfinite(target)).sum()} of {len(target)} scores are not numbers")
        self._fit(pictures, target)
        self.fitted = True
        return self

    def predict(self, pictures: Sequence[Any]) -> np.ndarray:
        """Quality of each picture, float64 (n,)."""
        if not getattr(self, "fitted", False):
            raise UserError(f"{self.title}: call fit before predict")
        pictures = list(pictures)
        return np.asarray(self._predict(pictures), dtype=np.float64) if pictures else np.zeros(0)

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        raise NotImplementedError

    def _predict(self, pictures: list[Any]) -> np.ndarray:
        raise NotImplementedError


class OneNumber(Baseline):
    """A method that gives each picture one number; a straight line, fitted by least squares, turns it into quality."""

    learns = "scale"
    rises: bool | None = None  # a higher number means a better picture; None: the training part decides

    def numbers(self, pictures: list[Any]) -> np.ndarray:
        """(n,) the method's own number of each picture."""
        raise NotImplementedError

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        x = self.numbers(pictures)
        spread = x.std()
        varies = spread > 1e-12 * max(1.0, np.abs(x).max())  # a constant's spread is not quite 0
        self.slope = float(((x - x.mean()) * (quality - quality.mean())).mean() / spread**2) if varies else 0.0
        if varies and self.rises is not None and (self.slope > 0) != self.rises:
            # the method claims a direction: a training part that contradicts it sets the scale, but not the order
            self.slope = (1 if self.rises else -1) * float(quality.std() / spread)
        self.offset = float(quality.mean() - self.slope * x.mean())

    def _predict(self, pictures: list[Any]) -> np.ndarray:
        return self.offset + self.slope * self.numbers(pictures)
