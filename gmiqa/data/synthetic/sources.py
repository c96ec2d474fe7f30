"""Pool: pristine contents, distorted as needed. RecordPool: pictures of a real data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.data.datasets import Dataset, Scale
from gmiqa.data.distortions import LEVELS, TYPES, calibration, checksum, type_id
from gmiqa.data.distortions.workers import share, threads
from gmiqa.data.images.gather import to_unit
from gmiqa.data.synthetic.distorted import distorted, shrunk
from gmiqa.data.synthetic.pool import SLOT, Drawing, SlotPool
from gmiqa.data.synthetic.pristine import Reference, at_least, bring_to_size
from gmiqa.data.synthetic.slots import Slots, in_turn
from gmiqa_core.errors import UserError
from gmiqa_core.shapes import by_shape

SIZES = 3  # in which a pool that shrinks takes each content


class Pool(SlotPool):
    """Endless batches from pristine contents; pseudo-scores from KADID-10k's mean human score of each type and level.

    Args:
        contents: pristine pictures of one part of the split.
        types: 1..25 or names, default all 25; 0 adds undistorted pictures as a type of their own, one level (0).
        whole: (height, width) about which pictures are distorted before they are cropped.
        shrink: contents are taken in three sizes, down to this share of their own, before they are distorted; 1: as
            they are. A shrunken picture is sharper: a pool of one camera's pictures holds its sharpness alone.
        device: where pictures are distorted, kept and handed out.
        background: prepare ahead on threads of its own.
        drawing: crop, max_side, turn, per_cell, reuse, draws, filled: see Drawing.
    """

    def __init__(
        self,
        contents: Sequence[Reference],
        *,
        types: Sequence[int | str] | None = None,
        whole: tuple[int, int] = (384, 512),
        shrink: float = 1.0,
        seed: int = 0,
        device: str | torch.device = "cpu",
        background: bool = True,
        **drawing: Any,
    ):
        if not contents:
            raise UserError("A pool needs at least one pristine picture.")
        if not 0 < shrink <= 1:
            raise UserError(f"shrink must lie in (0, 1], a share of a picture's own size; got {shrink}.")
        ids = [t.id for t in TYPES] if types is None else sorted({0 if t == 0 else type_id(t) for t in types})
        if not ids:
            raise UserError("A pool needs at least one distortion type.")
        cells = [(t, v) for t in ids for v in (LEVELS if t else (0,))]
        super().__init__(cells, Drawing(**drawing), seed, device, background)
        self.contents = list(contents)
        self._sizes = (1.0,) if shrink == 1 else tuple(np.linspace(1, shrink, SIZES).tolist())
        pictures = [bring_to_size(c.image, whole) for c in contents]
        self._whole = [at_least(images.limit(p, round(max(p.shape[1:]) * size)), self.drawing.crop or 1)
                       for p in pictures for size in self._sizes]
        self._sums: dict[int, int] = {}

    def identity(self) -> dict[str, str]:
        some = b"".join(picture[:, ::16, ::16].contiguous().numpy().tobytes() for picture in self._whole)
        return super().identity() | {"contents": f"{len(self._whole)} with {crc32(some):08x}"}

    def _round(self, number: int) -> Slots:
        type, level = np.array(self.cells).T
        # The slots of a type take the contents in turn, so that as many as possible are together in a window.
        turn = len(LEVELS) * number + np.maximum(level - 1, 0)
        n = len(self.contents)
        content = np.array([in_turn(self._rng(SLOT, 0, t), k, n) for t, k in zip(type, turn, strict=True)])
        size = self._rng(SLOT, 2, number).integers(len(self._sizes), size=len(content))
        source = content * len(self._sizes) + size
        return Slots(type, level, content, source, calibration.quality(type, level), calibration.spread(type, level))

    def _checksum(self, source: int) -> int:
        if source not in self._sums:
            self._sums[source] = checksum(to_unit(self._whole[source]))
        return self._sums[source]

    def _fill(self, slots: list[int]) -> list[Tensor]:
        table = self._table(np.array(slots))
        seeds = [int(self._rng(SLOT, 1, s).integers(2**62)) for s in slots]
        made: dict[int, Tensor] = {}
        for members, stacked in by_shape((self._whole[i] for i in table.source), max(1, len(slots))):
            sums = [self._checksum(i) for i in table.source[members]]
            pictures = distorted(stacked.to(self.device), table.type[members], table.level[members],
                                 [seeds[m] for m in members], sums)
            for member, picture in zip(members, shrunk(pictures, self.drawing.max_side), strict=True):
                # its own memory: a view would keep the whole batch alive
                made[member] = at_least(picture, self.drawing.crop or 1).clone()
        return [made[m] for m in range(len(slots))]


class RecordPool(SlotPool):
    """The same batches from a data set that has types, levels and references of its own (KADID-10k): real scores.

    `indices` are the rows of `dataset.table` to draw from (one part of a split); the other arguments are Pool's.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Sequence[int] | None = None,
        *,
        types: Sequence[int] | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        background: bool = True,
        **drawing: Any,
    ):
        table = dataset.table if indices is None else dataset.table.iloc[list(indices)]
        table = table[(table["type_id"] > 0) & (table["level"] > 0) & (table["reference"] != "")]
        table = table if types is None else table[table["type_id"].isin(types)]
        if table.empty:
            raise UserError(f"Data set {dataset.name} has no records with type, level and reference; KADID-10k has.")
        self._files = table["image"].tolist()
        self._type, self._level = table["type_id"].to_numpy(int), table["level"].to_numpy(int)
        self._content = np.unique(table["reference"].astype(str), return_inverse=True)[1]
        self._quality = table["quality"].to_numpy(float)
        self._spread = _record_spread(table, dataset.scale)
        cells = sorted(set(zip(self._type.tolist(), self._level.tolist(), strict=True)))
        super().__init__(cells, Drawing(**drawing), seed, device, background)
        self._rows = [np.flatnonzero((self._type == t) & (self._level == v)) for t, v in self.cells]

    def identity(self) -> dict[str, str]:
        return super().identity() | {"records": f"{len(self._files)} with {crc32(self._quality.tobytes()):08x}"}

    def _round(self, number: int) -> Slots:
        picked = np.array([
            rows[in_turn(self._rng(SLOT, 0, place), number, len(rows))] for place, rows in enumerate(self._rows)
        ])  # fmt: skip
        type, level, content = (column[picked] for column in (self._type, self._level, self._content))
        return Slots(type, level, content, picked, self._quality[picked], self._spread[picked])

    def _fill(self, slots: list[int]) -> list[Tensor]:
        rows = self._table(np.array(slots)).source
        count = threads(self.device) if self.device.type == "cuda" else 1
        read = share(images.read, [(self._files[row], self.drawing.max_side or None) for row in rows], count)
        return [at_least(picture, self.drawing.crop or 1).to(self.device) for picture in read]


def _record_spread(table: pd.DataFrame, scale: Scale) -> np.ndarray:
    """Standard deviations on the quality's scale; the cell's own where the data set gives none."""
    spread = table["spread"].to_numpy(float) / (scale.high - scale.low)
    cell = calibration.spread(table["type_id"].to_numpy(int), table["level"].to_numpy(int))
    return np.where(np.isfinite(spread), spread, cell)
