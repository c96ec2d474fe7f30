"""Self-calibrated ResNet and spatial pyramid: images (N,3,H,W) to vectors of a fixed length.

The self-calibrated block follows Liu et al., "Improving convolutional networks with self-calibrated convolutions",
CVPR 2020, as GMIQA uses it (Jia & Wei 2026, with r = 4). That paper has two 1x1 convolutions of half the width. Here
one convolution is cut in half: it gives the same result, is faster, and fits a torchvision ResNet's weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa_core.errors import UserError

STEMS = ("imagenet", "conv")
STEM_STARTS = ("random", "dct")
UPSAMPLE = ("bilinear", "nearest")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, as torchvision has them
RANDOM_START = "Backbone starts from random weights."


def conv_bn(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and its BatchNorm; an odd `size` keeps H and W at stride 1."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class SelfCalibrated(nn.Module):
    """The self-calibrated 3x3 convolution (N,width,H,W) -> (N,width,H/stride,W/stride), before its ReLU.

    With a, b the halves of the input's channels:
        y_a = bn(K1 a);   g = sigmoid(b + up(bn(M1 avgpool_r(b))));   y_b = bn(M3(bn(M2 b) * g))
    """

    def __init__(self, width: int, stride: int = 1, r: int = 4, upsample: str = "bilinear"):
        super().__init__()
        half = width // 2
        self.r, self.upsample = r, upsample
        self.K1 = conv_bn(half, half, stride=stride)
        self.M1 = conv_bn(half, half)
        self.M2 = conv_bn(half, half)
        self.M3 = conv_bn(half, half, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        window = [min(self.r, side) for side in b.shape[-2:]]  # so that a 3x3 map can be pooled, too
        context = self.M1(F.avg_pool2d(b, window))
        align = False if self.upsample == "bilinear" else None
        context = F.interpolate(context, b.shape[-2:], mode=self.upsample, align_corners=align)
        return torch.cat([self.K1(a), self.M3(self.M2(b) * torch.sigmoid(b + context))], 1)


class Block(nn.Module):
    """Residual block. Bottleneck: 1x1, (self-calibrated) 3x3 with the stride, 1x1 to 4 * width. Otherwise the basic
    block: 3x3 with the stride, (self-calibrated) 3x3, both `width` channels wide.
    """

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool, self_calibrated: bool, r: int,
                 upsample: str):
        super().__init__()
        self.outputs = width * (4 if bottleneck else 1)
        middle = stride if bottleneck else 1
        self.enter = conv_bn(inputs, width, 1) if bottleneck else conv_bn(inputs, width, 3, stride)
        self.conv = SelfCalibrated(width, middle, r, upsample) if self_calibrated else conv_bn(width, width, 3, middle)
        self.leave = conv_bn(width, self.outputs, 1) if bottleneck else None
        same = stride == 1 and inputs == self.outputs
        # The stride stands outside the 1x1 convolution, with the same result: oneDNN's gradient of a strided 1x1
        # convolution in channels-last order writes past its memory when the pictures do not divide by the threads.
        self.stride = stride
        self.shortcut = nn.Identity() if same else conv_bn(inputs, self.outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.relu(self.enter(x)))
        if self.leave is not None:
            y = self.leave(F.relu(y))
        return F.relu(y + self.shortcut(x[..., :: self.stride, :: self.stride]))


def make_stem(kind: str, width: int) -> nn.Module:
    """`imagenet`: 7x7/2 and a max pool, to H/4. `conv`: 3x3/2, to H/2, keeps more fine noise; then stage 1 halves."""
    if kind == "imagenet":
        return nn.Sequential(conv_bn(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    if kind == "conv":
        return nn.Sequential(conv_bn(3, width, 3, 2), nn.ReLU())
    raise UserError(f"stem = {kind!r} is not known; choose one of {', '.join(STEMS)}.")


def dct_filters(count: int, size: int = 3) -> Tensor:
    """The `count` smoothest products of a luminance or opponent-colour axis and a size x size cosine, of length 1 each:
    (min(count, 3 size^2), 3, size, size). The power of a picture falls with frequency, so random filters all see mostly
    its mean. These filters separate the frequencies, and BatchNorm then makes fine noise as loud as brightness."""
    k = torch.arange(float(size))
    cosines = F.normalize(torch.cos(torch.pi * torch.outer(k, k + 0.5) / size))
    colours = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]))
    order = [(u + v + 1.5 * (c > 0), c, u, v) for c in range(3) for u in range(size) for v in range(size)]
    chosen = [(c, u, v) for _, c, u, v in sorted(order)[:count]]
    return torch.stack([torch.einsum("c,i,j->cij", colours[c], cosines[u], cosines[v]) for c, u, v in chosen])


class SCResNet(nn.Module):
    """ResNet whose 3x3 convolutions are self-calibrated: (N,3,H,W) normalised images -> (N,outputs,~H/32,~W/32).

    depths            blocks per stage, for at least one stage; (3, 4, 6, 3) is ResNet-50's
    width             channels of the first stage's blocks, doubled at each stage; a multiple of 2
    self_calibrated   False: the plain ResNet of the ablation
    r, upsample       pooling window of M1; how its output grows back: `bilinear` (paper) or `nearest` (SCNet)
    stem, bottleneck  see make_stem and Block
    stem_start        `random`; or ours, `dct`: the first convolution starts from as many `dct_filters` as it can hold
    every_stage       return the maps of all stages, as a list, in place of the last one
    """

    normalisation = MEAN, STD

    def __init__(self, depths: Sequence[int] = (3, 4, 6, 3), width: int = 64, self_calibrated: bool = True, r: int = 4,
                 upsample: str = "bilinear", stem: str = "imagenet", bottleneck: bool = True,
                 every_stage: bool = False, stem_start: str = "random"):
        super().__init__()
        if stem_start not in STEM_STARTS:
            raise UserError(f"stem_start = {stem_start!r} is not known; choose one of {', '.join(STEM_STARTS)}.")
        self.every_stage = every_stage
        if upsample not in UPSAMPLE:
            raise UserError(f"upsample = {upsample!r} is not known; choose one of {', '.join(UPSAMPLE)}.")
        if width % 2 or width < 2:
            raise UserError(f"width = {width} cannot be halved between the two branches; give an even number.")
        self.stem = make_stem(stem, width)
        self.stages = nn.ModuleList()
        channels = width
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                stride = 2 if j == 0 and (i > 0 or stem == "conv") else 1
                blocks.append(
                    Block(
                        channels, width << i, stride,
                        bottleneck=bottleneck, self_calibrated=self_calibrated, r=r, upsample=upsample,
                    )
                )  # fmt: skip
                channels = blocks[-1].outputs
            self.stages.append(nn.Sequential(*blocks))
        self.outputs = channels
        self.strides = [4 << i for i in range(len(self.stages))]
        self.widths = [stage[-1].outputs for stage in self.stages]  # type: ignore[index, union-attr]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if stem_start == "dct":
            first = self.stem[0][0].weight.data  # type: ignore[index, union-attr]
            filters = dct_filters(len(first), first.shape[-1])
            first[: len(filters)] = filters

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps if self.every_stage else x


def channel_moments(x: Tensor) -> Tensor:
    """Mean and standard deviation of each channel over the picture, (N,C,H,W) -> (N,2C), like natural scene statistics
    but of learned filters. A distortion often shows in the spread of fine filters, which a maximum and deeper layers
    forget. In single precision at least, because the deviation is a difference of large numbers.
    """
    x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


class SpatialPyramid(nn.Module):
    """Spatial pyramid pooling (He et al. 2015): feature maps (N,C,H,W) of any H, W >= 1 -> (N, outputs).

    A 1x1 convolution to `width` channels (None: no convolution), then max pooling into l x l bins for each l of
    `levels`; outputs = width * sum(l * l). Where the map is smaller than l, bins share cells.

    stages    ours: the widths of all stages, whose `channel_moments` then follow the bins. Forward takes the list of
              their maps
    standardise, dropout    of these numbers, as maxima and deviations differ in size. `layer`: within each picture;
              few-shot adaptation has five of them, whose deviations can be near 0. `batch`: each number over pictures
    """

    def __init__(self, inputs: int, width: int | None = 256, levels: Sequence[int] = (1, 2, 4),
                 stages: Sequence[int] = (), standardise: str = "layer", dropout: float = 0.0):
        super().__init__()
        self.levels = tuple(levels)
        self.project = nn.Identity() if width is None else nn.Sequential(conv_bn(inputs, width, 1), nn.ReLU())
        self.outputs = (inputs if width is None else width) * sum(level * level for level in self.levels)
        self.outputs += 2 * sum(stages)
        self.standardise: nn.Module = nn.Identity()
        if stages:
            self.standardise = (nn.LayerNorm(self.outputs, elementwise_affine=False) if standardise == "layer" else
                                nn.Sequential(nn.BatchNorm1d(self.outputs, affine=False), nn.Dropout(dropout)))

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        maps = x if isinstance(x, list) else [x]
        last = self.project(maps[-1])
        bins = [F.adaptive_max_pool2d(last, level).flatten(1) for level in self.levels]
        moments = [channel_moments(m) for m in maps] if isinstance(x, list) else []
        return self.standardise(torch.cat(bins + moments, 1))
