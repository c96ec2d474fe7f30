"""Where a picture is spoiled: what the backbone sees in each place, held against the rest of the picture.

A place is a window of 96 px, one every 32 px. Of every stage's channels its mean and deviation (the pyramid's
statistics), and how far they lie from the picture's mean, go through one hidden layer to the severity of the place,
0..1. Learned from photographs of which a part is distorted (`fit`): what an unharmed photograph has of soft, dark or
empty places is in them too, unharmed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core import images
from gmiqa_core.distortions import LEVELS, TYPES, calibration, distort
from gmiqa_core.network import read
from gmiqa_core.settings import UserError

STEP = 32  # px between places, whose windows are three times as wide
HIDDEN, DROPOUT, RATE, BATCH = 128, 0.5, 1e-3, 512
SIZES = (1.0, 0.8, 0.6)  # of the pictures that `fit` distorts
PLACES_KEPT = 32  # of a picture of `fit`
NAMES = ("centre", "scale", "0.weight", "0.bias", "3.weight", "3.bias")


class Places:
    """tensors: NAMES, the standardisation and the two layers."""

    def __init__(self, tensors: dict[str, Tensor]):
        if set(tensors) != set(NAMES):
            raise UserError(f"a model of places needs the tensors {', '.join(NAMES)}")
        self.tensors = {name: value.float() for name, value in tensors.items()}

    @torch.inference_mode()
    def severity(self, model: Any, x: Tensor) -> Tensor:
        """Picture (3,h,w) in [0,1] as the network takes it -> severity of its places (rows, columns), 0..1."""
        seen = look(model, x)
        t = {name: value.to(seen.device) for name, value in self.tensors.items()}
        u = ((_beside_the_rest(seen.flatten(1).T) - t["centre"]) / t["scale"]).clamp(-5, 5)
        hidden = F.relu(F.linear(u, t["0.weight"], t["0.bias"]))
        return torch.sigmoid(F.linear(hidden, t["3.weight"], t["3.bias"])).view(seen.shape[1:]).double().cpu()

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        save_file({name: value.half().contiguous() for name, value in self.tensors.items()}, path,
                  metadata={"what": "gmiqa places"})

    @classmethod
    def load(cls, path: Path) -> Places:
        return cls(read(path, "model of places, which belongs beside the checkpoint that names it")[0])


def look(model: Any, x: Tensor) -> Tensor:
    """Mean and deviation of every stage's channels about each place of a picture (3,h,w): (channels, rows, columns)."""
    maps = model.backbone((x[None].to(model.mean.device) - model.mean) / model.std)
    grid = max(1, round(x.shape[1] / STEP)), max(1, round(x.shape[2] / STEP))
    seen = []
    for stage in maps if isinstance(maps, list) else [maps]:
        stage = stage[0].float()
        mean, square = (_window(F.adaptive_avg_pool2d(part, grid)) for part in (stage, stage.square()))
        seen += [mean, (square - mean.square()).clamp(min=1e-6).sqrt()]
    return torch.cat(seen)


def partly_distorted(picture: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A picture (3,h,w) in [0,1], distorted within an ellipse or a rectangle with a sharp or soft edge, or not at all;
    and the severity of each pixel (h,w)."""
    h, w = picture.shape[1:]
    kind, level = int(rng.integers(len(TYPES) + 1)), int(rng.choice(LEVELS[1:]))
    if kind == 0:
        return picture, torch.zeros(h, w)
    spoiled = distort(picture[None], TYPES[kind - 1].name, level, [int(rng.integers(2**62))])[0]
    (height, width), centre = rng.uniform(0.25, 0.8, 2) * (h, w), rng.uniform(0, 1, 2) * (h, w)
    down = (torch.arange(h)[:, None] + 0.5 - centre[0]) / (height / 2)
    right = (torch.arange(w)[None] + 0.5 - centre[1]) / (width / 2)
    far = torch.hypot(down, right) if rng.random() < 0.5 else torch.maximum(down.abs(), right.abs())
    mask = ((1 - far) / rng.choice([0.001, 0.1, 0.3]) + 0.5).clamp(0, 1)
    mixed = picture * (1 - mask) + spoiled * mask
    # No distortion may weigh nothing: people forgive a darker sky, and it is still the place that differs.
    lost = 1 - float(calibration.quality(np.array([kind]), np.array([level]))[0])
    return (mixed * 255).round() / 255, mask * min(1.0, 0.3 + 0.7 * lost / 0.9)


def fit(model: Any, pictures: Sequence[Any], max_side: int, seed: int, count: int, steps: int = 3000) -> Places:
    """Learn from `count` partly distorted ones of these pictures (paths, arrays or tensors), each in one of SIZES."""
    rng = np.random.default_rng(seed)
    rows, goals = [], []
    with torch.inference_mode():
        for k in range(count):
            picture = images.from_any(pictures[k % len(pictures)], max_side)
            side = max(STEP, round(max(picture.shape[1:]) * rng.choice(SIZES)))
            x, severity = partly_distorted(images.to_float(images.limit(picture, side)), rng)
            seen = look(model, x)
            goal = _window(F.adaptive_avg_pool2d(severity[None].float(), (seen.shape[1], seen.shape[2])))
            chosen = torch.from_numpy(rng.permutation(goal.numel())[:PLACES_KEPT])
            rows.append(_beside_the_rest(seen.flatten(1).T)[chosen].half())
            goals.append(goal.flatten()[chosen])
    u, goal = torch.cat(rows).float(), torch.cat(goals)
    centre, scale = u.mean(0), u.std(0) + 1e-6
    u = ((u - centre) / scale).clamp(-5, 5)
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(u.shape[1], HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(layers.parameters(), RATE, weight_decay=0.1)
    for step in range(steps):
        chosen = torch.from_numpy(rng.integers(len(u), size=BATCH))
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(layers(u[chosen])[:, 0], goal[chosen]).backward()
        optimizer.step()
    return Places({"centre": centre, "scale": scale, **layers.state_dict()})


def _window(x: Tensor) -> Tensor:
    """Mean of each cell and its neighbours, (n,rows,columns)."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _beside_the_rest(seen: Tensor) -> Tensor:
    """(places, n) -> (places, 2n): each place, and how it differs from the picture's mean."""
    return torch.cat([seen, seen - seen.mean(0)], 1)
