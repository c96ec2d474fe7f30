"""Hand-crafted features and a support vector machine: BRISQUE, and the extended set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gmiqa.baselines.base import Baseline
from gmiqa.baselines.extraction import matrix
from gmiqa.features import FEATURES


class FeatureSVR(Baseline):
    """Standardised features, clipped at 5 deviations, and epsilon-SVR with a radial kernel.

    Features that are skewed and never negative (mostly variances) enter as logarithms.
    features   the name of one of gmiqa.features.FEATURES
    C, gamma   None: the best of a small grid by 3-fold cross-validation on the training part; gamma is in units of
               1 / number of features
    weights    those of the pictures given to fit; None: all equal
    """

    weights: np.ndarray | None = None

    def __init__(
        self, features: str, title: str = "", C: float | None = None, gamma: float | None = None, epsilon: float = 0.05,
        max_side: int = 512, cache: str | Path | None = None, seed: int = 0,
    ):  # fmt: skip
        self.features, self.title = features, title or f"{features} + SVR"
        self.C, self.gamma, self.epsilon = C, gamma, epsilon
        self.max_side, self.cache, self.seed = max_side, cache, seed

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        from sklearn.svm import SVR

        x = matrix(pictures, self.features, self.max_side, self.cache)
        spread = x.std(0)
        skewness = ((x - x.mean(0)) ** 3).mean(0) / np.maximum(spread, 1e-9) ** 3
        self.logarithmic = (x.min(0) >= 0) & (skewness > 1)
        x = self._logarithms(x)
        self.centre, self.scale = x.mean(0), x.std(0)
        self.scale[self.scale < 1e-9] = 1.0
        z = ((x - self.centre) / self.scale).clip(-5, 5)
        self.chosen = self._choose(z, quality)
        self.model = SVR(**self._arguments(*self.chosen), cache_size=500).fit(z, quality, self.weights)

    def _predict(self, pictures: list[Any]) -> np.ndarray:
        x = self._logarithms(matrix(pictures, self.features, self.max_side, self.cache))
        return self.model.predict(((x - self.centre) / self.scale).clip(-5, 5))

    def _logarithms(self, x: np.ndarray) -> np.ndarray:
        return np.where(self.logarithmic, np.log(np.maximum(x, 0) + 1e-3), x)

    def _arguments(self, C: float, gamma: float) -> dict[str, Any]:
        return {"kernel": "rbf", "C": C, "gamma": gamma / len(FEATURES[self.features].names), "epsilon": self.epsilon}

    def _choose(self, z: np.ndarray, quality: np.ndarray) -> tuple[float, float]:
        """C and gamma; the grid is searched on 1,500 training pictures at most."""
        grid_C = (0.3, 1.0, 3.0) if self.C is None else (self.C,)
        grid_gamma = (0.1, 0.3, 1.0) if self.gamma is None else (self.gamma,)
        if len(grid_C) * len(grid_gamma) == 1 or len(quality) < 12:
            return grid_C[len(grid_C) // 2], grid_gamma[len(grid_gamma) // 2]
        from sklearn.model_selection import GridSearchCV, KFold
        from sklearn.svm import SVR

        some = np.random.default_rng(self.seed).permutation(len(quality))[:1500]
        d = len(FEATURES[self.features].names)
        grid = {"C": list(grid_C), "gamma": [gamma / d for gamma in grid_gamma]}
        folds = KFold(3, shuffle=True, random_state=self.seed)
        search = GridSearchCV(SVR(epsilon=self.epsilon), grid, cv=folds, scoring="neg_mean_squared_error", refit=False)
        search.fit(z[some], quality[some])
        return float(search.best_params_["C"]), float(search.best_params_["gamma"] * d)
