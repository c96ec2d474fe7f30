"""Names and severities of whole pictures: the branches that say them fitted once more, their probabilities calibrated.

Fine-tuning keeps these branches alive on crops. A whole picture's nodes are others: maxima are larger, means calmer.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa.data import images, synthetic
from gmiqa_core.pretraining import level_loss

STEPS, RATE, BATCH, LEVEL_WEIGHT = 1500, 1e-3, 256, 0.25
SHRINK = 0.6  # contents in three sizes, down to this share


def refit(model: Any, contents: list[Any], side: int, seed: int, count: int, photographs: list[Any]) -> None:
    """Train the type branch, the classifier and the level branch of `model`, in place, on the fixed nodes of `count`
    whole distorted pictures of these contents. Scores stay as they are.

    photographs    pictures that are `none of these`: without them nearly every ordinary photograph would be blurred
    """
    pool = synthetic.Pool(contents, types=range(26), crop=None, reuse=1, draws=1, max_side=side, shrink=SHRINK,
                          seed=seed)
    model.eval()
    with torch.no_grad():
        drawn = (pool.batch(k, 1) for k in range(count))
        parts = [(model.nodes(b.images), b.type, b.severity, b.spread) for b in drawn]
        ordinary = [model.nodes(images.to_float(images.from_any(picture, side))[None]) for picture in photographs]
    V, kind, severity, spread = (torch.cat(column) for column in zip(*parts, strict=True))
    V, kind = torch.cat([V, *ordinary]), torch.cat([kind, kind.new_zeros(len(ordinary))])
    branches = [model.type_branch, model.classifier, model.level_branch]
    optimizer = torch.optim.AdamW([w for branch in branches for w in branch.parameters()], RATE, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        chosen = torch.randint(len(V), (BATCH,), generator=generator)
        known = chosen[chosen < count]  # nobody knows the severity of a photograph
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        mu, sigma = (x.flatten() for x in model.level(V[known][:, None]))
        loss = F.cross_entropy(model.classify(V[chosen]), kind[chosen])
        loss = loss + LEVEL_WEIGHT * level_loss("kl", mu, sigma, severity[known], spread[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def calibrate(model: Any, contents: list[Any], side: int, seed: int) -> tuple[float, pd.DataFrame]:
    """Temperature of the type probabilities, fitted on half of the left-out contents, and how good they are on the
    other half: accuracy, mean top probability and expected calibration error (10 bins), `none of these` included."""
    half = len(contents) // 2
    parts = [_logits(model, part, side, seed) for part in (contents[:half], contents[half:])]
    grid = torch.linspace(0.3, 4.0, 75)
    losses = torch.stack([F.cross_entropy(parts[0][0] / t, parts[0][1]) for t in grid])
    temperature = float(grid[int(losses.argmin())])
    logits, truth = parts[1]
    rows = []
    for name, t in (("as trained", 1.0), ("calibrated", temperature)):
        probability, guess = torch.softmax(logits / t, -1).max(-1)
        hit = (guess == truth).float()
        bins = (probability * 10).long().clamp(max=9)
        error = sum(float((hit[bins == b].mean() - probability[bins == b].mean()).abs() * (bins == b).float().mean())
                    for b in bins.unique())
        rows.append({"probabilities": name, "temperature": t, "accuracy": float(hit.mean()),
                     "mean probability": float(probability.mean()), "calibration error": error, "n": len(hit)})
    return temperature, pd.DataFrame(rows)


@torch.no_grad()
def _logits(model: Any, contents: list[Any], side: int, seed: int) -> tuple[Tensor, Tensor]:
    found: list[Tensor] = []
    truth: list[Tensor] = []
    for batch in synthetic.test_batches(contents, types=range(26), seed=seed, max_side=side):
        clean = batch.type == 0  # one undistorted picture against 125 distorted ones: weigh the classes alike
        keep = torch.cat([torch.arange(len(batch.type)), *[torch.nonzero(clean).flatten()] * 4])
        found.append(torch.cat([model.classify(model.nodes(part)) for part in batch.images.split(16)])[keep])
        truth.append(batch.type[keep])
    return torch.cat(found), torch.cat(truth)
