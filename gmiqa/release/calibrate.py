"""How sure the scoring model may be: the scale of its sigma, and the temperature of its type probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa.data import images
from gmiqa.data.synthetic.distorted import shrunk
from gmiqa_core.batch import to_float
from gmiqa_core.errors import UserError
from gmiqa_core.network import Judgement
from gmiqa_core.prediction import predict

CHUNK = 16  # pictures a pass


@torch.no_grad()
def judged(model: Any, pictures: Tensor, side: int) -> Judgement:
    """All that the model says of equally large pictures (n,3,h,w) in [0,1], as `Scorer` shows them to it: 8-bit, the
    longer side at most `side`."""
    device = next(model.parameters()).device
    small = shrunk(images.to_uint8(pictures).to(device), side)
    parts = [model.judge(to_float(part)) for part in small.split(CHUNK)]
    columns: list[Any] = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
    return Judgement(*columns)


def sigma_scale(model: Any, pictures: Sequence[Tensor], quality: np.ndarray) -> float:
    """The factor that brings sigma to the errors on pictures that the network was not trained on: with it, a Gaussian
    of that width holds nine of ten scores in its 90 % interval."""
    scores = predict(model, pictures)
    return float(np.quantile(np.abs(scores.mu - quality) / scores.sigma, 0.9) / 1.6449)


def temperature(logits: Tensor, truth: Tensor, content: np.ndarray) -> tuple[float, pd.DataFrame]:
    """Temperature of the type probabilities, fitted on half of the contents, and how good they are on the other half:
    accuracy, mean top probability and expected calibration error (10 bins), `none of these` included.

    One undistorted picture of a content stands against 125 distorted ones: it counts five times.
    """
    known = sorted(set(content.tolist()))
    if len(known) < 2:
        raise UserError(f"calibration needs at least two contents that training did not see; got {len(known)}")
    rows = np.repeat(np.arange(len(truth)), np.where(truth.numpy() == 0, 5, 1))
    first = np.isin(content[rows], known[: len(known) // 2])
    fit, test = torch.from_numpy(rows[first]), torch.from_numpy(rows[~first])
    grid = torch.linspace(0.3, 4.0, 75)
    best = float(grid[int(torch.stack([F.cross_entropy(logits[fit] / t, truth[fit]) for t in grid]).argmin())])
    table = [{"probabilities": name, "temperature": t, **_quality_of(torch.softmax(logits[test] / t, -1), truth[test])}
             for name, t in (("as trained", 1.0), ("calibrated", best))]
    return best, pd.DataFrame(table)


def _quality_of(probabilities: Tensor, truth: Tensor) -> dict[str, float]:
    probability, guess = probabilities.max(-1)
    hit = (guess == truth).float()
    bins = (probability * 10).long().clamp(max=9)
    error = sum(float((hit[bins == b].mean() - probability[bins == b].mean()).abs() * (bins == b).float().mean())
                for b in bins.unique())
    return {"accuracy": float(hit.mean()), "mean probability": float(probability.mean()), "calibration error": error,
            "n": len(hit)}
