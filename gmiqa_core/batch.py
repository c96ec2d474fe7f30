"""What a training step receives: pictures, and one tensor for each fact that is known about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """n pictures. `quality`, in [0,1], higher is better, is a pseudo-score for synthetic pictures (the mean human score
    of their type and level in KADID-10k) and the picture's own human score for real ones. `severity` is 1 - the
    calibrated quality of its type and level."""

    images: Tensor  # (n,3,h,w) float in [0,1]
    quality: Tensor  # (n,)
    spread: Tensor  # (n,) standard deviation of the quality
    type: Tensor  # (n,) long, 1..25; 0: undistorted
    level: Tensor  # (n,) long, 1..5; 0: undistorted
    severity: Tensor  # (n,) in [0,1]
    content: Tensor  # (n,) long, index of the pristine picture

    def __len__(self) -> int:
        return len(self.type)

    def __getitem__(self, index: Tensor | slice) -> Batch:
        return Batch(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(upload(getattr(self, f.name), device) for f in fields(self)))

    @staticmethod
    def cat(batches: Iterable[Batch]) -> Batch:
        batches = list(batches)
        return Batch(*(torch.cat([getattr(b, f.name) for b in batches]) for f in fields(Batch)))


class Target(NamedTuple):
    """Pictures of a target set with their scores."""

    images: Tensor  # (n,3,H,W) uint8, or float in [0,1]
    quality: Tensor  # (n,) in [0,1], higher is better
    spread: Tensor  # (n,) standard deviation of the quality, 0 where the score is the picture's own
    rows: Tensor  # (n,) which pictures of the set they are


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on that device; a card copies it without a wait of the host."""
    on_card = torch.device(device).type == "cuda" and tensor.device.type == "cpu"
    return tensor.pin_memory().to(device, non_blocking=True) if on_card else tensor.to(device)


def to_float(image: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [0, 1]; floats pass through."""
    return image if image.is_floating_point() else image.float() / 255


def random_place(picture: Tensor, height: int, width: int, rng: np.random.Generator, turn: bool = False) -> tuple:
    """Of a random part (3,height,width): its top and left, whether it is mirrored (half of the time), quarter turns."""
    top, left = (int(rng.integers(n - size + 1)) for n, size in zip(picture.shape[1:], (height, width), strict=True))
    return top, left, bool(rng.random() < 0.5), int(rng.integers(4)) if turn and height == width else 0


def random_window(picture: Tensor, height: int, width: int, rng: np.random.Generator, turn: bool = False) -> Tensor:
    """A random part of a picture, mirrored half of the time; turned if that is asked and it is square."""
    top, left, flip, quarters = random_place(picture, height, width, rng, turn)
    part = picture[:, top: top + height, left: left + width]
    return torch.rot90(part.flip(2) if flip else part, quarters, (1, 2)) if flip or quarters else part
