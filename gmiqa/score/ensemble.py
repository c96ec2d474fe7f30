"""The network's score, stacked with that of a support vector regression on hand-crafted features.

The regression is trained on the same pictures as the network, but its errors are others. So where training pictures are
few, the linear stack of both (MetaQAP's meta-learner) is better than either: docs/model_card.md has the figures. It is
stored as plain tensors:

    u = (features(x) - centre) / scale;   s = sum_k dual_k exp(-gamma |u - support_k|^2) + offset
    quality = w_0 + w_1 * network + w_2 * s
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.features import FEATURES
from gmiqa_core.checkpoints import read, write
from gmiqa_core.errors import UserError

NAMES = ("logarithmic", "centre", "scale", "support", "dual", "offset", "gamma", "weights")
WHAT = "second opinion, which belongs beside the checkpoint that names it"


class FeatureEnsemble:
    """features: name of the feature set, one of FEATURES; tensors: NAMES, see above."""

    def __init__(self, features: str, tensors: dict[str, Tensor]):
        if set(tensors) != set(NAMES) or features not in FEATURES:
            raise UserError(f"a second opinion needs the tensors {', '.join(NAMES)} and a known feature set")
        self.features, self.tensors = features, tensors
        self._function = FEATURES[features].function
        self._double = {name: value.double() for name, value in tensors.items()}

    def regress(self, x: Tensor) -> Tensor:
        """Pictures (n,3,h,w) in [0,1] -> their quality by the features alone, (n,)."""
        t = self._double
        rows = torch.nan_to_num(self._function(255 * x.cpu()).double(), nan=0.0, posinf=0.0, neginf=0.0)
        rows = torch.where(t["logarithmic"] > 0, (rows.clamp(min=0) + 1e-3).log(), rows)
        u = ((rows - t["centre"]) / t["scale"]).clamp(-5, 5)
        distance = torch.cdist(u, t["support"], compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.exp(-t["gamma"] * distance) @ t["dual"] + t["offset"]

    def combine(self, network: Tensor, x: Tensor) -> Tensor:
        """The network's scores (n,) of pictures x, and the pictures -> the stack's scores."""
        return self.stack(network.double().cpu(), self.regress(x))

    def stack(self, network: Any, regression: Any) -> Any:
        """Scores of the network and of the regression, tensors or arrays -> the stack's."""
        w = self._double["weights"].tolist()
        return w[0] + w[1] * network + w[2] * regression

    @classmethod
    def fit(cls, svr: Any, network: np.ndarray, regression: np.ndarray, quality: np.ndarray) -> FeatureEnsemble:
        """From a fitted baselines.FeatureSVR, and the scores that network and regression gave to pictures that neither
        was trained on. No weight is negative: a higher score of either never lowers the stack's."""
        from sklearn.linear_model import LinearRegression

        line = LinearRegression(positive=True).fit(np.column_stack([network, regression]), quality)
        weights = np.r_[line.intercept_, line.coef_]
        machine = svr.model
        arrays = {"logarithmic": svr.logarithmic.astype(np.float32), "centre": svr.centre, "scale": svr.scale,
                  "support": machine.support_vectors_, "dual": machine.dual_coef_[0], "offset": machine.intercept_,
                  "gamma": np.array([machine._gamma]), "weights": weights}
        return cls(svr.features, {name: torch.tensor(np.asarray(a), dtype=torch.float32).contiguous()
                                  for name, a in arrays.items()})

    def save(self, path: Path) -> None:
        half = {name: value.half() if name == "support" else value for name, value in self.tensors.items()}
        write(path, half, features=self.features, what="gmiqa second opinion")

    @classmethod
    def load(cls, path: Path) -> FeatureEnsemble:
        tensors, header = read(path, WHAT)
        return cls(header.get("features", ""), tensors)
