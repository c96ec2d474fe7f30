"""Contents and their distorted versions, kept on a device: what the scoring model learns from besides human scores.

Each content has an undistorted version and one for some of the 125 cells of type and level. All versions of a content
are of one size, at least `side` on both sides (mirrored where a content is smaller), so that the same window can be cut
out of each: what differs between two windows is the distortion alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gmiqa.data.distortions import LEVELS, TYPES, calibration
from gmiqa.data.images.gather import Packed
from gmiqa.data.synthetic.distorted import distorted, shrunk
from gmiqa.data.synthetic.pristine import at_least
from gmiqa.runs.progress import Progress
from gmiqa_core.shapes import by_shape

TOGETHER = 64  # pictures distorted at a time
SHRUNK = (0, 0.94, 0.88)  # half of the contents are shrunk after the distortion, as large pictures are before scoring


@dataclass
class Versions:
    """pictures    all versions of all contents, on the device
    table       (n,3): content, type, level of each; type 0 at level 0 is the undistorted one
    rows        of each content its rows in the table, the undistorted one first
    """

    pictures: Packed
    table: np.ndarray

    def __post_init__(self) -> None:
        content, kind, self.level = self.table.T
        self.kind, self.lost = kind, 1 - calibration.quality(kind, self.level)
        self.share = calibration.quality(kind, self.level) / calibration.quality(*np.zeros((2, 1), int))
        order = np.lexsort((self.level, kind, content))
        bounds = np.searchsorted(content[order], np.arange(content.max() + 2))
        self.rows = [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]

    @property
    def digest(self) -> str:
        """Of the cells and of some of their pixels."""
        some = self.pictures.memory[:: max(1, self.pictures.memory.numel() // 100_000)]
        return hashlib.sha256(self.table.tobytes() + some.cpu().numpy().tobytes()).hexdigest()[:16]

    def windows(self, index: np.ndarray, at: np.ndarray, flip: np.ndarray, side: int) -> Tensor:
        """uint8 (n,3,side,side): of version `index` the window at a share (n,2) of the free space, mirrored if so."""
        room = np.stack([self.pictures.heights[index], self.pictures.widths[index]], 1) - side
        places = np.concatenate([np.rint(at * room).astype(int), flip[:, None], np.zeros((len(index), 1), int)], 1)
        return self.pictures.windows(index, list(places), (side, side))


def cells_of(content: int, types: int, levels: int, seed: int) -> list[tuple[int, int]]:
    """The cells of a content: so many types, so many levels of each, undistorted first; alike for all over contents."""
    rng = np.random.default_rng((seed, 7, content))
    kinds = rng.permutation(len(TYPES))[:types] + 1
    return [(0, 0)] + [(int(kind), int(level)) for kind in kinds for level in
                       rng.choice(LEVELS, levels, replace=False)]


def make(contents: Sequence[Tensor], counts: Sequence[tuple[int, int]], side: int, seed: int,
         device: torch.device, label: str = "distorted versions") -> Versions:
    """Versions of uint8 contents (3,h,w); counts: of each content how many types, at how many levels each."""
    rng = np.random.default_rng((seed, 11))
    ends = rng.choice(SHRUNK, len(contents), p=(0.5, 0.25, 0.25))
    sources = [at_least(content, int(np.ceil(side / (end or 1)) + bool(end))).to(device)
               for content, end in zip(contents, ends, strict=True)]
    rows = [(i, *cell) for i in range(len(contents)) for cell in cells_of(i, *counts[i], seed)]
    order = sorted(range(len(rows)), key=lambda k: (rows[k][1:], ends[rows[k][0]], rows[k][0]))
    made: list[Tensor | None] = [None] * len(rows)
    progress = Progress(label, len(rows))
    for members, pictures in by_shape((sources[rows[k][0]] for k in order), TOGETHER):
        chosen = [order[m] for m in members]
        kind, level = np.array([rows[k][1:] for k in chosen]).T
        seeds = [int(np.random.default_rng((seed, 13, k)).integers(2**62)) for k in chosen]
        pictures, end = distorted(pictures, kind, level, seeds), ends[[rows[k][0] for k in chosen]]
        for value in np.unique(end):
            same = np.flatnonzero(end == value)
            small = shrunk(pictures[same], round(value * max(pictures.shape[2:])))
            for place, picture in zip(same, small, strict=True):
                made[chosen[place]] = picture.clone()
        progress.update(len(chosen))
    return Versions(Packed(made, device), np.array(rows))  # type: ignore[arg-type]
