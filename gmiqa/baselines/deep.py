"""Two small learned methods to compare with: CNNIQA, and a plain ResNet trained on whole pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gmiqa.baselines.base import Baseline
from gmiqa.data import images
from gmiqa.data.pictures import Pictures
from gmiqa.features.nss import luminance, mscn
from gmiqa_core import training
from gmiqa_core.backbone import MEAN, STD, SCResNet


class CNNIQA(Baseline):
    """Kang, Ye, Li & Doermann, "Convolutional neural networks for no-reference image quality assessment", CVPR 2014.

    Patches of 32 x 32 locally normalised luminance; 50 filters of 7 x 7, max and min pooling, two layers of 800; L1
    loss on the picture's score; a picture's quality is the mean over its patches. Adam in place of the paper's SGD.
    """

    title = "CNNIQA"
    patch = 32

    def __init__(self, steps: int = 400, batch: int = 64, lr: float = 1e-3, max_side: int = 512, patches: int = 64,
                 seed: int = 0, device: str | torch.device = "cpu"):  # fmt: skip
        self.steps, self.batch, self.lr, self.max_side = steps, batch, lr, max_side
        self.patches, self.seed, self.device = patches, seed, device

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        patches = list(self._patches(pictures))
        target = torch.from_numpy(quality).float()
        torch.manual_seed(self.seed)
        self.model = CNNIQANet().to(self.device)
        self.centre, self.scale = float(target.mean()), float(target.std(correction=0)) or 1.0

        def objective(model: nn.Module, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
            rng = np.random.default_rng((self.seed, step, micro))
            chosen = rng.integers(len(patches), size=self.batch)
            batch = torch.stack([patches[i][rng.integers(len(patches[i]))].float() for i in chosen])
            wanted = (target[chosen] - self.centre) / self.scale
            return F.l1_loss(model(batch.to(self.device)), wanted.to(self.device)), {}

        _train(self.model, objective, self.steps, self.lr, self.seed)

    def _predict(self, pictures: list[Any]) -> np.ndarray:
        with torch.inference_mode():
            scores = [float(self.model(patches.float().to(self.device)).mean()) for patches in self._patches(pictures)]
        return np.array(scores) * self.scale + self.centre

    def _patches(self, pictures: list[Any]) -> Iterator[Tensor]:
        """Per picture, non-overlapping patches, evenly thinned to `patches`: half-precision (k, 1, 32, 32)."""
        for image in images.Decoded(pictures, self.max_side):
            plane = mscn(luminance(image[None].float()))[0][0]
            short = [max(0, self.patch - n) for n in plane.shape]
            if any(short):
                plane = F.pad(plane[None, None], (0, short[1], 0, short[0]), mode="replicate")[0, 0]
            patches = plane.unfold(0, self.patch, self.patch).unfold(1, self.patch, self.patch)
            patches = patches.reshape(-1, 1, self.patch, self.patch)
            if len(patches) > self.patches:
                patches = patches[torch.linspace(0, len(patches) - 1, self.patches).long()]
            yield patches.half()


class CNNIQANet(nn.Module):
    """(N, 1, 32, 32) -> (N,)."""

    def __init__(self, filters: int = 50, width: int = 800):
        super().__init__()
        self.filters = nn.Conv2d(1, filters, 7)
        self.head = nn.Sequential(nn.Linear(2 * filters, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                  nn.Dropout(0.5), nn.Linear(width, 1))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.filters(x)
        return self.head(torch.cat([x.amax((2, 3)), x.amin((2, 3))], 1)).squeeze(1)


class PlainResNet(Baseline):
    """The network's backbone without self-calibration, mean pooling and a linear layer; squared error."""

    title = "plain ResNet"

    def __init__(self, preset: str = "quick", steps: int = 200, batch: int = 16, lr: float = 1e-3, crop: int = 0,
                 max_side: int = 512, seed: int = 0, device: str | torch.device = "cpu"):  # fmt: skip
        self.preset, self.steps, self.batch, self.lr, self.crop = preset, steps, batch, lr, crop
        self.max_side, self.seed, self.device = max_side, seed, device

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        from gmiqa_core.presets import PRESETS

        target = torch.from_numpy(quality).float()
        data = Pictures(images.read_all(pictures, self.max_side), target, torch.zeros(len(target))).on(self.device)
        torch.manual_seed(self.seed)
        self.model = _Pooled(PRESETS[self.preset], float(target.mean())).to(self.device)

        def objective(model: nn.Module, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
            batch = data.batch(self.seed, step, self.batch, self.crop)
            return F.mse_loss(model(images.to_float(batch.images).to(self.device)), batch.quality.to(self.device)), {}

        _train(self.model, objective, self.steps, self.lr, self.seed)

    def _predict(self, pictures: list[Any]) -> np.ndarray:
        with torch.inference_mode():
            return np.array([float(self.model(images.to_float(picture[None]).to(self.device)))
                             for picture in images.Decoded(pictures, self.max_side)])


class _Pooled(nn.Module):
    """(N, 3, H, W) in [0, 1] -> (N,) quality."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any], start: float):
        super().__init__()
        names = ("depths", "width", "stem", "bottleneck")
        self.backbone = SCResNet(self_calibrated=False, **{name: config[name] for name in names if name in config})
        self.linear = nn.Linear(self.backbone.outputs, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, start)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.backbone((x - self.mean) / self.std).mean((2, 3))).squeeze(1)


def _train(model: nn.Module, objective: Any, steps: int, lr: float, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        training.train(model, objective, steps=steps, lr=lr, folder=folder, resume="never", seed=seed,
                       checkpoint_every=steps + 1, report=lambda step, steps, values: None)  # fmt: skip
