"""From the network's numbers to a score: crops, calibration, percentile."""

from __future__ import annotations

import math

import numpy as np

from gmiqa.score.crops import crops, shrunk
from gmiqa.score.engine import Engine
from gmiqa.score.result import Z90, Score

Judged = dict[str, np.ndarray]


class ScoringModel:
    """An engine and what its `meta` says about its scores, see Scorer."""

    def __init__(self, engine: Engine) -> None:
        self.engine, meta = engine, engine.meta
        self.target: str = meta.get("target", "the data set of its training")
        self.max_side = int(meta.get("max_side", 512))
        self.network_side = int(meta.get("network_side", self.max_side))

    def inputs(self, x: np.ndarray) -> list[np.ndarray]:
        """What the network sees of a picture (3,h,w): (1,3,...) each."""
        return crops(x, self.engine.meta)

    def judge(self, x: np.ndarray, longer: int = 0) -> Judged:
        """(1,3,h,w) in [0,1], a part of a picture whose longer side is `longer` (0: the whole of it) -> see engine."""
        return self.engine.judge(shrunk(x, self.network_side / (longer or max(x.shape[2:]))))

    def score(self, judged: list[Judged]) -> Score:
        """What the network says about the inputs of one picture -> its score. Several are averaged as a mixture."""
        meta = self.engine.meta
        mu, sigmas = (np.concatenate([one[name] for one in judged]).astype(float) for name in ("mu", "sigma"))
        quality = float(mu.mean().clip(0, 1))
        sigma = math.sqrt(np.square(sigmas).mean() + mu.var()) * float(meta.get("sigma_scale", 1.0))
        grid = meta.get("quality_percentiles")
        percentile = float(np.interp(quality, grid, np.linspace(0, 100, len(grid)))) if grid else math.nan
        severity = np.mean([one["severity"] for one in judged]) if "severity" in judged[0] else math.nan
        return Score(
            quality=100 * quality,
            low=100 * max(0.0, quality - Z90 * sigma),
            high=100 * min(1.0, quality + Z90 * sigma),
            sigma=100 * sigma,
            percentile=percentile,
            distortions=self._named(judged) if "types" in judged[0] else (),
            severity=float(np.clip(severity, 0, 1)),
            target=self.target,
        )

    def _named(self, judged: list[Judged]) -> tuple[tuple[str, float], ...]:
        """(name, probability), most probable first."""
        logits = np.concatenate([one["types"] for one in judged]).astype(float)
        powers = np.exp((logits - logits.max(1, keepdims=True)) / float(self.engine.meta.get("temperature", 1.0)))
        shares = (powers / powers.sum(1, keepdims=True)).mean(0)
        return tuple((self.engine.meta["names"][i], float(shares[i])) for i in np.argsort(-shares, kind="stable"))
