"""Where a picture is distorted: a branch that compares each place with the rest of the picture.

Of the picture's own colours and of every map of the backbone down to stride 16, it takes the mean and the deviation in
a window of 48 px, and how far both are from the picture's average. A few narrow layers turn these into the severity of
the distortion at places 16 px apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core.graph import full

STEP = 16  # px between places, whose windows are three times as wide
HIDDEN = 96  # channels of the layers
COLOURS = 7  # channels of `colours`


class LocalBranch(nn.Module):
    """Pictures (n,3,h,w) in [0,1] and their maps -> logits of the severity at their places (n,h//16,w//16).

    `alone` sees one place, `beside` its difference from the picture's average, `near` and `around` its neighbours at
    two distances.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int]):
        super().__init__()
        self.strides = [s if s <= STEP else 0 for s in strides]
        inputs = 4 * (COLOURS + sum(width for width, stride in zip(widths, self.strides, strict=True) if stride))
        self.standardise = nn.BatchNorm2d(inputs, affine=False)
        self.alone = nn.Conv2d(inputs, HIDDEN, 1)
        self.beside = nn.Conv2d(2 * HIDDEN, HIDDEN, 1)
        self.near = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.around = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=3, dilation=3)
        self.drop = nn.Dropout2d(0.1)
        self.last = nn.Conv2d(HIDDEN, 1, 1)

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        windows = self.windows(images, maps)
        u = self.standardise(torch.cat([windows, from_average(windows)], 1)).clamp(-5, 5)
        h = self.drop(F.relu(self.alone(u)))
        h = h + F.relu(self.beside(torch.cat([h, from_average(h)], 1)))
        h = h + F.relu(self.near(self.drop(h)))
        h = h + F.relu(self.around(h))
        return full(self.last(h))[:, 0]

    def windows(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Mean and deviation of every channel in the window about each place, (n,channels,rows,columns)."""
        rows, columns = images.shape[2] // STEP, images.shape[3] // STEP
        moments = []
        for stride, part in zip([1, *self.strides], [colours(images), *maps], strict=True):
            if stride:
                part = full(part)
                mean, square = (neighbourhood(F.avg_pool2d(x, STEP // stride)[..., :rows, :columns])
                                for x in (part, part.square()))
                moments += [mean, (square - mean.square()).clamp(min=1e-5).sqrt()]
        return torch.cat(moments, 1)


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
