"""Base networks: a classification backbone with a quality head and, for pre-training, a type head."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gmiqa_core import training
from gmiqa_core.backbone import MEAN, STD
from gmiqa_core.batch import to_float, upload
from gmiqa_core.errors import UserError, did_you_mean
from gmiqa_core.losses import quality_aware_loss
from gmiqa_core.shapes import by_shape

TYPES = 25
# our name -> torchvision's builder, and the attribute that holds its classifier
BACKBONES = {
    "resnet50": ("resnet50", "fc"),
    "densenet201": ("densenet201", "classifier"),
    "mobilenet_v2": ("mobilenet_v2", "classifier"),
    "mobilenet_v3": ("mobilenet_v3_small", "classifier"),
    "efficientnet_b0": ("efficientnet_b0", "classifier"),
    "small": ("", ""),
}


class Small(nn.Module):
    """A plain ResNet-10 with 24 channels, which a CPU trains in minutes: (n,3,H,W) -> (n,192)."""

    def __init__(self) -> None:
        super().__init__()
        from gmiqa_core.backbone import SCResNet

        self.trunk = SCResNet((1, 1, 1, 1), 24, self_calibrated=False, stem="conv", bottleneck=False,
                              stem_start="dct")

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x).mean((2, 3))


def _trunk(name: str, start: str) -> tuple[nn.Module, str]:
    """The backbone without its classifier, and a sentence that says what it started from."""
    if name not in BACKBONES:
        raise UserError(f"there is no base network '{name}'{did_you_mean(name, BACKBONES)}; "
                        f"choose from {', '.join(BACKBONES)}.")
    builder, head = BACKBONES[name]
    if not builder:
        if start == "imagenet":
            raise UserError("the base network 'small' has no ImageNet weights; start it at random.")
        return Small(), "random weights"
    import torchvision

    if start == "imagenet":
        url = torchvision.models.get_model_weights(builder).DEFAULT.url
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if not file.is_file():  # a run must not download anything silently
            shown = str(file).replace(str(Path.home()), "~")
            raise UserError(f"ImageNet weights of '{name}' are not at hand: {shown} is not there. Fetch them once with "
                            f"torchvision.models.get_model('{builder}', weights='DEFAULT'), or start at random.")
    model = torchvision.models.get_model(builder, weights="DEFAULT" if start == "imagenet" else None)
    setattr(model, head, nn.Identity())
    return model, "torchvision's ImageNet weights" if start == "imagenet" else "random weights"


class QualityNetwork(nn.Module):
    """Images (n,3,H,W) in [0,1] -> quality (n,) in the unit of the scores that it was fitted to.

    name    one of BACKBONES
    start   `random`; `imagenet` for torchvision's weights
    trunk   another network, (n,3,H,W) -> (n,width), in their place; `start` then says what it started from
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, name: str = "small", start: str = "random", trunk: nn.Module | None = None):
        super().__init__()
        self.name = name
        self.trunk, self.start = _trunk(name, start) if trunk is None else (trunk, start)
        self.trunk.eval()
        with torch.no_grad():
            width = self.trunk(torch.zeros(1, 3, 64, 64)).shape[1]
        self.quality, self.naming = nn.Linear(width, 1), nn.Linear(width, TYPES)
        mean, std = (getattr(self.trunk, name, usual) for name, usual in (("mean", MEAN), ("std", STD)))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.register_buffer("centre", torch.tensor(0.5))  # of the scores it is fitted to
        self.register_buffer("scale", torch.tensor(0.25))

    @property
    def precision(self) -> str:
        """The precision to train in: on a CPU torchvision's networks are slower in bf16 than in fp32."""
        torchvisions = type(self.trunk).__module__.startswith("torchvision")
        return "fp32" if torchvisions and self.centre.device.type != "cuda" else "auto"

    def features(self, x: Tensor) -> Tensor:
        return self.trunk((x - self.mean) / self.std).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.centre + self.scale * self.quality(self.features(x)).squeeze(-1)


@dataclass
class Pretraining:
    """Squared error of the pseudo-score (KADID-calibrated) and cross-entropy of the type, on batches of a pool."""

    pool: Any
    batch: int
    type_weight: float

    def __call__(self, model: QualityNetwork, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        batch = self.pool.batch(step, self.batch)
        features = model.features(batch.images)
        error = (model.quality(features).squeeze(-1) - (batch.quality - model.centre) / model.scale).square().mean()
        logits = model.naming(features)
        naming = nn.functional.cross_entropy(logits, batch.type - 1)
        accuracy = (logits.argmax(1) == batch.type - 1).float().mean()
        return error + self.type_weight * naming, {"pseudo_score_mse": error, "type_loss": naming,
                                                   "type_accuracy": accuracy}


@dataclass
class FineTuning:
    """The quality-aware loss on batches of scored pictures."""

    pictures: Any
    batch: int
    crop: int
    seed: int
    weights: tuple[float, float]
    temperature: float

    def __call__(self, model: QualityNetwork, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        target = self.pictures.batch(self.seed, step, self.batch, self.crop)
        images, quality = (upload(part, model.centre.device) for part in target[:2])
        predicted = model(to_float(images))
        loss = quality_aware_loss(predicted, quality, *self.weights, self.temperature, model.scale)
        return loss, {"rmse": (predicted - quality).square().mean().sqrt()}


def pretrain(model: QualityNetwork, pool: Any, *, steps: int, folder: str | Path, batch: int = 16, lr: float = 1e-3,
             type_weight: float = 0.25, seed: int = 0, **loop: Any) -> training.History:
    """Quality-aware pre-training on the endless synthetic batches of `pool`; `loop` goes to training.train."""
    identity = {"batch": batch, "type_weight": type_weight, "pool": pool.identity()}
    return training.train(model, Pretraining(pool, batch, type_weight), steps=steps, lr=lr, folder=folder, seed=seed,
                          identity=identity, **{"label": f"pre-training {model.name}", "clip": 5.0,
                                                "precision": model.precision, **loop})


def finetune(model: QualityNetwork, pictures: Any, *, steps: int, folder: str | Path, batch: int = 16,
             crop: int = 0, lr: float = 1e-3, weights: tuple[float, float] = (0.5, 0.5), temperature: float = 0.1,
             seed: int = 0, **loop: Any) -> training.History:
    """Fit scored pictures, standardised on exactly these; `weights` are those of squared error and rank part."""
    model.centre.fill_(float(pictures.quality.mean()))
    model.scale.fill_(max(float(pictures.quality.std()), 1e-3))
    nn.init.zeros_(model.quality.bias)
    objective = FineTuning(pictures, batch, crop, seed, weights, temperature)
    identity = {"batch": batch, "crop": crop, "weights": list(weights), "temperature": temperature,
                "pictures": _digest(pictures)}
    return training.train(model, objective, steps=steps, lr=lr, folder=folder, seed=seed, identity=identity,
                          **{"label": f"fine-tuning {model.name}", "clip": 5.0, "precision": model.precision, **loop})


def _digest(pictures: Any) -> str:
    """Digest of the scores and the pictures' sums: a killed training continues only on what it was begun with."""
    sums = torch.tensor([float(picture.sum()) for picture in pictures.pictures])
    return hashlib.sha256(pictures.quality.cpu().numpy().tobytes() + sums.numpy().tobytes()).hexdigest()[:16]


@torch.no_grad()
def predict(model: QualityNetwork, pictures: list[Tensor], batch: int = 16) -> np.ndarray:
    """(n,) qualities of whole uint8 pictures (3,H,W); pictures of one size share a batch."""
    model.eval()
    result = np.zeros(len(pictures))
    for index, stacked in by_shape(pictures, batch):
        result[index] = model(to_float(stacked.to(model.centre.device))).cpu().numpy()
    return result
