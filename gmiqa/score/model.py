"""The scoring model: a network, and what the files beside its checkpoint add to it. It turns pictures into numbers."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gmiqa.score.ensemble import FeatureEnsemble
from gmiqa.score.local_quality import LocalQuality
from gmiqa.score.prepare import SMALLEST
from gmiqa.score.result import Z90, Score, distortion_name
from gmiqa_core.errors import UserError
from gmiqa_core.prediction import as_tuned, crop_of


class ScoringModel:
    """network: a GMIQA with a score head; meta: see Scorer; folder: where the files that meta names lie."""

    def __init__(self, network: Any, meta: dict[str, Any], device: torch.device, folder: Path | None = None) -> None:
        self.network, self.meta, self.device = network.to(device).eval(), dict(meta), device
        self.branches = tuple(network.config["branches"])
        if "score" not in self.branches:
            raise UserError(
                "the model has no score head (its branches: " + ", ".join(self.branches) + "): fine-tune it first"
            )
        self.ensemble: FeatureEnsemble | None = None
        self.local_quality: LocalQuality | None = None
        if folder and self.meta.get("second_opinion"):
            self.ensemble = FeatureEnsemble.load(folder / Path(self.meta["second_opinion"]).name)
        if folder and self.meta.get("places"):
            self.local_quality = LocalQuality.load(folder / Path(self.meta["places"]).name).to(device)
        self.target: str = self.meta.get("target", "the data set of its training")
        self.max_side = int(self.meta.get("max_side", 512))
        self.network_side = int(self.meta.get("network_side", self.max_side))
        self.test_crops = as_tuned(self.meta)

    @classmethod
    def load(cls, checkpoint: Path, device: torch.device) -> ScoringModel:
        """The model of a checkpoint, and of the files beside it that it names."""
        from gmiqa_core import checkpoints

        network, meta = checkpoints.load(checkpoint, device)
        return cls(network, meta, device, checkpoint.parent)

    def inputs(self, x: Tensor) -> list[Tensor]:
        """What the network sees of pictures (n,3,h,w): the same crops of each, or the whole pictures."""
        crop, turn = self.test_crops["crop"], self.test_crops["turn"]
        crops = [torch.stack([crop_of(picture, k, crop, turn) for picture in x])
                 for k in range(self.test_crops["crops"])]
        return crops or [x]

    @torch.inference_mode()
    def forward(self, x: Tensor, longer: int = 0) -> Tensor:
        """(n,3,h,w) in [0,1], parts of pictures whose longer side is `longer` (0: whole pictures) -> (n,29): quality,
        sigma, severity (NaN without level branch), 26 probabilities (with type branch only).

        The heads see one node at a time: whatever graph the network builds, a score has no batch mates.
        """
        exact = torch.backends.cudnn.flags(True, False, deterministic=True, allow_tf32=False)
        with exact if self.device.type == "cuda" else nullcontext():
            nodes = self.network.nodes(shrunk(x, self.network_side / (longer or max(x.shape[2:]))).to(self.device))
            rows = torch.stack([self._heads(v) for v in nodes.split(1)]).double().cpu()
        if self.ensemble is not None:
            parts = zip(rows[:, :1], x.split(1), strict=True)
            rows[:, 0] = torch.cat([self.ensemble.combine(quality, picture) for quality, picture in parts])
        return rows

    def _heads(self, v: Tensor) -> Tensor:
        parts = list(self.network.score(v))
        parts += [self.network.level(v)[0] if "level" in self.branches else torch.full_like(parts[0], math.nan)]
        if "type" in self.branches:
            parts += [torch.softmax(self.network.classify(v) / float(self.meta.get("temperature", 1.0)), -1)]
        return torch.cat([part.flatten() for part in parts])

    def whole(self, x: Tensor) -> Tensor:
        """Quality (1,) in 0..1 of a picture (3,h,w) of any size, seen whole at max_side."""
        return self.forward(shrunk(x[None], self.max_side / max(x.shape[1:])))[:, 0].clamp(0, 1)

    def score(self, rows: Tensor) -> Score:
        """Rows (inputs, 29) of one picture -> its score. The Gaussians of several crops are averaged as a mixture."""
        mean = rows.mean(0)
        quality = float(mean[0].clamp(0, 1))
        spread = (rows[:, 1].square().mean() + rows[:, 0].var(unbiased=False)).sqrt()
        sigma = float(spread) * float(self.meta.get("sigma_scale", 1.0))
        grid = self.meta.get("quality_percentiles")
        percentile = float(np.interp(quality, grid, np.linspace(0, 100, len(grid)))) if grid else math.nan
        order = mean[3:].argsort(descending=True, stable=True).tolist()
        return Score(
            quality=100 * quality,
            low=100 * max(0.0, quality - Z90 * sigma),
            high=100 * min(1.0, quality + Z90 * sigma),
            sigma=100 * sigma,
            percentile=percentile,
            distortions=tuple((distortion_name(i), float(mean[3 + i])) for i in order),
            severity=float(mean[2].clamp(0, 1)),
            target=self.target,
        )


def shrunk(x: Tensor, factor: float) -> Tensor:
    """Area averaging by `factor` below 1, to SMALLEST pixels at least."""
    if factor >= 1:
        return x
    return interpolate(x, [max(SMALLEST, round(side * factor)) for side in x.shape[2:]], mode="area")
