"""Where a picture is spoiled: a small network that holds each place against the rest of the picture.

Its backbone starts as the first stages of the scoring network. Of every stage's channels, and of the picture's own
colours, the mean and deviation in a window of 48 px, and how far they lie from the picture's mean, go through a few
narrow layers to the severity of the place, 0..1, one every 16 px. It is learned, backbone included, from pictures of
which a part is distorted (`fit`): what an unharmed photograph has of soft, dark or empty places is in them, unharmed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core import images, training
from gmiqa_core.backbone import SCResNet
from gmiqa_core.distortions import LEVELS, TYPES, calibration, distort
from gmiqa_core.mobilenet import MEAN, STD
from gmiqa_core.network import read, write
from gmiqa_core.settings import UserError
from gmiqa_core.synthetic.contents import at_least, crop_at

STEP = 16  # px between places, whose windows are three times as wide
STAGES, HIDDEN, OWN = 3, 128, 7  # of the scoring network; channels of the layers; of `own`
SIDE, BATCH = 256, 16  # of the crops that `fit` shows
RATE, SLOW = 2e-3, 8e-4  # of its two phases; in the first the backbone learns at half the rate
SMALLEST = 0.45  # share to which `fit` shrinks a picture at most
LEAST = 0.65  # severity of a distortion that people hardly mind: it is still the place that differs
WORD = "model of places, which belongs beside the checkpoint that names it"


class Places(nn.Module):
    """(n,3,h,w) in [0,1] -> logits of the severity of its places (n,rows,columns). options: those of SCResNet."""

    mean: Tensor
    std: Tensor

    def __init__(self, **options: Any):
        super().__init__()
        self.options = options
        self.backbone = SCResNet(**options, every_stage=True)
        inputs = 4 * (OWN + sum(self.backbone.widths))
        self.standardise = nn.BatchNorm2d(inputs, affine=False)
        self.alone = nn.Conv2d(inputs, HIDDEN, 1)
        self.beside = nn.Conv2d(2 * HIDDEN, HIDDEN, 1)
        self.near = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.around = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=3, dilation=3)
        self.drop = nn.Dropout2d(0.1)
        self.last = nn.Conv2d(HIDDEN, 1, 1)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.look(x)
        u = self.standardise(torch.cat([seen, beside_the_rest(seen)], 1)).clamp(-5, 5)
        h = self.drop(F.relu(self.alone(u)))
        h = h + F.relu(self.beside(torch.cat([h, beside_the_rest(h)], 1)))
        h = h + F.relu(self.near(self.drop(h)))
        h = h + F.relu(self.around(h))
        return self.last(h)[:, 0]

    def look(self, x: Tensor) -> Tensor:
        """Mean and deviation of every channel about each place, (n,channels,rows,columns)."""
        grid = max(1, round(x.shape[2] / STEP)), max(1, round(x.shape[3] / STEP))
        seen = []
        for stage in [own(x), *self.backbone((x - self.mean) / self.std)]:
            mean, square = (window(F.adaptive_avg_pool2d(part, grid)) for part in (stage, stage.square()))
            seen += [mean, (square - mean.square()).clamp(min=1e-5).sqrt()]
        return torch.cat(seen, 1)

    @torch.inference_mode()
    def severity(self, x: Tensor) -> Tensor:
        """Picture (3,h,w) in [0,1] -> severity of its places (rows,columns), 0..1, each the mean with its neighbours'.
        """
        return window(torch.sigmoid(self(x[None].to(self.last.weight.device))))[0].double().cpu()

    def save(self, path: Path) -> None:
        half = {name: v.half() if v.is_floating_point() else v for name, v in self.state_dict().items()}
        write(path, half, places=json.dumps(self.options))

    @classmethod
    def load(cls, path: Path) -> Places:
        tensors, header = read(path, WORD)
        try:
            places = cls(**json.loads(header["places"]))
            places.load_state_dict(tensors)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{path} is not a {WORD}: {error}") from None
        return places.eval()

    @classmethod
    def of(cls, model: Any) -> Places:
        """An untrained one, whose backbone starts as the first stages of the scoring network."""
        options = {name: model.config[name] for name in ("width", "self_calibrated", "r", "upsample", "stem",
                                                         "bottleneck")}
        places = cls(depths=list(model.config["depths"][:STAGES]), **options)
        start = model.backbone.state_dict()
        places.backbone.load_state_dict({name: start[name] for name in places.backbone.state_dict()})
        return places


def own(x: Tensor) -> Tensor:
    """The picture itself: its colours, luminance, saturation and two opponent colours, (n,3,h,w) -> (n,OWN,h,w)."""
    red, green, blue = x.split(1, 1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    spread = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    saturation = spread / (x.amax(1, keepdim=True) + 0.05)
    return torch.cat([x, luminance, saturation, red - green, blue - luminance], 1)


def window(x: Tensor) -> Tensor:
    """Mean of each cell and its neighbours, (...,rows,columns)."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def beside_the_rest(x: Tensor) -> Tensor:
    """How each place differs from the picture's mean."""
    return x - x.mean((2, 3), keepdim=True)


def faintly_distorted(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """A picture (3,h,w) in [0,1] distorted all over, at one of the three lower levels."""
    kind = TYPES[int(rng.integers(len(TYPES)))].name
    return distort(picture[None], kind, int(rng.integers(1, 4)), [int(rng.integers(2**62))])[0]


def partly_distorted(picture: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A picture (3,h,w) in [0,1], distorted within an ellipse or a rectangle with a sharp or soft edge, or not at all;
    and the severity of each pixel (h,w). Strong levels come more often: faint ones hardly show."""
    h, w = picture.shape[1:]
    kind, level = int(rng.integers(len(TYPES) + 1)), int(rng.choice(LEVELS, p=np.array(LEVELS) / sum(LEVELS)))
    if kind == 0:
        return picture, torch.zeros(h, w)
    spoiled = distort(picture[None], TYPES[kind - 1].name, level, [int(rng.integers(2**62))])[0]
    (height, width), centre = rng.uniform(0.25, 0.8, 2) * (h, w), rng.uniform(0, 1, 2) * (h, w)
    down = (torch.arange(h)[:, None] + 0.5 - centre[0]) / (height / 2)
    right = (torch.arange(w)[None] + 0.5 - centre[1]) / (width / 2)
    far = torch.hypot(down, right) if rng.random() < 0.5 else torch.maximum(down.abs(), right.abs())
    mask = ((1 - far) / rng.choice([0.001, 0.1, 0.3]) + 0.5).clamp(0, 1)
    mixed = picture * (1 - mask) + spoiled * mask
    lost = 1 - float(calibration.quality(np.array([kind]), np.array([level]))[0])
    return (mixed * 255).round() / 255, mask * min(1.0, LEAST + (1 - LEAST) * lost / 0.9)


@dataclass
class Objective:
    """Cross entropy with the severity of the places of BATCH crops, drawn from the lists of pictures alike, of which
    the share `faint` is distorted all over before."""

    pictures: Sequence[Sequence[Any]]
    max_side: int
    side: int
    seed: int
    faint: float = 0.0

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
        return partly_distorted(faintly_distorted(x, rng) if self.faint and rng.random() < self.faint else x, rng)

    def __call__(self, model: Places, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        x, severity = self.draw(step)
        return F.binary_cross_entropy_with_logits(model(x), severity), {}


def fit(model: Any, pristine: Sequence[Any], good: Sequence[Any], ordinary: Sequence[Any], max_side: int, seed: int,
        steps: int, folder: Path, side: int = SIDE) -> Places:
    """Learn from partly distorted crops of pictures (paths, arrays or tensors). First what a spoiled place is, from
    pristine pictures and good photographs; then, for a seventh of the steps, that it is worse than the rest, from any
    photographs and with pictures that are faintly distorted all over. A stopped training goes on in `folder`."""
    torch.manual_seed(seed)
    places = Places.of(model)
    rest = [weight for name, weight in places.named_parameters() if not name.startswith("backbone.")]
    phases = (("spoiled", steps, good, 0.0, RATE, RATE / 2, 0.998),
              ("worse", steps // 7, ordinary, 0.5, SLOW, SLOW, 0.99))
    for name, count, photographs, faint, rate, rate_backbone, ema in phases:
        groups = [{"params": list(places.backbone.parameters()), "lr": rate_backbone}, {"params": rest, "lr": rate}]
        training.train(places, Objective([pristine, photographs], max_side, side, seed, faint), steps=count, lr=rate,
                       parameter_groups=groups, folder=folder / name, weight_decay=0.05, clip=5.0, ema=ema, seed=seed,
                       label=f"places, {name}", precision="fp32",
                       identity={"max_side": max_side, "side": side, "pictures": [len(pristine), len(photographs)]})
    return places.eval()
