"""EfficientNet-Lite: images (N,3,H,W) to the maps of its seven stages and of its last convolution.

Tan & Le 2019, without squeeze-and-excitation and with ReLU6. On top of the stages stands one self-calibrated block,
which starts as the identity: one of two readings of where GMIQA's paper puts it. gmiqa/imagenet.py has its weights.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core.backbone import SelfCalibrated, channel_moments, conv_bn
from gmiqa_core.errors import UserError

SIZES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}  # width, depth
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # blocks, kernel, stride, expansion, channels
STEM, HEAD, EPS = 32, 1280, 1e-3


class Convolution(nn.Module):
    """Convolution and BatchNorm, then ReLU6 if `active`. At stride 2 one side gets one pixel more of padding, as in
    TensorFlow for even sizes; here for odd ones, too, so that nothing depends on the picture's size."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                 active: bool = True):
        super().__init__()
        before = (kernel - stride) // 2
        self.padding = (before, kernel - stride - before) * 2 if stride == 2 else ()
        around = 0 if stride == 2 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, around, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, EPS, 0.01)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(F.pad(x, self.padding) if self.padding else x))
        return F.relu6(x) if self.active else x


class MobileBlock(nn.Module):
    """1x1 to `expansion` times the channels, kernel x kernel within each channel, 1x1 to `outputs`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = inputs * expansion
        self.same = stride == 1 and inputs == outputs
        layers = [Convolution(inputs, width)] if expansion > 1 else []
        self.layers = nn.Sequential(*layers, Convolution(width, width, kernel, stride, width),
                                    Convolution(width, outputs, active=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.same else self.layers(x)


class Calibrated(nn.Module):
    """x plus a self-calibrated bottleneck of it, a quarter as wide; 0 at the start."""

    def __init__(self, width: int, self_calibrated: bool, r: int, upsample: str):
        super().__init__()
        middle = width // 4
        self.enter = conv_bn(width, middle, 1)
        self.conv = SelfCalibrated(middle, 1, r, upsample) if self_calibrated else conv_bn(middle, middle)
        self.leave = conv_bn(middle, width, 1)
        nn.init.zeros_(self.leave[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.leave(F.relu(self.conv(F.relu(self.enter(x)))))


class EfficientNetLite(nn.Module):
    """size lite0, lite1 or lite2; images normalised as ImageNet's usually are -> the maps of the seven stages, the last
    one calibrated, and of the last convolution, at strides 2, 4, 8, 16, 16, 32, 32, 32."""

    strides = (2, 4, 8, 16, 16, 32, 32, 32)
    normalisation = (127 / 255,) * 3, (128 / 255,) * 3

    def __init__(self, size: str = "lite0", self_calibrated: bool = True, r: int = 4, upsample: str = "bilinear"):
        super().__init__()
        if size not in SIZES:
            raise UserError(f"backbone = {size!r} is not known; choose one of scresnet, {', '.join(SIZES)}.")
        self.size = size
        wide, deep = SIZES[size]
        widths = [STEM, *(_rounded(c * wide) for *_, c in STAGES)]
        self.stem = Convolution(3, STEM, 3, 2)
        self.stages = nn.ModuleList()
        for k, ((a, b), (count, kernel, stride, expansion, _)) in enumerate(zip(pairwise(widths), STAGES, strict=True)):
            count = count if k in (0, len(STAGES) - 1) else math.ceil(count * deep)
            self.stages.append(nn.Sequential(*(
                MobileBlock(b if i else a, b, kernel, 1 if i else stride, expansion) for i in range(count))))
        self.calibrated = Calibrated(widths[-1], self_calibrated, r, upsample)
        self.head = Convolution(widths[-1], HEAD)
        self.widths, self.outputs = [*widths[1:], HEAD], HEAD

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        maps[-1] = self.calibrated(x)
        return [*maps, self.head(maps[-1])]


class Opinion(nn.Module):
    """A second score (n,) of pictures whose maps are known: later stages of its own learn nothing but scores, on top of
    the `below` first stages, which the whole network has trained."""

    unit: Tensor
    below, hidden, dropout = 5, 128, 0.4

    def __init__(self, size: str):
        super().__init__()
        backbone = EfficientNetLite(size)
        self.stages, width = self.later(backbone), 2 * sum(backbone.widths)
        self.read = nn.Sequential(
            nn.BatchNorm1d(width, affine=False), nn.Dropout(self.dropout), nn.Linear(width, self.hidden), nn.ReLU(),
            nn.Dropout(self.dropout / 2), nn.Linear(self.hidden, 1))
        self.register_buffer("unit", torch.tensor([0.5, 0.25]))  # mean and deviation of the scores it learns

    def later(self, backbone: EfficientNetLite) -> nn.ModuleList:
        return nn.ModuleList([*backbone.stages[self.below :], backbone.head])

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.of(*self.kept(maps))

    def kept(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What it needs of the maps: the last one below, and the moments of those before it."""
        return maps[self.below - 1], torch.cat([channel_moments(m.float()) for m in maps[: self.below - 1]], 1)

    def of(self, x: Tensor, moments: Tensor) -> Tensor:
        known = [moments, channel_moments(x.float())]
        for stage in self.stages:
            x = stage(x)
            known.append(channel_moments(x.float()))
        return self.unit[0] + self.unit[1] * self.read(torch.cat(known, 1)).squeeze(-1)


def _rounded(channels: float) -> int:
    new = max(8, int(channels + 4) // 8 * 8)
    return new + 8 if new < 0.9 * channels else new
