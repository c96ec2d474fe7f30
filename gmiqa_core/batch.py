"""Batch: pictures with everything that is known about them, one tensor per fact."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

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
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))

    @staticmethod
    def cat(batches: Iterable[Batch]) -> Batch:
        batches = list(batches)
        return Batch(*(torch.cat([getattr(b, f.name) for b in batches]) for f in fields(Batch)))
