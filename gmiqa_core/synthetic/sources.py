"""Pool: pristine contents, distorted as needed. RecordPool: pictures of a real data set. test_set: every cell once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa_core import images
from gmiqa_core.datasets import Dataset, Scale
from gmiqa_core.distortions import LEVELS, TYPES, calibration, distort, type_id
from gmiqa_core.settings import UserError
from gmiqa_core.synthetic.batch import Batch
from gmiqa_core.synthetic.contents import Content, bring_to_size, crop_at
from gmiqa_core.synthetic.pool import PLAN, SLOT, Plan, SlotPool


class Pool(SlotPool):
    """Endless batches from pristine contents; pseudo-scores from KADID-10k's mean human score of each type and level.

    Args:
        contents: pristine pictures of one part of the split.
        types: 1..25 or names, default all 25; 0 adds undistorted pictures as a type of their own, one level (0).
        whole: (height, width) about which pictures are distorted before they are cropped.
        crop: side of the square crops; None: whole pictures, cut to what all of a batch have.
        max_side: longer side to which a distorted picture is shrunk by area before it is cropped, 0 for none: the rule
            of a network that scores shrunken pictures (finetuning.Pictures).
        per_cell: slots per (type, level) in a generation.
        reuse: how often a distorted picture is drawn on average, each time in another crop, before it is replaced.
        draws: pictures that a step takes, about; with `reuse` it says how many steps a generation lasts.
        device: where pictures are distorted, kept and handed out.
        background: prepare ahead on a thread of its own.
    """

    def __init__(
        self,
        contents: Sequence[Content],
        *,
        types: Sequence[int | str] | None = None,
        whole: tuple[int, int] = (384, 512),
        crop: int | None = 128,
        max_side: int = 0,
        per_cell: int = 3,
        reuse: int = 4,
        draws: int = 32,
        seed: int = 0,
        device: str | torch.device = "cpu",
        background: bool = True,
    ):
        if not contents:
            raise UserError("A pool needs at least one pristine picture.")
        if per_cell < 1:
            raise UserError(f"per_cell must be at least 1; got {per_cell}.")
        ids = [t.id for t in TYPES] if types is None else sorted({0 if t == 0 else type_id(t) for t in types})
        if not ids:
            raise UserError("A pool needs at least one distortion type.")
        super().__init__(ids, crop=crop, reuse=reuse, draws=draws, seed=seed, device=device, background=background)
        self.contents, self.per_cell, self.max_side = list(contents), per_cell, max_side
        self._whole = [bring_to_size(c.image, whole, crop or 1) for c in contents]

    def _plan(self, generation: int) -> Plan:
        rng = self._rng(PLAN, generation)
        rows = []
        for t in self.types:
            cells = [(t, v) for _ in range(self.per_cell) for v in (LEVELS if t else (0,) * len(LEVELS))]
            # Contents of a type come in turn, so that as many as possible take part in each.
            order = rng.permutation(len(self.contents))
            rows += [(*cell, order[i % len(order)]) for i, cell in enumerate(cells)]
        table = rng.permutation(np.array(rows))  # random order: what is filled first is any type
        type, level, content = table.T
        quality, spread = calibration.quality(type, level), calibration.spread(type, level)
        return Plan(type, level, content, content, quality, spread)

    def _fill(self, generation: int, plan: Plan, slots: list[int]) -> list[Tensor]:
        seeds = {s: int(self._rng(SLOT, generation, s).integers(2**62)) for s in slots}
        made: dict[int, Tensor] = {}
        for same in _by_shape([(s, self._whole[plan.source[s]]) for s in slots]):
            pictures = torch.stack([image for _, image in same]).to(self.device)
            members = [s for s, _ in same]
            distorted = _distorted(pictures, plan.type[members], plan.level[members], [seeds[s] for s in members])
            made.update(zip(members, (_shrunk(x, self.max_side) for x in distorted), strict=True))
        return [made[s] for s in slots]


class RecordPool(SlotPool):
    """The same batches from a data set that has types, levels and references of its own (KADID-10k): real scores.

    `indices` are the rows of `dataset.table` to draw from (one part of a split).
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Sequence[int] | None = None,
        *,
        crop: int | None = 128,
        per_cell: int = 3,
        reuse: int = 4,
        draws: int = 32,
        seed: int = 0,
        device: str | torch.device = "cpu",
        background: bool = True,
    ):
        table = dataset.table if indices is None else dataset.table.iloc[list(indices)]
        table = table[(table["type_id"] > 0) & (table["level"] > 0) & (table["reference"] != "")]
        if table.empty:
            raise UserError(f"Data set {dataset.name} has no records with type, level and reference; KADID-10k has.")
        self.per_cell = per_cell
        self._files = table["image"].tolist()
        self._type, self._level = table["type_id"].to_numpy(int), table["level"].to_numpy(int)
        self._content = np.unique(table["reference"].astype(str), return_inverse=True)[1]
        self._quality = table["quality"].to_numpy(float)
        self._spread = _record_spread(table, dataset.scale)
        super().__init__(
            sorted(set(self._type.tolist())), crop=crop, reuse=reuse, draws=draws, seed=seed, device=device,
            background=background,
        )

    def _plan(self, generation: int) -> Plan:
        rng = self._rng(PLAN, generation)
        rows = []
        for t in self.types:
            for v in sorted(set(self._level[self._type == t].tolist())):
                rows.append(rng.permutation(np.flatnonzero((self._type == t) & (self._level == v)))[: self.per_cell])
        chosen = rng.permutation(np.concatenate(rows))
        type, level, content = (column[chosen] for column in (self._type, self._level, self._content))
        return Plan(type, level, content, chosen, self._quality[chosen], self._spread[chosen])

    def _fill(self, generation: int, plan: Plan, slots: list[int]) -> list[Tensor]:
        read = (images.read(self._files[plan.source[s]]) for s in slots)
        sizes = ((picture, (picture.shape[1], picture.shape[2])) for picture in read)
        return [bring_to_size(picture, size, self.crop or 1).to(self.device) for picture, size in sizes]


def test_batches(
    contents: Sequence[Content],
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
        pictures = torch.stack([_shrunk(p, max_side) for p in pictures])
        if crop:
            pictures = torch.stack([crop_at(p, (crop, crop)) for p in pictures])
        quality, spread = (
            torch.as_tensor(f(cells[:, 0], cells[:, 1]), dtype=torch.float32).to(device)
            for f in (calibration.quality, calibration.spread)
        )
        type, level = torch.from_numpy(cells.T.copy()).to(device)
        yield Batch(pictures.float() / 255, quality, spread, type, level, 1 - quality, torch.full_like(type, number))


def test_set(
    contents: Sequence[Content],
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


def _by_shape(items: list[tuple[int, Tensor]]) -> list[list[tuple[int, Tensor]]]:
    groups: dict[tuple, list[tuple[int, Tensor]]] = {}
    for slot, image in items:
        groups.setdefault(tuple(image.shape), []).append((slot, image))
    return list(groups.values())


def _record_spread(table: pd.DataFrame, scale: Scale) -> np.ndarray:
    """Standard deviations on the quality's scale; the cell's own where the data set gives none."""
    spread = table["spread"].to_numpy(float) / (scale.high - scale.low)
    cell = calibration.spread(table["type_id"].to_numpy(int), table["level"].to_numpy(int))
    return np.where(np.isfinite(spread), spread, cell)


# Names that pytest would otherwise collect from a test module that imports them.
test_batches.__test__ = test_set.__test__ = False  # type: ignore[attr-defined]
