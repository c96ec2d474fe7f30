"""A second opinion on quality: hand-crafted statistics and a kernel machine, stacked with the network's score.

Trained on the same pictures as the network, it errs elsewhere, and the linear stack of both (MetaQAP's meta-learner)
is better than either where training pictures are few: docs/model_card.md has the figures. Stored as plain tensors:

    u = (features(x) - centre) / scale;   s = sum_k dual_k exp(-gamma |u - support_k|^2) + offset
    quality = w_0 + w_1 * network + w_2 * s
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa_core.checkpoints import read, write
from gmiqa_core.errors import UserError

NAMES = ("logarithmic", "centre", "scale", "support", "dual", "offset", "gamma", "weights")


class SecondOpinion:
    """features: the set of baselines.FEATURES that it reads; tensors: NAMES, see above."""

    def __init__(self, features: str, tensors: dict[str, Tensor]):
        from gmiqa.baselines import FEATURES

        if set(tensors) != set(NAMES) or features not in FEATURES:
            raise UserError(f"a second opinion needs the tensors {', '.join(NAMES)} and a known feature set")
        self.features, self.tensors = features, tensors
        self._function = FEATURES[features].function
        self._t = {name: value.double() for name, value in tensors.items()}

    def score(self, x: Tensor) -> Tensor:
        """Pictures (n,3,h,w) in [0,1] -> their quality by statistics alone, (n,)."""
        t = self._t
        rows = torch.nan_to_num(self._function(255 * x.cpu()).double(), nan=0.0, posinf=0.0, neginf=0.0)
        rows = torch.where(t["logarithmic"] > 0, (rows.clamp(min=0) + 1e-3).log(), rows)
        u = ((rows - t["centre"]) / t["scale"]).clamp(-5, 5)
        distance = torch.cdist(u, t["support"], compute_mode="donot_use_mm_for_euclid_dist").square()
        return torch.exp(-t["gamma"] * distance) @ t["dual"] + t["offset"]

    def mix(self, network: Tensor, x: Tensor) -> Tensor:
        """The stack of the network's scores (n,) of pictures x and of this opinion."""
        return self.stack(network.double().cpu(), self.score(x))

    def stack(self, network: Any, said: Any) -> Any:
        """Scores of the network and of this opinion, tensors or numbers -> the stack's."""
        w = self._t["weights"].tolist()
        return w[0] + w[1] * network + w[2] * said

    @classmethod
    def of(cls, fitted: Any, network: np.ndarray, opinion: np.ndarray, quality: np.ndarray) -> SecondOpinion:
        """From a fitted baselines.FeatureSVR, and what network and opinion said of pictures that neither had seen.
        Neither counts against its own word: no weight is below 0."""
        from sklearn.linear_model import LinearRegression

        line = LinearRegression(positive=True).fit(np.column_stack([network, opinion]), quality)
        weights = np.r_[line.intercept_, line.coef_]
        model = fitted.model
        arrays = {"logarithmic": fitted.logarithmic.astype(np.float32), "centre": fitted.centre, "scale": fitted.scale,
                  "support": model.support_vectors_, "dual": model.dual_coef_[0], "offset": model.intercept_,
                  "gamma": np.array([model._gamma]), "weights": weights}
        return cls(fitted.features, {name: torch.tensor(np.asarray(a), dtype=torch.float32).contiguous()
                                     for name, a in arrays.items()})

    def save(self, path: Path) -> None:
        half = {name: value.half() if name == "support" else value for name, value in self.tensors.items()}
        write(path, half, features=self.features, what="gmiqa second opinion")

    @classmethod
    def load(cls, path: Path) -> SecondOpinion:
        tensors, header = read(path, "second opinion, which belongs beside the checkpoint that names it")
        return cls(header.get("features", ""), tensors)
