"""The second opinion on a score: later stages of its own, which learn from human scores and nothing else.

A network that learns everything at once knows its photographs by heart in its last stages. The stages below them stay
as they are here, so their maps are computed once and kept in half precision, about 250 kB a picture of 512 px.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmiqa.base_networks import digest
from gmiqa.data.pictures import Pictures
from gmiqa.imagenet import imagenet_start
from gmiqa.runs.progress import Progress
from gmiqa_core import network, resume, training
from gmiqa_core.batch import to_float, upload
from gmiqa_core.efficientnet import EfficientNetLite
from gmiqa_core.losses import quality_aware_loss
from gmiqa_core.presets import OPINION

SIDE = 26  # of the windows of maps in training, in places 16 px apart
BATCH, EPOCHS = 32, 4
RATE, HEAD_RATE, DECAY = 5e-4, 2.5e-3, 0.05


@dataclass
class Maps:
    """The last map below of each picture (C,h,w), in half precision, with its score; moments (n,m) of those before it.
    """

    last: Pictures
    moments: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, model: Any, pictures: Pictures) -> Maps:
        """The maps of whole pictures."""
        device, last, moments = next(model.parameters()).device, [], []
        progress = Progress("maps of photographs", len(pictures))
        for picture in pictures.pictures:
            x, before = model.opinion.kept(model.maps(to_float(picture.to(device))[None]))
            last.append(x[0].half().cpu())
            moments.append(before[0].cpu())
            progress.update(1)
        return cls(Pictures(last, pictures.quality.cpu().float(), pictures.spread.cpu()), torch.stack(moments))


@dataclass
class Opinions:
    """The objective: the quality-aware loss on one window of each map."""

    maps: Maps
    seed: int

    def __call__(self, model: Any, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        target = self.maps.last.batch(self.seed, step, BATCH, SIDE)
        x, moments, quality = (upload(part, model.unit.device) for part in
                               (target.images, self.maps.moments[target.rows], target.quality))
        mu = model.of(x.float().contiguous(memory_format=torch.channels_last), moments)
        loss = quality_aware_loss(mu, quality, scale=model.unit[1])
        return loss, {"rmse": (mu - quality).square().mean().sqrt()}


def given(model: Any, pictures: Pictures, imagenet: str, folder: Path, seed: int, precision: str = "auto") -> Any:
    """The network with a second opinion, which has learned the scores of `pictures`; its later stages start from
    `imagenet`. A training that was stopped continues in `folder`."""
    device = next(model.parameters()).device
    torch.manual_seed(seed)
    both = network.GMIQA(**model.config | {"branches": [*model.config["branches"], OPINION]})
    both.load_state_dict(model.state_dict(), strict=False)
    both.start = model.start
    opinion, start = both.opinion, EfficientNetLite(model.backbone.size)
    imagenet_start(start, imagenet)
    opinion.stages.load_state_dict(opinion.later(start).state_dict())
    both.to(device).eval()
    maps = Maps.of(both, pictures)
    quality = maps.last.quality
    opinion.unit.copy_(torch.stack([quality.mean(), quality.std().clamp(min=1e-3)]))
    groups = [{"params": list(opinion.stages.parameters()), "lr": RATE},
              {"params": list(opinion.read.parameters()), "lr": HEAD_RATE}]
    steps = EPOCHS * max(1, len(pictures) // BATCH)
    training.train(opinion, Opinions(maps, seed), steps=steps, lr=HEAD_RATE, parameter_groups=groups, folder=folder,
                   clip=5.0, weight_decay=DECAY, ema=0.998, seed=seed, precision=precision,
                   log_every=max(1, steps // 40), label="second opinion",
                   identity={"pictures": digest(pictures), "below": resume.fingerprint(model)})
    return both.eval()
