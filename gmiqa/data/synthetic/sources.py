"""Pool: pristine contents, distorted as needed. RecordPool: pictures of a real data set. test_set: every cell once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.data.datasets import Dataset, Scale
from gmiqa.data.distortions import LEVELS, TYPES, calibration, distort, type_id
from gmiqa.data.synthetic.pool import SLOT, SlotPool, Slots
from gmiqa.data.synthetic.pristine import Reference, at_least, bring_to_size, crop_at
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError

SIZES = 3  # in which a pool that shrinks takes each content


class Pool(SlotPool):
    """Endless batches from pristine contents; pseudo-scores from KADID-10k's mean human score of each type and level.

    Args:
        contents: pristine pictures of one part of the split.
        types: 1..25 or names, default all 25; 0 adds undistorted pictures as a type of their own, one level (0).
        whole: (height, width) about which pictures are distorted before they are cropped.
        crop: side of the square crops; None: whole pictures, cut to what all of a batch have.
        max_side: longer side to which a distorted picture is shrunk by area before it is cropped, 0 for none: the rule
            of a network that scores shrunken pictures (data.pictures).
        shrink: contents are taken in three sizes, down to this share of their own, before they are distorted; 1: as
            they are. A shrunken picture is sharper: a pool of one camera's pictures holds its sharpness alone.
        turn: crops are turned by quarter turns as well as mirrored: blur and edges of a pool keep no direction.
        per_cell: pictures of each (type, level) that can be drawn at a time.
        reuse: how often a distorted picture is drawn on average, each time in another crop, before it is replaced;
            None: never, the pool stays as it is.
        draws: pictures that a step takes, about; with `reuse` it says how fast pictures are replaced.
        filled: `per_cell` pictures from the first step on, where it is one otherwise, and grows: tasks need as many
            different pictures of a type as support and query hold.
        device: where pictures are distorted, kept and handed out.
        background: prepare ahead on a thread of its own.
    """

    def __init__(
        self,
        contents: Sequence[Reference],
        *,
        types: Sequence[int | str] | None = None,
        whole: tuple[int, int] = (384, 512),
        crop: int | None = 128,
        max_side: int = 0,
        shrink: float = 1.0,
        turn: bool = False,
        per_cell: int = 3,
        reuse: int | None = 8,
        draws: int = 32,
        seed: int = 0,
        filled: bool = False,
        device: str | torch.device = "cpu",
        background: bool = True,
    ):
        if not contents:
            raise UserError("A pool needs at least one pristine picture.")
        if not 0 < shrink <= 1:
            raise UserError(f"shrink must lie in (0, 1], a share of a picture's own size; got {shrink}.")
        ids = [t.id for t in TYPES] if types is None else sorted({0 if t == 0 else type_id(t) for t in types})
        if not ids:
            raise UserError("A pool needs at least one distortion type.")
        cells = [(t, v) for t in ids for v in (LEVELS if t else (0,))]
        super().__init__(cells, crop, per_cell, reuse, draws, seed, device, background, turn)
        self.contents, self.max_side, self.filled = list(contents), max_side, filled
        self._sizes = (1.0,) if shrink == 1 else tuple(np.linspace(1, shrink, SIZES).tolist())
        pictures = [bring_to_size(c.image, whole) for c in contents]
        self._whole = [at_least(images.limit(p, round(max(p.shape[1:]) * size)), crop or 1)
                       for p in pictures for size in self._sizes]

    def _round(self, number: int) -> Slots:
        type, level = np.array(self.cells).T
        # The slots of a type take the contents in turn, so that as many as possible are together in a window.
        turn = len(LEVELS) * number + np.maximum(level - 1, 0)
        n = len(self.contents)
        content = np.array([_in_turn(self._rng(SLOT, 0, t), k, n) for t, k in zip(type, turn, strict=True)])
        size = self._rng(SLOT, 2, number).integers(len(self._sizes), size=len(content))
        source = content * len(self._sizes) + size
        return Slots(type, level, content, source, calibration.quality(type, level), calibration.spread(type, level))

    def _fill(self, slots: list[int]) -> list[Tensor]:
        table = self._table(np.array(slots))
        seeds = [int(self._rng(SLOT, 1, s).integers(2**62)) for s in slots]
        made: list[Tensor | None] = [None] * len(slots)
        for members in _by_shape([self._whole[i] for i in table.source]):
            pictures = torch.stack([self._whole[table.source[m]] for m in members]).to(self.device)
            distorted = _distorted(pictures, table.type[members], table.level[members], [seeds[m] for m in members])
            for member, picture in zip(members, distorted, strict=True):
                shrunk = at_least(_shrunk(picture, self.max_side), self.crop or 1)
                made[member] = shrunk.clone()  # its own memory: a view would keep the whole batch alive
        return [picture for picture in made if picture is not None]


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
        crop: int | None = 128,
        max_side: int = 0,
        turn: bool = False,
        per_cell: int = 3,
        filled: bool = False,
        reuse: int | None = 8,
        draws: int = 32,
        seed: int = 0,
        device: str | torch.device = "cpu",
        background: bool = True,
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
        super().__init__(cells, crop, per_cell, reuse, draws, seed, device, background, turn)
        self.max_side, self.filled = max_side, filled
        self._rows = [np.flatnonzero((self._type == t) & (self._level == v)) for t, v in self.cells]

    def _round(self, number: int) -> Slots:
        picked = np.array([
            rows[_in_turn(self._rng(SLOT, 0, place), number, len(rows))] for place, rows in enumerate(self._rows)
        ])  # fmt: skip
        type, level, content = (column[picked] for column in (self._type, self._level, self._content))
        return Slots(type, level, content, picked, self._quality[picked], self._spread[picked])

    def _fill(self, slots: list[int]) -> list[Tensor]:
        read = (images.read(self._files[row], self.max_side or None) for row in self._table(np.array(slots)).source)
        return [at_least(picture, self.crop or 1).to(self.device) for picture in read]


def test_batches(
    contents: Sequence[Reference],
    types: Sequence[int | str] | None = None,
    levels: Sequence[int] | None = None,
    whole: tuple[int, int] = (384, 512),
    crop: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    max_side: int = 0,
) -> Iterator[Batch]:
    """Every (type, level) of every content once, one batch per content in order; centre crops, or whole pictures;
    shrunk to `max_side` before, if that is given."""
    ids = [t.id for t in TYPES] if types is None else [0 if t == 0 else type_id(t) for t in types]
    cells = np.array([(t, v) for t in ids for v in ((levels or LEVELS) if t else (0,))])
    for number, content in enumerate(contents):
        image = bring_to_size(content.image, whole, crop or 1).to(device)
        seeds = [seed] * len(cells)
        pictures = _distorted(image.expand(len(cells), -1, -1, -1), cells[:, 0], cells[:, 1], seeds)
        pictures = torch.stack([at_least(_shrunk(p, max_side), crop or 1) for p in pictures])
        if crop:
            pictures = torch.stack([crop_at(p, (crop, crop)) for p in pictures])
        quality, spread = (
            torch.as_tensor(f(cells[:, 0], cells[:, 1]), dtype=torch.float32).to(device)
            for f in (calibration.quality, calibration.spread)
        )
        type, level = torch.from_numpy(cells.T.copy()).to(device)
        yield Batch(pictures.float() / 255, quality, spread, type, level, 1 - quality, torch.full_like(type, number))


def test_set(
    contents: Sequence[Reference],
    types: Sequence[int | str] | None = None,
    levels: Sequence[int] | None = None,
    whole: tuple[int, int] = (384, 512),
    crop: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    max_side: int = 0,
) -> Batch:
    """All of `test_batches` in one Batch; whole pictures are cut to what all contents have. One takes 2.4 MB: crop,
    or use `test_batches`, for more than a few contents."""
    batches = list(test_batches(contents, types, levels, whole, crop, seed, device, max_side))
    if not batches:
        raise UserError("A test set needs at least one pristine picture.")
    h, w = (min(b.images.shape[k] for b in batches) for k in (2, 3))
    return Batch.cat(replace(b, images=torch.stack([crop_at(p, (h, w)) for p in b.images])) for b in batches)


def _shrunk(picture: Tensor, max_side: int) -> Tensor:
    return images.limit(picture, max_side) if max_side else picture


def _distorted(pictures: Tensor, type: np.ndarray, level: np.ndarray, seeds: Sequence[int]) -> Tensor:
    """uint8 in, uint8 out; type 0 stays as it is, but for the generator's stretch."""
    result = torch.empty_like(pictures, memory_format=torch.contiguous_format)
    for kind in (False, True):
        members = np.flatnonzero((type > 0) == kind)
        if len(members):
            x = pictures[members].float() / 255
            chosen = [seeds[i] for i in members.tolist()]
            # The identity of type 18 at level 3, so that undistorted pictures go through the same stretch.
            t, v = (type[members], level[members]) if kind else (18, 3)
            result[members] = (distort(x, t, v, chosen) * 255).round().to(torch.uint8)
    return result


def _in_turn(rng: np.random.Generator, turn: int, n: int) -> int:
    """The item of 0..n-1 whose turn it is, in an order that the generator draws: all come before one comes again."""
    return int(rng.permutation(n)[turn % n])


def _by_shape(pictures: Sequence[Tensor]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(tuple(picture.shape), []).append(place)
    return list(groups.values())


def _record_spread(table: pd.DataFrame, scale: Scale) -> np.ndarray:
    """Standard deviations on the quality's scale; the cell's own where the data set gives none."""
    spread = table["spread"].to_numpy(float) / (scale.high - scale.low)
    cell = calibration.spread(table["type_id"].to_numpy(int), table["level"].to_numpy(int))
    return np.where(np.isfinite(spread), spread, cell)


# Names that pytest would otherwise collect from a test module that imports them.
test_batches.__test__ = test_set.__test__ = False  # type: ignore[attr-defined]
