"""Where a picture is bad, in the scores' unit (0..100, higher is better).

Where the network says how severely each place is distorted, the picture's score is shared out: each place gets it in
proportion to 1 - severity, so that the map's mean is about the score. Otherwise the map blends the network's scores of
overlapping tiles, each a picture in its own right. A tile is a quarter of the longer side of the prepared picture, but
at least 96 pixels, where the network still sees structure; tiles overlap by half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SMALLEST_TILE = 96
TILES_A_SIDE = 4  # of the longer side
BAD = (213, 94, 0)  # vermilion
SHARE = 0.75  # of the colour at the worst place of a map
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


def shared_out(quality: float, severity: np.ndarray) -> np.ndarray:
    """A picture's quality in 0..1 and the severity (rows,columns) in 0..1 of its places -> values of its map."""
    undistorted = 1 - severity.astype(float)
    return (100 * (quality * undistorted / undistorted.mean()).clip(0, 1)).astype(np.float32)


def overlay(picture: np.ndarray, quality_map: QualityMap) -> np.ndarray:
    """The picture in grey, its bad places in vermilion: uint8 (3,H,W) -> uint8 (3,H,W).

    Colour is relative to the picture's own best and worst place; a map that hardly varies (10 points) stays pale.
    """
    values = quality_map.values.astype(np.float32)
    span = max(10.0, float(values.max() - values.min()))
    small = Image.fromarray((values.max() - values) / span)
    badness = np.asarray(small.resize(picture.shape[:0:-1], Image.Resampling.BILINEAR))
    grey = picture.mean(0, dtype=np.float32, keepdims=True) * np.float32(0.8) + 40
    share = np.float32(SHARE) * badness.clip(0, 1) ** 1.5
    return ((1 - share) * grey + share * np.array(BAD, np.float32)[:, None, None]).round().clip(0, 255).astype(np.uint8)


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

    def cut(self, x: np.ndarray) -> list[np.ndarray]:
        """The tiles (1,3,side,side) of a picture (3,height,width), row by row; smaller where the picture is."""
        parts = (x[None, :, top : top + self.side, left : left + self.side] for top in self.tops for left in self.lefts)
        return [np.ascontiguousarray(part) for part in parts]

    def blend(self, scores: np.ndarray) -> np.ndarray:
        """Scores of the tiles -> values of the map. Each cell is the mean of the tiles around it, weighted by a bell
        over their distance (separable)."""
        rows, columns = (_weights(*axis, self.side) for axis in ((self.height, self.tops), (self.width, self.lefts)))
        return (rows @ scores.reshape(len(self.tops), len(self.lefts)) @ columns.T).astype(np.float32)


def _starts(length: int, tile: int) -> list[int]:
    """First pixels of tiles that cover 0..length, overlapping by at least half."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile // 2)) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _weights(length: int, starts: list[int], tile: int) -> np.ndarray:
    """(cells, tiles), each row summing to 1."""
    centres = np.array([start + min(tile, length) / 2 for start in starts])
    count = max(1, round(length / CELL))
    cells = (np.arange(count) + 0.5) * length / count
    powers = np.exp(-0.5 * ((cells[:, None] - centres) / (tile / 4)) ** 2)
    return powers / powers.sum(1, keepdims=True)
