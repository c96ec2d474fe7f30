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
        return _first_of(folder)
    pictures = {}
    for name, photograph in embedded.photographs().items():
        pictures[name] = photograph
        title, worse = _distorted(photograph, *DISTORTED[name], seed)
        pictures[f"{name}, {title}"] = worse
    return pictures


def spoiled_corner(seed: int = 0) -> dict[str, Tensor]:
    """One photograph whose lower right corner alone has noise, so that there is a place to find."""
    picture = embedded.photographs()["astronaut"].clone()
    _, worse = _distorted(picture, "white_noise", 5, seed)
    corner = (slice(None), *(slice(side // 2, None) for side in picture.shape[1:]))
    picture[corner] = worse[corner]
    return {"astronaut, noisy corner": picture}


def _first_of(folder: str) -> dict[str, Tensor]:
    """The first pictures of a folder that can be read; a line says how many before them cannot."""
    if not Path(folder).is_dir():
        raise UserError(f"pictures: no folder with pictures {folder}")
    pictures: dict[str, Tensor] = {}
    errors = []
    for path in find([folder]):
        try:
            pictures[Path(path).name] = images.read(path, 1024)
        except images.ImageError as error:
            errors.append(str(error))
        if len(pictures) == MOST:
            break
    if not pictures:
        raise UserError(f"pictures: no folder with pictures {folder}" + (f" ({errors[0]})" if errors else ""))
    if errors:
        print(f"{len(errors)} of the folder's pictures left out: {errors[0]}" + (", ..." if len(errors) > 1 else ""))
    return pictures


def _distorted(picture: Tensor, type: str, level: int, seed: int) -> tuple[str, Tensor]:
    """Type and level in words, and the picture with it."""
    x = distort(images.to_float(picture)[None], type, level, seed)[0]
    return f"{TYPES[type_id(type) - 1].title} {level}", (x * 255).round().to(torch.uint8)
