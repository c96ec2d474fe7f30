"""Checkpoints with a second opinion and a network of places beside them (ensemble.py, local_quality.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmiqa.score import quality_map as maps
from gmiqa.score.ensemble import FeatureEnsemble
from gmiqa.score.local_quality import LocalQuality
from gmiqa.score.prepare import prepare
from gmiqa.torch_engine import TorchEngine

LARGEST = 640  # longer side of the picture that the network of places sees


class LegacyEngine(TorchEngine):
    """second_opinion and places in `meta` name files in `folder`."""

    def __init__(self, network: Any, meta: dict[str, Any], device: str, folder: Path) -> None:
        super().__init__(network, meta, device)
        second, places = (self.meta.get(name) for name in ("second_opinion", "places"))
        self.ensemble = FeatureEnsemble.load(folder / Path(second).name) if second else None
        self.local_quality = LocalQuality.load(folder / Path(places).name).to(self._device) if places else None

    def judge(self, x: np.ndarray) -> dict[str, np.ndarray]:
        judged = super().judge(x)
        if self.ensemble is None:
            return judged
        return judged | {"mu": self.ensemble.combine(torch.from_numpy(judged["mu"]), torch.from_numpy(x)).numpy()}

    def quality_map(self, scorer: Any, picture: Any) -> maps.QualityMap:
        """The network of places sees the picture at up to LARGEST px."""
        prepared = prepare(picture, LARGEST)
        small = prepare(prepared.x, scorer.model.max_side)
        assert self.local_quality is not None
        severity = scorer._pool.submit(self.local_quality.severity, torch.from_numpy(prepared.x)).result()
        judged = scorer._pool.submit(scorer.model.judge, small.x[None]).result()
        return maps.QualityMap(maps.shared_out(float(judged["mu"][0]), severity.numpy()), prepared.width,
                               prepared.height)


def load_checkpoint(path: Path, device: str) -> TorchEngine:
    """The engine of a checkpoint."""
    from gmiqa_core import checkpoints

    network, meta = checkpoints.load(path)
    if meta.get("second_opinion") or meta.get("places"):
        return LegacyEngine(network, meta, device, path.parent)
    return TorchEngine(network, meta, device)
