"""A teacher: an ImageNet network whose maps are targets for the maps of a network that has none of its weights.

    teacher = Distillation("mobilenet_v2.pth", weight=1.0)      finetuning.finetune(..., teacher=teacher)

While a network is trained, 1x1 convolutions predict the teacher's maps from its own maps of the same stride; the loss
is the share of the teacher's variance that they miss (1 - R^2). They are removed when training ends. The idea is that
of FitNets (Romero et al. 2015): scores are few, while a teacher says something about every place of every picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa.mobilenet import MobileNetV2
from gmiqa_core.errors import UserError

TAPS = {6: 8, 10: 16, 13: 16, 16: 32}  # block of MobileNetV2 -> stride of its map


def stage(stride: int) -> int:
    """The stage of a SCResNet whose map has this stride: 4, 8, 16, 32."""
    return stride.bit_length() - 3


class Distillation:
    """The loss that a teacher adds to that of a network. Call `attach` before training and `detach` after it."""

    def __init__(self, file: str | Path, weight: float = 1.0):
        self.file, self.weight = str(file), weight
        self.teacher: MobileNetV2 | None = None
        self.last: tuple[Tensor, Any] | None = None

    def attach(self, model: Any) -> None:
        """Give a GMIQA its 1x1 convolutions, `imitation`, as a part that checkpoints hold, and watch its maps."""
        parameter = next(model.parameters())
        self.teacher = MobileNetV2(self.file).requires_grad_(False).to(parameter.device)
        self.normal = [torch.tensor(v, device=parameter.device).view(3, 1, 1)
                       for v in self.teacher.normalisation]
        widths = model.backbone.widths
        model.imitation = nn.ModuleList()
        for k, stride in TAPS.items():
            if stage(stride) >= len(widths):
                raise UserError(f"a teacher needs a backbone with maps of stride {stride}: give it four stages.")
            outputs = self.teacher.features[k].out_channels  # type: ignore[union-attr, index]
            convolution = nn.Conv2d(widths[stage(stride)], outputs, 1)
            for part in convolution.parameters():
                nn.init.zeros_(part)
            # standardised: channels differ in size by orders, and a convolution of raw ones learned next to nothing
            head = nn.Sequential(nn.BatchNorm2d(widths[stage(stride)], affine=False), convolution)
            model.imitation.append(head.to(parameter.device))
        self._every, model.backbone.every_stage = model.backbone.every_stage, True
        self._handle = model.backbone.register_forward_hook(self._watch)

    def _watch(self, module: Any, inputs: tuple[Tensor], maps: list[Tensor]) -> Any:
        self.last = inputs[0], maps
        return maps if self._every else maps[-1]

    def detach(self, model: Any) -> None:
        """Leave the network as it was before `attach`."""
        self._handle.remove()
        model.backbone.every_stage = self._every
        del model.imitation
        self.teacher = self.last = None

    def __call__(self, model: Any) -> Tensor:
        """1 - R^2 of the teacher's maps of the pictures that the network has just seen, as the mean over the maps."""
        assert self.teacher is not None and self.last is not None, "attach() and a pass of the network come first"
        normalised, maps = self.last
        self.last = None
        with torch.no_grad():
            centre, scale = self.normal
            targets = self.teacher((normalised * model.std + model.mean - centre) / scale, TAPS)
        misses = []
        for head, stride, target in zip(model.imitation, TAPS.values(), targets, strict=True):
            predicted = head(maps[stage(stride)]).float()
            target = F.adaptive_avg_pool2d(target.float(), predicted.shape[-2:])
            target = F.batch_norm(target, None, None, training=True)
            misses.append(F.mse_loss(predicted, target))
        return torch.stack(misses).mean()
