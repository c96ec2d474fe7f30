"""Where a picture is bad, in the scores' unit (0..100, higher is better).

With a local quality network (local_quality.py; the bundled model has one) the picture's score is shared out: each
place gets it in proportion to 1 - severity, so that the map's mean is about the score. Without one, the map blends
the network's scores of overlapping tiles, each a picture in its own right. A tile is a quarter of
the longer side of the prepared picture, but at least 96 pixels, where the network still sees structure; tiles overlap
by half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LARGEST = 640  # longer side of the picture that the local quality network sees
SMALLEST_TILE = 96
TILES_A_SIDE = 4  # of the longer side
CELL = 16  # pixels of the prepared picture per cell of the map


@dataclass(frozen=True)
class QualityMap:
    """values (rows, columns) on 0..100, higher is better, spread evenly over a picture of width x height pixels."""

    values: np.ndarray
    width: int
    height: int

    @property
    def worst(self) -> tuple[int, int]:
        """(x, y), in pixels of the full picture, of the centre of its worst place."""
        row, column = np.unravel_index(int(self.values.argmin()), self.values.shape)
        rows, columns = self.values.shape
        return int((column + 0.5) * self.width / columns), int((row + 0.5) * self.height / rows)


def shared_out(quality: Tensor, severity: Tensor) -> np.ndarray:
    """A picture's quality (1,) in 0..1 and the severity (rows,columns) in 0..1 of its places -> values of its map."""
    undistorted = 1 - severity
    return (100 * (quality * undistorted / undistorted.mean()).clamp(0, 1)).numpy().astype(np.float32)


@dataclass(frozen=True)
class Tiles:
    """Overlapping square tiles of a picture of height x width pixels: their side and their first rows and columns."""

    height: int
    width: int
    side: int
    tops: list[int]
    lefts: list[int]

    @classmethod
    def covering(cls, height: int, width: int) -> Tiles:
        """Tiles that cover a picture and overlap by at least half."""
        side = max(SMALLEST_TILE, round(max(height, width) / TILES_A_SIDE))
        return cls(height, width, side, _starts(height, side), _starts(width, side))

    def cut(self, x: Tensor) -> list[Tensor]:
        """The tiles (1,3,side,side) of a picture (3,height,width), row by row; smaller where the picture is."""
        return [x[None, :, top : top + self.side, left : left + self.side] for top in self.tops for left in self.lefts]

    def blend(self, scores: Tensor) -> np.ndarray:
        """Scores of the tiles -> values of the map. Each cell is the mean of the tiles around it, weighted by a bell
        over their distance (separable)."""
        rows, columns = (_weights(*axis, self.side) for axis in ((self.height, self.tops), (self.width, self.lefts)))
        return (rows @ scores.reshape(len(self.tops), len(self.lefts)) @ columns.T).numpy().astype(np.float32)


def _starts(length: int, tile: int) -> list[int]:
    """First pixels of tiles that cover 0..length, overlapping by at least half."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile // 2)) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _weights(length: int, starts: list[int], tile: int) -> Tensor:
    """(cells, tiles), each row summing to 1."""
    centres = torch.tensor([start + min(tile, length) / 2 for start in starts], dtype=torch.float64)
    count = max(1, round(length / CELL))
    cells = (torch.arange(count, dtype=torch.float64) + 0.5) * length / count
    return torch.softmax(-0.5 * ((cells[:, None] - centres) / (tile / 4)) ** 2, 1)
