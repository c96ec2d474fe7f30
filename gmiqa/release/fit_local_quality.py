"""How the model of places is learned: from pictures of which a part is distorted.

What an unharmed photograph has of soft, dark or empty places is in them, unharmed. A second phase teaches what else is
no fault of a place: that the whole picture is poor, and that it gets softer or darker without an edge.
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
from gmiqa.data.synthetic.contents import at_least, crop_at
from gmiqa.score.local_quality import STEP, Places
from gmiqa_core import training

SIDE, BATCH = 256, 16  # of the crops
SMALLEST = 0.45  # share to which a picture is shrunk at most
LEAST = 0.65  # severity of a distortion that people hardly mind: it is still the place that differs
MORE = 1.2  # steps of the second phase, for each of the first
NATURAL = ("gaussian_blur", "lens_blur", "brighten", "darken", "mean_shift", "saturation_hsv", "contrast_change")


@dataclass(frozen=True)
class Phase:
    """A phase of the training.

    faint             share of crops that are distorted all over before a part of them is
    gradual           share of crops that change gradually before, which is not severe anywhere
    edges             widths of the edge of that part, of its half size
    power             a level is drawn as often as this power of it: strong ones more often, faint ones hardly show
    rate, backbone    learning rates of the layers and of the backbone; ema: decay of the mean of the weights
    """

    name: str
    faint: float
    gradual: float
    edges: tuple[float, ...]
    power: int
    rate: float
    backbone: float
    ema: float = 0.998


SPOILED = Phase("spoiled", 0.0, 0.0, (0.001, 0.1, 0.3), 1, 2e-3, 1e-3)
WORSE = Phase("worse", 0.5, 0.5, (0.001, 0.03, 0.1), 2, 1e-3, 1e-3)


def distorted(picture: Tensor, kind: str, level: int, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] distorted all over, what is random in it drawn from rng."""
    return distort(picture[None], kind, level, [int(rng.integers(2**62))])[0]


def faintly_distorted(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] distorted all over, at one of the three lower levels."""
    return distorted(picture, TYPES[int(rng.integers(len(TYPES)))].name, int(rng.integers(1, 4)), rng)


def gradually_changed(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] that gets softer, darker, brighter or paler without an edge, as what is far, in light
    or in haze does in any photograph."""
    changed = distorted(picture, NATURAL[int(rng.integers(len(NATURAL)))], int(rng.integers(1, 6)), rng)
    mask = spot(picture, rng.uniform(0.4, 1.2, 2), rng.uniform(0, 1, 2), True, rng.uniform(0.7, 1.5))
    return (picture * (1 - mask) + changed * mask).clamp(0, 1)


def spot(picture: Tensor, size: np.ndarray, centre: np.ndarray, ellipse: bool, edge: float) -> Tensor:
    """An ellipse or a rectangle in a picture, (h,w): 1 inside, 0 outside. size and centre are shares of the picture's
    sides, edge is the width of the edge as a share of half the size."""
    h, w = picture.shape[1:]
    (height, width), (y, x) = size * (h, w), centre * (h, w)
    down = (torch.arange(h)[:, None] + 0.5 - y) / (height / 2)
    right = (torch.arange(w)[None] + 0.5 - x) / (width / 2)
    far = torch.hypot(down, right) if ellipse else torch.maximum(down.abs(), right.abs())
    return ((1 - far) / edge + 0.5).clamp(0, 1)


def partly_distorted(picture: Tensor, rng: np.random.Generator, phase: Phase = SPOILED) -> tuple[Tensor, Tensor]:
    """A picture (3,h,w) in [0,1], distorted within an ellipse or a rectangle with a sharp or soft edge, or not at all;
    and the severity of each pixel (h,w)."""
    often = np.array(LEVELS) ** phase.power
    kind, level = int(rng.integers(len(TYPES) + 1)), int(rng.choice(LEVELS, p=often / often.sum()))
    if kind == 0:
        return picture, torch.zeros(picture.shape[1:])
    spoiled = distorted(picture, TYPES[kind - 1].name, level, rng)
    mask = spot(picture, rng.uniform(0.25, 0.8, 2), rng.uniform(0, 1, 2), rng.random() < 0.5, rng.choice(phase.edges))
    mixed = picture * (1 - mask) + spoiled * mask
    lost = 1 - float(calibration.quality(np.array([kind]), np.array([level]))[0])
    return (mixed * 255).round() / 255, mask * min(1.0, LEAST + (1 - LEAST) * lost / 0.9)


@dataclass
class Objective:
    """Cross entropy with the severity of the places of BATCH crops, drawn from the lists of pictures alike."""

    pictures: Sequence[Sequence[Any]]
    max_side: int
    side: int
    seed: int
    phase: Phase = SPOILED

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops (BATCH,3,side,side) and the severity of their places, a pure function of (seed, step)."""
        with ThreadPoolExecutor(2) as threads:
            pairs = list(threads.map(self._one, [(self.seed, step, k) for k in range(BATCH)]))
        x, severity = (torch.stack(column) for column in zip(*pairs, strict=True))
        return x, F.avg_pool2d(severity, STEP)

    def _one(self, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(key)
        of = self.pictures[int(rng.integers(len(self.pictures)))]
        picture = images.from_any(of[int(rng.integers(len(of)))], self.max_side)
        least = min(1.0, max(SMALLEST, self.side / min(picture.shape[1:])))
        longer = round(max(picture.shape[1:]) * least ** rng.random())
        picture = at_least(images.limit(picture, longer), self.side)
        crop = crop_at(picture, (self.side, self.side), tuple(rng.random(2)), rng.random() < 0.5, int(rng.integers(4)))
        x = images.to_float(crop).contiguous()
        if self.phase.faint and rng.random() < self.phase.faint:
            x = faintly_distorted(x, rng)
        if self.phase.gradual and rng.random() < self.phase.gradual:
            x = gradually_changed(x, rng)
        return partly_distorted(x, rng, self.phase)

    def __call__(self, model: Places, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        x, severity = self.draw(step)
        return F.binary_cross_entropy_with_logits(model(x), severity), {}


def fit(model: Any, pristine: Sequence[Any], good: Sequence[Any], ordinary: Sequence[Any], max_side: int, seed: int,
        steps: int, folder: Path, side: int = SIDE) -> Places:
    """Learn from partly distorted crops of pictures (paths, arrays or tensors). First, for `steps` steps, what a
    spoiled place is, from pristine pictures and good photographs; then, for MORE of them, that it is worse than the
    rest, from any photographs, faintly distorted all over or changed without an edge before. A stopped training goes on
    in `folder`."""
    torch.manual_seed(seed)
    places = Places.of(model)
    rest = [weight for name, weight in places.named_parameters() if not name.startswith("backbone.")]
    for k, (phase, count, photographs) in enumerate(((SPOILED, steps, good), (WORSE, round(MORE * steps), ordinary))):
        groups = [{"params": list(places.backbone.parameters()), "lr": phase.backbone},
                  {"params": rest, "lr": phase.rate}]
        objective = Objective([pristine, photographs], max_side, side, seed + k, phase)
        training.train(places, objective, steps=count, lr=phase.rate, parameter_groups=groups,
                       folder=folder / phase.name, weight_decay=0.05, clip=5.0, ema=phase.ema, seed=seed,
                       label=f"places, {phase.name}", precision="fp32",
                       identity={"max_side": max_side, "side": side, "pictures": [len(pristine), len(photographs)]})
    return places.eval()
