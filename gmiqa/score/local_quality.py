"""Where a picture is spoiled: a small network that holds each place against the rest of the picture.

Its backbone starts as the first stages of the scoring network. Of every stage's channels, and of the picture's own
colours, the mean and deviation in a window of 48 px, and how far they lie from the picture's mean, go through a few
narrow layers to the severity of the place, 0..1, one every 16 px. How it is learned: spoiling.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core.backbone import SCResNet
from gmiqa_core.checkpoints import read, write
from gmiqa_core.errors import UserError
from gmiqa_core.imagenet import MEAN, STD

STEP = 16  # px between places, whose windows are three times as wide
STAGES, HIDDEN, OWN = 3, 128, 7  # of the scoring network; channels of the layers; of `own`
SMALLER = 0.7  # of the copy that is looked at, too
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
        """Picture (3,h,w) in [0,1] -> severity of its places (rows,columns), 0..1: the mean of looks at the picture and
        at a smaller copy, each place with its neighbours."""
        x = x[None].to(self.last.weight.device)
        found = torch.sigmoid(self(x))
        small = [round(side * SMALLER) for side in x.shape[2:]]
        if min(small) >= 2 * STEP:
            copy = F.interpolate(x, small, mode="bicubic", antialias=True).clamp(0, 1)
            again = torch.sigmoid(self(copy))[None]
            found = (found + F.interpolate(again, found.shape[1:], mode="bilinear")[0]) / 2
        return window(found)[0].double().cpu()

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
