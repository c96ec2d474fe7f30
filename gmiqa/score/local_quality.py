"""Where a picture is distorted: a small network that compares each place with the rest of the picture.

Its backbone starts as the first stages of the scoring network. Of every stage's channels, and of the picture's own
colours, it takes the mean and the deviation in a window of 48 px, and how far both are from the picture's average. A
few narrow layers turn these into the severity of the distortion, 0..1, at places 16 px apart. How it is trained:
gmiqa/release/fit_local_quality.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core.backbone import MEAN, STD, SCResNet
from gmiqa_core.checkpoints import read, write
from gmiqa_core.errors import UserError

STEP = 16  # px between places, whose windows are three times as wide
STAGES, HIDDEN = 3, 128  # stages of the scoring network's backbone; channels of the layers
COLOURS = 7  # channels of `colours`
SECOND_SCALE = 0.7  # size of the smaller copy that is judged as well
WHAT = "model of places, which belongs beside the checkpoint that names it"


class LocalQuality(nn.Module):
    """(n,3,h,w) in [0,1] -> logits of the severity at its places (n,rows,columns). options: those of SCResNet.

    The layers, in order, have these names in the file of weights: `alone` sees one place, `beside` its difference from
    the picture's average, `near` and `around` its neighbours at two distances.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, **options: Any):
        super().__init__()
        self.options = options
        self.backbone = SCResNet(**options, every_stage=True)
        inputs = 4 * (COLOURS + sum(self.backbone.widths))
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
        windows = self.windows(x)
        u = self.standardise(torch.cat([windows, from_average(windows)], 1)).clamp(-5, 5)
        h = self.drop(F.relu(self.alone(u)))
        h = h + F.relu(self.beside(torch.cat([h, from_average(h)], 1)))
        h = h + F.relu(self.near(self.drop(h)))
        h = h + F.relu(self.around(h))
        return self.last(h)[:, 0]

    def windows(self, x: Tensor) -> Tensor:
        """Mean and deviation of every channel in the window about each place, (n,channels,rows,columns)."""
        grid = max(1, round(x.shape[2] / STEP)), max(1, round(x.shape[3] / STEP))
        moments = []
        for stage in [colours(x), *self.backbone((x - self.mean) / self.std)]:
            mean, square = (neighbourhood(F.adaptive_avg_pool2d(part, grid)) for part in (stage, stage.square()))
            moments += [mean, (square - mean.square()).clamp(min=1e-5).sqrt()]
        return torch.cat(moments, 1)

    @torch.inference_mode()
    def severity(self, x: Tensor) -> Tensor:
        """Picture (3,h,w) in [0,1] -> severity at its places (rows,columns), 0..1: the mean over the picture and a
        smaller copy, averaged over neighbouring places."""
        x = x[None].to(self.last.weight.device)
        severity = torch.sigmoid(self(x))
        small = [round(side * SECOND_SCALE) for side in x.shape[2:]]
        if min(small) >= 2 * STEP:
            copy = F.interpolate(x, small, mode="bicubic", antialias=True).clamp(0, 1)
            second = torch.sigmoid(self(copy))[None]
            severity = (severity + F.interpolate(second, severity.shape[1:], mode="bilinear")[0]) / 2
        return neighbourhood(severity)[0].double().cpu()

    def save(self, path: Path) -> None:
        half = {name: v.half() if v.is_floating_point() else v for name, v in self.state_dict().items()}
        write(path, half, places=json.dumps(self.options))

    @classmethod
    def load(cls, path: Path) -> LocalQuality:
        tensors, header = read(path, WHAT)
        try:
            network = cls(**json.loads(header["places"]))
            network.load_state_dict(tensors)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"{path} is not a {WHAT}: {error}") from None
        return network.eval()

    @classmethod
    def untrained(cls, model: Any) -> LocalQuality:
        """Random weights but for the backbone, which starts as the first stages of the scoring network."""
        options = {name: model.config[name] for name in ("width", "self_calibrated", "r", "upsample", "stem",
                                                         "bottleneck")}
        network = cls(depths=list(model.config["depths"][:STAGES]), **options)
        start = model.backbone.state_dict()
        network.backbone.load_state_dict({name: start[name] for name in network.backbone.state_dict()})
        return network


def colours(x: Tensor) -> Tensor:
    """RGB, luminance, saturation and two opponent colours, (n,3,h,w) -> (n,COLOURS,h,w)."""
    red, green, blue = x.split(1, 1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    spread = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    saturation = spread / (x.amax(1, keepdim=True) + 0.05)
    return torch.cat([x, luminance, saturation, red - green, blue - luminance], 1)


def neighbourhood(x: Tensor) -> Tensor:
    """Mean of each cell and its neighbours, (...,rows,columns)."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def from_average(x: Tensor) -> Tensor:
    """How each place differs from the picture's average."""
    return x - x.mean((2, 3), keepdim=True)
