"""The branches for type and severity, trained again on whole pictures, with calibrated probabilities.

Fine-tuning keeps these branches alive, but on crops. The nodes of a whole picture differ from those of its crops: a
pyramid over more pixels has larger maxima and steadier means.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa.data import images, synthetic
from gmiqa_core import training
from gmiqa_core.pretraining import level_loss

STEPS, RATE, BATCH, LEVEL_WEIGHT = 1500, 1e-3, 256, 0.25
SHRINK = 0.6  # contents in three sizes, down to this share


@dataclass
class BranchLoss:
    """Loss of types and severities of BATCH pictures, drawn at random in each step, from their fixed nodes."""

    network: Any
    nodes: Tensor  # (n,d)
    type: Tensor  # (n,)
    severity: Tensor  # (m,) of the first m pictures: nobody knows the severity of an ordinary photograph
    spread: Tensor  # (m,)

    def __call__(self, model: nn.Module, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        chosen = torch.randint(len(self.nodes), (BATCH,))  # the loop seeds torch for each step
        known = chosen[chosen < len(self.severity)]
        mu, sigma = (x.flatten() for x in self.network.level(self.nodes[known][:, None]))
        type_loss = F.cross_entropy(self.network.classify(self.nodes[chosen]), self.type[chosen])
        level = level_loss("kl", mu, sigma, self.severity[known], self.spread[known])
        return type_loss + LEVEL_WEIGHT * level, {"type_loss": type_loss, "level_loss": level}


@torch.no_grad()
def node_loss(model: Any, contents: list[Any], photographs: list[Any], side: int, seed: int, count: int) -> BranchLoss:
    """The loss on `count` whole distorted pictures of these contents, and on photographs as `none of these`: without
    them nearly every ordinary photograph would be called blurred."""
    pool = synthetic.Pool(contents, types=range(26), crop=None, reuse=1, draws=1, max_side=side, shrink=SHRINK,
                          seed=seed)
    drawn = (pool.batch(k, 1) for k in range(count))
    parts = [(model.nodes(b.images), b.type, b.severity, b.spread) for b in drawn]
    ordinary = [model.nodes(images.to_float(picture)[None]) for picture in images.Decoded(photographs, side)]
    nodes, kind, severity, spread = (torch.cat(column) for column in zip(*parts, strict=True))
    kind = torch.cat([kind, kind.new_zeros(len(ordinary))])
    return BranchLoss(model, torch.cat([nodes, *ordinary]), kind, severity, spread)


def refit(model: Any, contents: list[Any], photographs: list[Any], side: int, seed: int, count: int,
          folder: Path) -> None:
    """Train the type branch, the classifier and the level branch of `model`, in place. Scores stay as they are."""
    loss = node_loss(model.eval(), contents, photographs, side, seed, count)
    branches = nn.ModuleList([model.type_branch, model.classifier, model.level_branch])
    training.train(branches, loss, steps=STEPS, lr=RATE, folder=folder, weight_decay=0.05, seed=seed, precision="fp32",
                   label="types and severities of whole pictures",
                   identity={"side": side, "pictures": count, "photographs": len(photographs)})


def calibrate(model: Any, contents: list[Any], side: int, seed: int) -> tuple[float, pd.DataFrame]:
    """Temperature of the type probabilities, fitted on half of the left-out contents, and how good they are on the
    other half: accuracy, mean top probability and expected calibration error (10 bins), `none of these` included."""
    half = len(contents) // 2
    (logits, truth), (test_logits, test_truth) = (_logits(model, part, side, seed)
                                                  for part in (contents[:half], contents[half:]))
    grid = torch.linspace(0.3, 4.0, 75)
    temperature = float(grid[int(torch.stack([F.cross_entropy(logits / t, truth) for t in grid]).argmin())])
    rows = [{"probabilities": name, "temperature": t, **_quality_of(torch.softmax(test_logits / t, -1), test_truth)}
            for name, t in (("as trained", 1.0), ("calibrated", temperature))]
    return temperature, pd.DataFrame(rows)


def _quality_of(probabilities: Tensor, truth: Tensor) -> dict[str, float]:
    probability, guess = probabilities.max(-1)
    hit = (guess == truth).float()
    bins = (probability * 10).long().clamp(max=9)
    error = sum(float((hit[bins == b].mean() - probability[bins == b].mean()).abs() * (bins == b).float().mean())
                for b in bins.unique())
    return {"accuracy": float(hit.mean()), "mean probability": float(probability.mean()), "calibration error": error,
            "n": len(hit)}


@torch.no_grad()
def _logits(model: Any, contents: list[Any], side: int, seed: int) -> tuple[Tensor, Tensor]:
    logits: list[Tensor] = []
    truth: list[Tensor] = []
    for batch in synthetic.test_batches(contents, types=range(26), seed=seed, max_side=side):
        clean = batch.type == 0  # one undistorted picture against 125 distorted ones: weigh the classes alike
        keep = torch.cat([torch.arange(len(batch.type)), *[torch.nonzero(clean).flatten()] * 4])
        logits.append(torch.cat([model.classify(model.nodes(part)) for part in batch.images.split(16)])[keep])
        truth.append(batch.type[keep])
    return torch.cat(logits), torch.cat(truth)
