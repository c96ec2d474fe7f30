"""Training of the local quality network, on pictures that are distorted in one region.

In the first phase the rest of the picture is as it was. The soft, dark and empty areas of ordinary photographs are
then among the undistorted places, so the network learns to ignore them. In the second phase the
whole picture is often mildly distorted, or gets softer, darker or paler gradually: neither counts as a local
distortion, and the network learns to see what differs from the rest of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa.data import images
from gmiqa.data.distortions import LEVELS, TYPES, calibration, distort
from gmiqa.data.synthetic.pristine import at_least, crop_at
from gmiqa.score.local_quality import STEP, LocalQuality
from gmiqa_core import training

SIDE, BATCH = 256, 16  # of the crops
SMALLEST = 0.45  # share to which a picture is shrunk at most
LEAST_SEVERITY = 0.65  # least severity of a distorted region: even if people hardly mind it, it differs
SECOND_PHASE = 1.2  # its steps, for each step of the first
GRADUAL = ("gaussian_blur", "lens_blur", "brighten", "darken", "mean_shift", "saturation_hsv", "contrast_change")


@dataclass(frozen=True)
class Phase:
    """A phase of the training.

    mild              share of crops that are mildly distorted all over first
    gradual           share of crops that change gradually first, which is no distortion anywhere
    edges             widths of the region's edge, in units of half its size
    level_power       levels are drawn in proportion to this power of theirs: strong ones more often
    rate, backbone    learning rates of the layers and of the backbone
    ema               decay of the mean of the weights
    """

    name: str
    mild: float
    gradual: float
    edges: tuple[float, ...]
    level_power: int
    rate: float
    backbone: float
    ema: float = 0.998


CLEAN = Phase("clean", 0.0, 0.0, (0.001, 0.1, 0.3), 1, 2e-3, 1e-3)
DEGRADED = Phase("degraded", 0.5, 0.5, (0.001, 0.03, 0.1), 2, 1e-3, 1e-3)


def distorted(picture: Tensor, kind: str, level: int, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] distorted all over, its random parts drawn from rng."""
    return distort(picture[None], kind, level, [int(rng.integers(2**62))])[0]


def mildly_distorted(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] distorted all over, at one of the three lower levels."""
    return distorted(picture, TYPES[int(rng.integers(len(TYPES)))].name, int(rng.integers(1, 4)), rng)


def gradually_changed(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] that gets softer, darker, brighter or paler without an edge, as distance, light and
    haze do it in photographs."""
    changed = distorted(picture, GRADUAL[int(rng.integers(len(GRADUAL)))], int(rng.integers(1, 6)), rng)
    mask = region(picture, rng.uniform(0.4, 1.2, 2), rng.uniform(0, 1, 2), True, rng.uniform(0.7, 1.5))
    return (picture * (1 - mask) + changed * mask).clamp(0, 1)


def region(picture: Tensor, size: np.ndarray, centre: np.ndarray, ellipse: bool, edge: float) -> Tensor:
    """Mask (h,w) of an ellipse or a rectangle in a picture: 1 inside, 0 outside. size and centre are shares of the
    picture's sides, edge is the width of the edge as a share of half the size."""
    h, w = picture.shape[1:]
    (height, width), (y, x) = size * (h, w), centre * (h, w)
    down = (torch.arange(h)[:, None] + 0.5 - y) / (height / 2)
    right = (torch.arange(w)[None] + 0.5 - x) / (width / 2)
    distance = torch.hypot(down, right) if ellipse else torch.maximum(down.abs(), right.abs())
    return ((1 - distance) / edge + 0.5).clamp(0, 1)


def locally_distorted(picture: Tensor, rng: np.random.Generator, phase: Phase = CLEAN) -> tuple[Tensor, Tensor]:
    """A picture (3,h,w) in [0,1], distorted within an ellipse or a rectangle with a sharp or soft edge, or not at all;
    and the severity of each pixel (h,w)."""
    weights = np.array(LEVELS) ** phase.level_power
    kind, level = int(rng.integers(len(TYPES) + 1)), int(rng.choice(LEVELS, p=weights / weights.sum()))
    if kind == 0:
        return picture, torch.zeros(picture.shape[1:])
    changed = distorted(picture, TYPES[kind - 1].name, level, rng)
    mask = region(picture, rng.uniform(0.25, 0.8, 2), rng.uniform(0, 1, 2), rng.random() < 0.5, rng.choice(phase.edges))
    mixed = picture * (1 - mask) + changed * mask
    lost = 1 - float(calibration.quality(np.array([kind]), np.array([level]))[0])
    severity = min(1.0, LEAST_SEVERITY + (1 - LEAST_SEVERITY) * lost / 0.9)
    return (mixed * 255).round() / 255, mask * severity


@dataclass
class SeverityLoss:
    """Cross entropy with the severity at the places of BATCH crops. Each list of pictures is drawn from equally often.
    """

    pictures: Sequence[Sequence[Any]]
    max_side: int
    side: int
    seed: int
    phase: Phase = CLEAN

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops (BATCH,3,side,side) and the severity at their places, a pure function of (seed, step)."""
        with ThreadPoolExecutor(2) as threads:
            pairs = list(threads.map(self._one, [(self.seed, step, k) for k in range(BATCH)]))
        x, severity = (torch.stack(column) for column in zip(*pairs, strict=True))
        return x, F.avg_pool2d(severity, STEP)

    def _one(self, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(key)
        chosen = self.pictures[int(rng.integers(len(self.pictures)))]
        picture = images.from_any(chosen[int(rng.integers(len(chosen)))], self.max_side)
        least = min(1.0, max(SMALLEST, self.side / min(picture.shape[1:])))
        longer = round(max(picture.shape[1:]) * least ** rng.random())
        picture = at_least(images.limit(picture, longer), self.side)
        crop = crop_at(picture, (self.side, self.side), tuple(rng.random(2)), rng.random() < 0.5, int(rng.integers(4)))
        x = images.to_float(crop).contiguous()
        if self.phase.mild and rng.random() < self.phase.mild:
            x = mildly_distorted(x, rng)
        if self.phase.gradual and rng.random() < self.phase.gradual:
            x = gradually_changed(x, rng)
        return locally_distorted(x, rng, self.phase)

    def __call__(self, model: LocalQuality, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        x, severity = self.draw(step)
        return F.binary_cross_entropy_with_logits(model(x), severity), {}


@dataclass
class Pictures:
    """Pictures (paths, arrays or tensors): without distortions, good photographs, and any photographs."""

    pristine: Sequence[Any]
    good: Sequence[Any]
    ordinary: Sequence[Any]


def fit(model: Any, pictures: Pictures, max_side: int, seed: int, steps: int, folder: Path,
        side: int = SIDE) -> LocalQuality:
    """Train in both phases: `steps` steps on pristine pictures and good photographs, then SECOND_PHASE times as many on
    pristine pictures and any photographs. A training that was stopped continues in `folder`."""
    torch.manual_seed(seed)
    network = LocalQuality.untrained(model)
    layers = [weight for name, weight in network.named_parameters() if not name.startswith("backbone.")]
    plan = ((CLEAN, steps, pictures.good), (DEGRADED, round(SECOND_PHASE * steps), pictures.ordinary))
    for k, (phase, count, photographs) in enumerate(plan):
        groups = [{"params": list(network.backbone.parameters()), "lr": phase.backbone},
                  {"params": layers, "lr": phase.rate}]
        loss = SeverityLoss([pictures.pristine, photographs], max_side, side, seed + k, phase)
        sizes = [len(pictures.pristine), len(photographs)]
        training.train(network, loss, steps=count, lr=phase.rate, parameter_groups=groups, folder=folder / phase.name,
                       weight_decay=0.05, clip=5.0, ema=phase.ema, seed=seed, label=f"local quality, {phase.name}",
                       precision="fp32", identity={"max_side": max_side, "side": side, "pictures": sizes})
    return network.eval()
