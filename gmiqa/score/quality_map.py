"""Where a picture is bad, in the scores' unit (0..100, higher is better).

With a model of places (places.py; the bundled model has one) the picture's score is shared out: each place gets the
score times its share of what is left unharmed, so that the map's mean is about the score. Without one the map is the
network's score of overlapping tiles, each a picture of its own, blended. A tile is a quarter of the longer side of the
prepared picture, but at least 96 pixels, where the network still sees structure; tiles overlap by half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from gmiqa.score.scorer import Scorer

LARGEST = 640  # longer side of the picture whose places are looked at
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


def quality_map(scorer: Scorer, picture: Any) -> QualityMap:
    """The map of a picture: a path, bytes, PIL image, array or tensor."""
    if scorer.places is not None:
        prepared = scorer.prepare(picture, LARGEST)
        quality, unharmed = scorer.unharmed(prepared.x)
        shared = 100 * (quality * unharmed / unharmed.mean()).clamp(0, 1)
        return QualityMap(shared.numpy().astype(np.float32), prepared.width, prepared.height)
    prepared = scorer.prepare(picture)
    x = prepared.x
    tile = max(SMALLEST_TILE, round(max(x.shape[1:]) / TILES_A_SIDE))
    tops, lefts = _starts(x.shape[1], tile), _starts(x.shape[2], tile)
    tiles = [x[None, :, top : top + tile, left : left + tile] for top in tops for left in lefts]
    scores = 100 * torch.cat(scorer.forward_all(tiles, max(x.shape[1:])))[:, 0].clamp(0, 1)
    values = _blend(scores.reshape(len(tops), len(lefts)), tops, lefts, tile, (x.shape[1], x.shape[2]))
    return QualityMap(values, prepared.width, prepared.height)


def _starts(length: int, tile: int) -> list[int]:
    """First pixels of tiles that cover 0..length, overlapping by at least half."""
    if length <= tile:
        return [0]
    count = -(-(length - tile) // (tile // 2)) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _blend(scores: Tensor, tops: list[int], lefts: list[int], tile: int, size: tuple[int, int]) -> np.ndarray:
    """Each cell is the mean of the tiles around it, weighted by a bell over their distance (separable)."""
    rows, columns = _weights(size[0], tops, tile), _weights(size[1], lefts, tile)
    return (rows @ scores @ columns.T).numpy().astype(np.float32)


def _weights(length: int, starts: list[int], tile: int) -> Tensor:
    """(cells, tiles), each row summing to 1."""
    centres = torch.tensor([start + min(tile, length) / 2 for start in starts], dtype=torch.float64)
    cells = max(1, round(length / CELL))
    places = (torch.arange(cells, dtype=torch.float64) + 0.5) * length / cells
    return torch.softmax(-0.5 * ((places[:, None] - centres) / (tile / 4)) ** 2, 1)
