"""MetaQAP's base networks by name, and what each starts from: backbones that give maps, without their classifiers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmiqa.base_networks import QualityNetwork
from gmiqa.imagenet import lite_start
from gmiqa.mobilenet import MobileNetV2
from gmiqa_core.backbone import SCResNet
from gmiqa_core.efficientnet import SIZES, EfficientNetLite
from gmiqa_core.errors import UserError, did_you_mean

# our name -> torchvision's
TORCHVISION = {"resnet50": "resnet50", "densenet201": "densenet201", "mobilenet_v2": "mobilenet_v2",
               "mobilenet_v3": "mobilenet_v3_small", "efficientnet_b0": "efficientnet_b0"}
NAMES = ("small", *SIZES, *TORCHVISION)
RANDOM = "random weights"


def base_network(name: str, start: str = "random", mobilenet: str | Path = "") -> QualityNetwork:
    """A base network with an untrained head.

    name         one of NAMES, or `timm:NAME` for any network of timm that gives maps (timm:nasnetalarge, timm:xception)
    start        `random`, or `imagenet`: the installed package of lite0, lite1 and lite2, else the file in the cache of
                 torchvision or timm. Nothing is downloaded
    mobilenet    a file with ImageNet weights of mobilenet_v2, in place of torchvision's
    """
    imagenet = start == "imagenet"
    if name == "small":
        if imagenet:
            raise UserError("the base network 'small' has no ImageNet weights; start it at random.")
        small = SCResNet((1, 1, 1, 1), 24, self_calibrated=False, stem="conv", bottleneck=False, stem_start="dct",
                         every_stage=True)
        return QualityNetwork(small, name, RANDOM, on_cpu="auto")
    if name in SIZES:
        lite = EfficientNetLite(name)
        lite.calibrated = nn.Identity()  # type: ignore[assignment] # this block is GMIQA's
        return QualityNetwork(lite, name, lite_start(lite, "package") if imagenet else RANDOM)
    if name == "mobilenet_v2" and imagenet and mobilenet:
        return QualityNetwork(MobileNetV2(mobilenet), name, f"the ImageNet weights of {Path(mobilenet).name}")
    library = "timm" if name.startswith("timm:") else "torchvision"
    if name in TORCHVISION or library == "timm":
        trunk = _timm(name, imagenet) if library == "timm" else _torchvision(name, imagenet)
        return QualityNetwork(trunk, name, f"{library}'s ImageNet weights" if imagenet else RANDOM)
    raise UserError(f"there is no base network '{name}'{did_you_mean(name, NAMES)}; choose from {', '.join(NAMES)} and "
                    "timm:NAME.")


class Stages(nn.Sequential):
    """Layers in a row that give the last map of each shape: those at the end of the stages."""

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        maps: list[Tensor] = []
        for layer in self:
            x = layer(x)
            if maps and maps[-1].shape == x.shape:
                maps.pop()
            maps.append(x)
        return maps


def _torchvision(name: str, imagenet: bool) -> Stages:
    import torchvision

    builder = TORCHVISION[name]
    if imagenet:
        url = torchvision.models.get_model_weights(builder).DEFAULT.url
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if not file.is_file():  # a run must not download anything silently
            shown = str(file).replace(str(Path.home()), "~")
            raise UserError(f"ImageNet weights of '{name}' are not at hand: {shown} is not there. Fetch them once with "
                            f"torchvision.models.get_model('{builder}', weights='DEFAULT'), or start at random.")
    model = torchvision.models.get_model(builder, weights="DEFAULT" if imagenet else None)
    layers = list(getattr(model, "features", model).children())
    if builder.startswith("resnet"):
        layers = layers[:-2]  # without pooling and classifier
    elif builder.startswith("densenet"):
        layers.append(nn.ReLU())
    return Stages(*layers)


def _timm(name: str, imagenet: bool) -> nn.Module:
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError:
        raise UserError(f"the base network '{name}' needs the package timm: pip install timm, or leave it "
                        "out.") from None
    plain = name.removeprefix("timm:")
    if not timm.is_model(plain):
        raise UserError(f"timm has no network '{plain}'{did_you_mean(plain, timm.list_models())}.")
    file = None
    if imagenet:
        from huggingface_hub import try_to_load_from_cache

        hub = timm.get_pretrained_cfg(plain).hf_hub_id
        file = try_to_load_from_cache(hub, "model.safetensors") if hub else None
        if not isinstance(file, str):
            raise UserError(f"ImageNet weights of '{name}' are not at hand. Fetch them once with "
                            f"timm.create_model('{plain}', pretrained=True), or start at random.")
    overlay = {"file": file} if file else None
    trunk = timm.create_model(plain, pretrained=imagenet, pretrained_cfg_overlay=overlay, features_only=True)
    trunk.normalisation = tuple(timm.data.resolve_data_config({}, model=trunk)[part] for part in ("mean", "std"))
    return trunk
