"""MobileNetV2 with ImageNet weights from a file at hand: a base network for MetaQAP."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from gmiqa_core.backbone import MEAN, STD
from gmiqa_core.errors import UserError

STAGE_ENDS = (0, 1, 3, 6, 10, 13, 16, 17, 18)  # the last block of each width, and the last convolution


class MobileNetV2(nn.Module):
    """Images (n,3,H,W), normalised by `normalisation` -> the maps at the end of its stages.

    file    torchvision's weights (mobilenet_v2-*.pth), or an .npz with the 8-bit numbers of TensorFlow's, batch norm
            folded in: convNN.weight_q, convNN.scale, convNN.bias for NN in 00..52. TensorFlow pads strided convolutions
            at the right and bottom, torch at the left and top. With kernels and picture turned by 180 degrees, both
            compute the same. The folded BatchNorm only adds its bias, also in training.
    """

    def __init__(self, file: str | Path):
        super().__init__()
        from torchvision.models import mobilenet_v2

        path = Path(file).expanduser()
        if not path.is_file():
            raise UserError(f"'{file}' is not a file; expected MobileNetV2's weights: torchvision's .pth or an .npz of "
                            "8-bit numbers, see docs/metaqap.md")
        self.turned = path.suffix == ".npz"
        model = mobilenet_v2(weights=None, num_classes=1001 if self.turned else 1000)
        try:
            if self.turned:
                with np.load(path) as numbers:
                    _fill(model, numbers)
            else:
                model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (KeyError, ValueError, RuntimeError, OSError, EOFError, UnpicklingError, BadZipFile) as error:
            raise UserError(f"{path} does not hold MobileNetV2's weights ({_first_line(error)}).") from error
        self.features = model.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalisation = ((0.5,) * 3, (0.5,) * 3) if self.turned else (MEAN, STD)
        self.eval()

    def forward(self, x: Tensor, blocks: Collection[int] = STAGE_ENDS) -> list[Tensor]:
        """The maps of these blocks, in their order."""
        x = x.flip(2, 3) if self.turned else x
        kept = []
        for k, block in enumerate(self.features[: max(blocks) + 1]):
            x = block(x)
            if k in blocks:
                kept.append(x.flip(2, 3) if self.turned else x)
        return kept

    def train(self, mode: bool = True) -> MobileNetV2:
        super().train(mode)
        for module in self.modules():
            if self.turned and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def _fill(model: nn.Module, numbers: Any) -> None:
    """Weights from 8-bit numbers and their scales. BatchNorm is folded into them and only adds the bias."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    index = -1
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(1 - layer.eps)  # type: ignore[union-attr, operator]
            layer.bias.data = torch.from_numpy(numbers[f"conv{index:02d}.bias"]).float()
            continue
        index += 1
        name = f"conv{index:02d}"
        stored = numbers[f"{name}.weight_q"]
        shape = (*layer.weight.shape, 1, 1)[:4]  # the classifier is stored as a 1x1 convolution
        if stored.shape != shape:
            raise ValueError(f"{name} is {stored.shape}, expected {shape}")
        weight = torch.from_numpy(stored.astype(np.float32) * numbers[f"{name}.scale"].reshape(-1, 1, 1, 1))
        layer.weight.data = weight.flip(2, 3).reshape(layer.weight.shape)
        if isinstance(layer, nn.Linear):
            layer.bias.data = torch.from_numpy(numbers[f"{name}.bias"]).float()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
