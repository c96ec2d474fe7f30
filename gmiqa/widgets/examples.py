"""Pictures that the demonstration starts with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gmiqa.data import embedded, images
from gmiqa.data.distortions import TYPES, distort, type_id
from gmiqa.score.folder import find
from gmiqa_core.errors import UserError

DISTORTED = {
    "astronaut": ("gaussian_blur", 5),
    "chelsea": ("jpeg", 5),
    "china": ("darken", 4),
    "coffee": ("white_noise", 5),
    "flower": ("motion_blur", 5),
    "motorcycle": ("pixelate", 4),
    "rocket": ("jpeg2000", 5),
}
MOST = 14


def examples(folder: str = "", seed: int = 0) -> dict[str, Tensor]:
    """Name -> uint8 (3,H,W): the first pictures of a folder, or the embedded photographs, each also distorted once."""
    if folder:
        paths = [Path(path) for path, _ in zip(find([folder]), range(MOST), strict=False)]
        if not paths or not Path(folder).is_dir():
            raise UserError(f"pictures: no folder with pictures {folder}")
        return {path.name: images.read(path, 1024) for path in paths}
    pictures = {}
    for name, photograph in embedded.photographs().items():
        type, level = DISTORTED[name]
        pictures[name] = photograph
        x = distort(images.to_float(photograph)[None], type, level, seed)[0]
        pictures[f"{name}, {TYPES[type_id(type) - 1].title} {level}"] = (x * 255).round().to(torch.uint8)
    return pictures
