"""Graph pre-training: three graphs a triplet, L_type + lambda * L_level, on synthetic distortions of known severity.

    pretrain(model, GraphObjective(pool, sizes=(1, 4, 16, 64), batch=64, ...), steps=40_000, lr=1e-5, folder=...)

L_type is the triplet loss max(0, |c_a - c_p| - |c_a - c_n| + margin) on type codes: anchor and positive graph hold one
distortion type, the negative another. L_level is KL(N(s, s_std) || N(mu, sigma)) of every node, with s the severity of
its (type, level) cell in KADID-10k and s_std the spread of the cell's human scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa_core import distributed, training
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.losses import LEVEL_LOSSES, level_loss, triplet_loss
from gmiqa_core.network import GMIQA
from gmiqa_core.step import TwoPart

LEVEL_TARGETS = ("severity", "raw")


@dataclass
class GraphObjective(TwoPart):
    """Loss of one micro-batch: `batch` pictures for each of anchor, positive and negative, in batch // N graphs of N
    pictures, N drawn from `sizes` (a network trained on one N alone never saw the graph of one that a score uses).

    level_target        `severity`; `raw`: the paper's level 1..5, predicted as 1 + 4 mu
    normalise_codes     ours: codes of length 1. Free codes (the paper's) shrink to the size of the margin at first, as
                        that is the fastest way to less loss, and what reads them learns nothing; later they meet the
                        margin by growing
    detach_pairs        only the anchor carries gradient, as in the public code
    classify_weight     ours: cross-entropy of a picture's own type (model.classify)
    quality_weight      ours: KL of the score head to the quality and spread of the picture's cell
    quality_scale       pseudo-scores times this: on a target's scale an undistorted picture is an ordinary one
    mixed               pictures of all types for these two terms, which pass the backbone together with the graphs
                        (0: the graphs' own pictures; at large N they hold two types a step, and neither term learns)
    """

    pool: Any
    sizes: Sequence[int]
    batch: int
    mixed: int
    margin: float = 0.1
    weight: float = 0.25
    level_loss: str = "kl"
    level_target: str = "severity"
    normalise_codes: bool = True
    detach_pairs: bool = False
    classify_weight: float = 0.0
    quality_weight: float = 0.0
    quality_scale: float = 1.0
    accumulate: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.level_loss not in LEVEL_LOSSES or self.level_target not in LEVEL_TARGETS:
            raise UserError(f"level_loss = {self.level_loss!r}, level_target = {self.level_target!r}: expected one of "
                            f"{', '.join(LEVEL_LOSSES)} and one of {', '.join(LEVEL_TARGETS)}.")
        if not self.sizes or min(self.sizes) < 1:
            raise UserError(f"graph sizes {list(self.sizes)}: expected one or more numbers of nodes, each at least 1.")

    def inputs(self, step: int, micro: int = 0) -> tuple[Batch, Batch | None, int]:
        """The pictures of anchors, positives and negatives, in this order; those of mixed types, if a term needs them;
        and N. A pure function of (step, micro)."""
        k = step * self.accumulate + micro
        n = int(np.random.default_rng((self.seed, k)).choice(list(self.sizes)))
        most = max(1, self.batch // min(self.sizes))
        triplets = [self.pool.triplet(k * most + g, n) for g in range(max(1, self.batch // n))]
        wanted = self.mixed and (self.classify_weight or self.quality_weight)
        mixed = self.pool.batch(k * most, self.mixed) if wanted else None
        return Batch.cat(part for role in zip(*triplets, strict=True) for part in role), mixed, n

    def outcome(self, model: GMIQA, inputs: tuple[Batch, Batch | None, int]) -> tuple[Tensor, dict[str, Any]]:
        batch, mixed, n = inputs
        device = next(model.parameters()).device
        batch, plain = batch.to(device), (mixed or batch).to(device)
        together = torch.cat([batch.images, plain.images]) if mixed else batch.images
        nodes = model.nodes(together)  # one pass: BatchNorm sees all types of the step
        V, alone = nodes[: len(batch)].view(3, -1, n, nodes.shape[-1]), nodes[-len(plain) :]
        E = model.edges(V) if model.config["graph"] == "full" else None
        codes = model.type_code(V, E)
        codes = F.normalize(codes, dim=-1) if self.normalise_codes else codes
        mu, sigma = (x.flatten() for x in model.level(V, E))
        target, spread = batch.severity, batch.spread
        if self.level_target == "raw":
            mu, sigma, target, spread = 1 + 4 * mu, 4 * sigma, batch.level.to(mu.dtype), 4 * spread
        if self.detach_pairs:
            codes = torch.cat([codes[:1], codes[1:].detach()])
            mu, sigma, target, spread = (x[: len(x) // 3] for x in (mu, sigma, target, spread))
        type_loss, values = triplet_loss(codes, self.margin)
        values |= {"type": type_loss, "level": level_loss(self.level_loss, mu, sigma, target, spread),
                   "level_error": (mu - target).abs().mean(), "sigma": sigma.mean()}
        loss = type_loss + self.weight * values["level"]
        if self.classify_weight:
            logits = model.classify(alone)
            values["classify"] = F.cross_entropy(logits, plain.type)
            values["named"] = (logits.argmax(-1) == plain.type).float().mean()
            loss = loss + self.classify_weight * values["classify"]
        if self.quality_weight:
            goal, spread = self.quality_scale * plain.quality, self.quality_scale * plain.spread
            values["quality"] = level_loss("kl", *model.score(alone), goal, spread)
            loss = loss + self.quality_weight * values["quality"]
        return loss, values


def pretrain(model: GMIQA, objective: GraphObjective, *, steps: int, lr: float, folder: str | Path,
             freeze_backbone: bool = False, workers: int = 1, seed: int = 0,
             **loop: Any) -> tuple[GMIQA, training.History]:
    """Graph pre-training; returns the trained model (in eval mode) and the history. Everything else goes to
    training.train: precision, evaluate, clip, ema, ..."""
    if workers > 1:
        trained, history = distributed.launch(workers, pretrain, model, objective, steps=steps, lr=lr, folder=folder,
                                              freeze_backbone=freeze_backbone, seed=seed, **loop)
        return trained.to(next(model.parameters()).device), history
    model.freeze_backbone(freeze_backbone)
    settings = {name: value for name, value in vars(objective).items() if name != "pool"}
    identity = {"objective": repr(sorted(settings.items())), "pool": objective.pool.identity(),
                "freeze_backbone": freeze_backbone}
    history = training.train(model, objective, steps=steps, lr=lr, folder=folder, seed=seed, identity=identity,
                             accumulate=objective.accumulate, **{"label": "graph pre-training", **loop})
    model.freeze_backbone(False)
    return model.eval(), history
