"""What a scoring model does with pictures that nobody scored: does a score fall with severity, does the map find it?

Severity: every type and level of every content, against KADID-10k's mean score of that cell. Map: one quadrant of a
picture is distorted at level 5, types and quadrants in turn; a hit is a worst place inside it (chance 0.25).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa import evaluate
from gmiqa.data import synthetic
from gmiqa.data.distortions import TYPES, calibration, distort
from gmiqa.torch_engine import NAMES

Judge = Callable[[Tensor], tuple[np.ndarray, np.ndarray]]  # (n,3,h,w) in [0,1] -> scores and types, 0..25, of each
ORDERED = [t.id for t in TYPES if t.id not in calibration.UNORDERED]  # types whose levels are severities


def cells(judge: Judge, contents: Sequence[Any], device: str | torch.device = "cpu") -> pd.DataFrame:
    """One row for each cell of each content: its type, level, KADID-10k's score, the model's, the type it named."""
    parts = []
    for number, batch in enumerate(synthetic.test_batches(contents, types=range(26), device=device)):
        score, named = judge(batch.images)
        parts.append(pd.DataFrame({"content": number, "type": batch.type.cpu().numpy(), "level": batch.level.cpu(),
                                   "cell": batch.quality.cpu().numpy(), "score": score, "named": named}))
    return pd.concat(parts, ignore_index=True)


def falling(frame: pd.DataFrame) -> dict[str, Any]:
    """What the rows of `cells` say, by name. A cell's mean score is that over contents."""
    agreement = evaluate.metrics(frame["score"], frame["cell"], frame["content"].to_numpy()).loc["srocc"]
    clean = frame[frame["level"] == 0].set_index("content")["score"]
    strong = frame[frame["level"] == 5]
    mean = frame[frame["level"] > 0].groupby(["type", "level"])[["score", "cell"]].mean()
    follows = mean.groupby(level="type").apply(lambda g: g["score"].corr(g["cell"], method="spearman"))
    by_level = mean["score"].unstack("level").loc[ORDERED]
    steps = by_level.diff(axis=1).iloc[:, 1:] < 0
    distorted = frame[frame["level"] > 0]
    return {
        "pictures": len(frame), "srocc": agreement.value, "srocc low": agreement.low, "srocc high": agreement.high,
        "named": (frame["named"] == frame["type"]).mean(),
        "distorted named": (distorted["named"] == distorted["type"]).mean(),
        "undistorted named none": (frame[frame["level"] == 0]["named"] == 0).mean(),
        "level 5 below original": (strong["score"] < strong["content"].map(clean)).mean(), "level 5": len(strong),
        "types that follow": int((follows >= 0.9).sum()),
        "not following": [NAMES[int(k)] for k in follows.index[follows < 0.9]],
        "rising": [NAMES[int(k)] for k in by_level.index[by_level[5] >= by_level[1]]],
        "falling steps": int(steps.to_numpy().sum()), "steps": steps.size,
    }


def quadrants(worst: Callable[[Tensor], Sequence[tuple[int, int]]], contents: Sequence[Any],
              device: str | torch.device = "cpu") -> pd.DataFrame:
    """Whether the worst places (x, y) of pictures (n,3,h,w) lie in their distorted quadrant, for each content and type.
    """
    hits = []
    for number, content in enumerate(contents):
        x = next(synthetic.test_batches([content], types=[0], device=device)).images
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        x = x.expand(len(TYPES), -1, -1, -1)
        spoiled, strong = x.clone(), distort(x, [kind.id for kind in TYPES], 5)
        corners = [(height * (place // 2), width * (place % 2)) for place in ((number + k.id) % 4 for k in TYPES)]
        for k, (top, left) in enumerate(corners):
            inside = (k, slice(None), slice(top, top + height), slice(left, left + width))
            spoiled[inside] = strong[inside]
        for kind, (top, left), (column, row) in zip(TYPES, corners, worst(spoiled), strict=True):
            hits.append({"content": number, "type": kind.title,
                         "hit": top <= row < top + height and left <= column < left + width})
    return pd.DataFrame(hits)
