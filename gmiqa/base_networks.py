"""Base networks: a backbone, a head that reads the statistics of its maps, and for pre-training a type head."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gmiqa import recorded
from gmiqa_core import training
from gmiqa_core.backbone import MEAN, STD, channel_moments
from gmiqa_core.batch import to_float, upload
from gmiqa_core.losses import quality_aware_loss
from gmiqa_core.shapes import by_shape
from gmiqa_core.step import TwoPart

TYPES = 25
HIDDEN, DROPOUT = 128, 0.3
HEAD_RATE = 5.0  # times the backbone's: the head starts at random
# AdamW, and the running mean of the weights that is tested
LOOP: dict[str, Any] = {"clip": 5.0, "weight_decay": 0.05, "ema": 0.998, "passes": recorded.recorded}


class QualityNetwork(nn.Module):
    """Images (n,3,H,W) in [0,1] -> quality (n,) in the unit of the scores that it was fitted to.

    trunk    normalised images -> maps of any number and size; `normalisation` names its mean and deviation, where they
             are not ImageNet's usual ones
    start    a sentence: what the trunk starts from
    on_cpu   the precision of training on a CPU: most networks are slower there in bf16 than in fp32
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, trunk: nn.Module, name: str = "base network", start: str = "random weights",
                 on_cpu: str = "fp32"):
        super().__init__()
        self.trunk, self.name, self.start, self.on_cpu = trunk.eval(), name, start, on_cpu
        with torch.no_grad():
            width = sum(2 * maps.shape[1] for maps in trunk(torch.zeros(1, 3, 64, 64)))
        self.neck = nn.Sequential(nn.BatchNorm1d(width), nn.Dropout(DROPOUT), nn.Linear(width, HIDDEN), nn.ReLU())
        self.quality, self.naming = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, TYPES)
        mean, std = getattr(trunk, "normalisation", (MEAN, STD))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.register_buffer("centre", torch.tensor(0.5))  # of the scores it is fitted to
        self.register_buffer("scale", torch.tensor(0.25))

    @property
    def precision(self) -> str:
        return "auto" if self.centre.device.type == "cuda" else self.on_cpu

    def groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameters and their learning rates."""
        heads = [p for name, p in self.named_parameters() if not name.startswith("trunk.")]
        return [{"params": list(self.trunk.parameters()), "lr": lr}, {"params": heads, "lr": HEAD_RATE * lr}]

    def features(self, x: Tensor) -> Tensor:
        """(n, HIDDEN) numbers, from the mean and deviation of every map."""
        maps = self.trunk((x - self.mean) / self.std)
        with torch.autocast(x.device.type, enabled=False):
            return self.neck(torch.cat([channel_moments(m) for m in maps], 1))

    def standardised(self, features: Tensor) -> Tensor:
        """(n,) quality, the scores' mean at 0 and their deviation 1; in single precision, since it is ranked."""
        with torch.autocast(features.device.type, enabled=False):
            return self.quality(features).squeeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        return self.centre + self.scale * self.standardised(self.features(x))


@dataclass
class Pretraining(TwoPart):
    """Squared error of the pseudo-score (KADID-calibrated) and cross-entropy of the type, on batches of a pool."""

    pool: Any
    batch: int
    type_weight: float

    def inputs(self, step: int, micro: int) -> Any:
        return self.pool.batch(step, self.batch)

    def outcome(self, model: QualityNetwork, inputs: Any) -> tuple[Tensor, dict[str, Any]]:
        features = model.features(inputs.images)
        error = (model.standardised(features) - (inputs.quality - model.centre) / model.scale).square().mean()
        logits = model.naming(features)
        naming = nn.functional.cross_entropy(logits, inputs.type - 1)
        accuracy = (logits.argmax(1) == inputs.type - 1).float().mean()
        return error + self.type_weight * naming, {"pseudo_score_mse": error, "type_loss": naming,
                                                   "type_accuracy": accuracy}


@dataclass
class FineTuning(TwoPart):
    """The quality-aware loss on batches of scored pictures."""

    pictures: Any
    batch: int
    crop: int
    seed: int
    weights: tuple[float, float]
    temperature: float

    def inputs(self, step: int, micro: int) -> Any:
        return self.pictures.batch(self.seed, step, self.batch, self.crop)[:2]

    def outcome(self, model: QualityNetwork, inputs: Any) -> tuple[Tensor, dict[str, Any]]:
        images, quality = (upload(part, model.centre.device) for part in inputs)
        predicted = model(to_float(images))
        loss = quality_aware_loss(predicted, quality, *self.weights, self.temperature, model.scale)
        return loss, {"rmse": (predicted - quality).square().mean().sqrt()}


def pretrain(model: QualityNetwork, pool: Any, *, steps: int, folder: str | Path, batch: int = 16, lr: float = 1e-3,
             type_weight: float = 0.25, seed: int = 0, **loop: Any) -> training.History:
    """Quality-aware pre-training on the endless synthetic batches of `pool`; `loop` goes to training.train."""
    identity = {"batch": batch, "type_weight": type_weight, "pool": pool.identity()}
    return training.train(model, Pretraining(pool, batch, type_weight), steps=steps, lr=lr, folder=folder, seed=seed,
                          parameter_groups=model.groups(lr), identity=identity,
                          **{"label": f"pre-training {model.name}", "precision": model.precision, **LOOP, **loop})


def finetune(model: QualityNetwork, pictures: Any, *, steps: int, folder: str | Path, batch: int = 16,
             crop: int = 0, lr: float = 1e-3, weights: tuple[float, float] = (0.5, 0.5), temperature: float = 0.1,
             seed: int = 0, **loop: Any) -> training.History:
    """Fit scored pictures, standardised on exactly these; `weights` are those of squared error and rank part."""
    model.centre.fill_(float(pictures.quality.mean()))
    model.scale.fill_(max(float(pictures.quality.std()), 1e-3))
    nn.init.zeros_(model.quality.bias)
    objective = FineTuning(pictures, batch, crop, seed, weights, temperature)
    identity = {"batch": batch, "crop": crop, "weights": list(weights), "temperature": temperature,
                "pictures": digest(pictures)}
    return training.train(model, objective, steps=steps, lr=lr, folder=folder, seed=seed, identity=identity,
                          parameter_groups=model.groups(lr),
                          **{"label": f"fine-tuning {model.name}", "precision": model.precision, **LOOP, **loop})


def digest(pictures: Any) -> str:
    """Digest of the scores and of some pixels: a killed training continues only on what it was begun with."""
    sums = torch.tensor([float(picture[:, ::16, ::16].sum()) for picture in pictures.pictures])
    return hashlib.sha256(pictures.quality.cpu().numpy().tobytes() + sums.numpy().tobytes()).hexdigest()[:16]


@torch.no_grad()
def predict(model: QualityNetwork, pictures: list[Tensor], batch: int = 16) -> np.ndarray:
    """(n,) qualities of whole uint8 pictures (3,H,W): the mean of each and its mirror image. Pictures of one size share
    a batch."""
    model.eval()
    result, device = np.zeros(len(pictures)), model.centre.device
    for index, stacked in by_shape(pictures, 4 * batch if device.type == "cuda" else batch):
        images = to_float(upload(stacked, device))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            result[index] = ((model(images) + model(images.flip(3))) / 2).cpu().numpy()
    return result
