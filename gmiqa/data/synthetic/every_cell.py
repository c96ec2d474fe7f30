"""Every (type, level) of every content once: pictures to test on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from gmiqa.data.distortions import LEVELS, TYPES, calibration, type_id
from gmiqa.data.images.gather import to_unit
from gmiqa.data.synthetic.distorted import distorted, shrunk
from gmiqa.data.synthetic.pristine import Reference, at_least, bring_to_size, crop_at
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError


def test_batches(
    contents: Sequence[Reference],
    types: Sequence[int | str] | None = None,
    levels: Sequence[int] | None = None,
    whole: tuple[int, int] = (384, 512),
    crop: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    max_side: int = 0,
    rows: np.ndarray | None = None,
    stored: bool = False,
) -> Iterator[Batch]:
    """Every (type, level) of every content once, one batch per content in order; centre crops, or whole pictures;
    shrunk to `max_side` before, if that is given. rows: only these of all pictures, sorted; stored: as uint8."""
    ids = [t.id for t in TYPES] if types is None else [0 if t == 0 else type_id(t) for t in types]
    every = np.array([(t, v) for t in ids for v in ((levels or LEVELS) if t else (0,))])
    for number, content in enumerate(contents):
        wanted = np.arange(len(every)) if rows is None else rows[rows // len(every) == number] % len(every)
        cells = every[wanted]
        if not len(cells):
            continue
        image = bring_to_size(content.image, whole, crop or 1).to(device)
        seeds = [seed] * len(cells)
        pictures = distorted(image.expand(len(cells), -1, -1, -1), cells[:, 0], cells[:, 1], seeds)
        pictures = shrunk(pictures, max_side)
        if crop:
            pictures = torch.stack([crop_at(at_least(p, crop), (crop, crop)) for p in pictures])
        quality, spread = (
            torch.as_tensor(f(cells[:, 0], cells[:, 1]), dtype=torch.float32).to(device)
            for f in (calibration.quality, calibration.spread)
        )
        type, level = torch.from_numpy(cells.T.copy()).to(device)
        images = pictures if stored else to_unit(pictures)
        yield Batch(images, quality, spread, type, level, 1 - quality, torch.full_like(type, number))


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


# Names that pytest would otherwise collect from a test module that imports them.
test_batches.__test__ = test_set.__test__ = False  # type: ignore[attr-defined]
