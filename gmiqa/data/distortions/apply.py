"""distort(): any types and levels on a batch, computed in groups; each image has random draws of its own."""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from gmiqa.data.distortions.table import TYPES, Type, type_id
from gmiqa.data.distortions.workers import begin, threads
from gmiqa_core.errors import UserError

PerImage = int | str | Iterable[int] | Tensor
LEVELS = (1, 2, 3, 4, 5)


def stretch_range(x: Tensor) -> Tensor:
    """Min-max stretch to [0,1] over all channels of each image of (n,3,h,w); a constant image stays as it is."""
    low, high = torch.aminmax(x.flatten(1), dim=1)
    constant = high <= low
    low, high = low.masked_fill(constant, 0.0), high.masked_fill(constant, 1.0)
    return (x - low[:, None, None, None]) / (high - low)[:, None, None, None]


@torch.no_grad()
def distort(images: Tensor, type: PerImage, level: PerImage, seed: PerImage = 0, stretch: bool = True,
            checksums: Iterable[int] | None = None) -> Tensor:
    """KADID-10k's distortion `type` at `level`, as a new tensor of the same shape, dtype and device.

    Args:
        images: (n,3,h,w), floating point, RGB in [0,1]. Grey pictures: three equal channels.
        type: 1..25 or a name, for all images or one per image.  level: 1..5, likewise.
        seed: whole number, likewise. The randomness of an image follows from (seed, type, level, its pixels), so it is
            the same alone and in a batch, and two different images never share it.
        stretch: min-max stretch each image before and after, as KADID's generator does; the human scores of
            `calibration` belong to stretched results. Without, results are clipped to [0,1].
        checksums: `checksum` of each image, where it is known: pixels on a card then need not be brought back for it.
    """
    _check_images(images)
    n = len(images)
    types = [type_id(t) for t in _per_image(type, n, "type")]
    levels = [_level(v) for v in _per_image(level, n, "level")]
    seeds = [int(s) for s in _per_image(seed, n, "seed")]
    known = [None] * n if checksums is None else [int(c) for c in checksums]
    result = torch.empty_like(images)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, cell in enumerate(zip(types, levels, strict=True)):
        groups.setdefault(cell, []).append(i)
    # On a CPU everything is shared out between threads. On a card only what a CPU does there, codecs and noise, is; the
    # rest is queued meanwhile, in order.
    on_cpu = images.device.type == "cpu"
    count = threads(images.device) if n > 1 else 1
    shared: list[tuple] = []
    queued: list[tuple] = []
    for (t, v), members in groups.items():
        on_threads = count > 1 and (on_cpu or TYPES[t - 1].codec or TYPES[t - 1].random)
        size = -(-len(members) // count) if on_threads else len(members)
        for first in range(0, len(members), size):
            chunk = members[first : first + size]
            task = images, chunk, t, v, [(seeds[i], known[i]) for i in chunk], stretch
            (shared if on_threads else queued).append(task)
    begun = begin(_distort_some, shared, count, images.device) if shared else []
    for task in queued:
        result[task[1]] = _distort_some(*task)
    for task, future in zip(shared, begun, strict=True):
        result[task[1]] = future.result()
    return result


def every_level(picture: Tensor, seed: int = 0) -> Iterator[tuple[Type, Tensor]]:
    """Each type with levels 1 to 5 of one picture (3,h,w): (type, (5,3,h,w)), 25 times."""
    for entry in TYPES:
        yield entry, distort(picture.expand(5, -1, -1, -1), entry.id, LEVELS, seed)


@torch.no_grad()
def _distort_some(images: Tensor, members: list[int], type: int, level: int, seeds: list[tuple[int, int | None]],
                  stretch: bool) -> Tensor:
    entry = TYPES[type - 1]
    chosen = images[members]
    arguments = [_generators(chosen, type, level, seeds)] if entry.random else []
    with torch.autocast(images.device.type, enabled=False):
        x = stretch_range(chosen.float()) if stretch else chosen.float()
        y = entry.function(x, entry.levels[level - 1], *arguments).clamp(0, 1)
        return (stretch_range(y) if stretch else y).to(images.dtype)


def checksum(image: Tensor) -> int:
    """Of the bytes of its pixels as float32."""
    return zlib.crc32(image.cpu().float().contiguous().numpy().data)


def _generators(images: Tensor, type: int, level: int, seeds: list[tuple[int, int | None]]) -> list[Generator]:
    """One CPU generator per image, seeded from (seed, type, level, the image's checksum)."""
    entropy = [np.random.SeedSequence([seed % 2**64, type, level, checksum(image) if known is None else known])
               for image, (seed, known) in zip(images, seeds, strict=True)]
    return [Generator().manual_seed(int(e.generate_state(1, np.uint64)[0])) for e in entropy]


def _level(value: object) -> int:
    if isinstance(value, str) or int(value) != value or not 1 <= value <= 5:  # type: ignore[call-overload, operator]
        raise UserError(f"Distortion level must be a whole number 1..5; got {value!r}.")
    return int(value)  # type: ignore[call-overload]


def _per_image(value: PerImage, n: int, what: str) -> list:
    if isinstance(value, (Tensor, np.ndarray)):
        value = value.tolist()
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value] * n
    if len(values) != n:
        raise UserError(f"Expected one {what} for all images or one per image ({n}); got {len(values)}.")
    return values


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else images.__class__.__name__
        raise UserError(f"Expected images as a floating-point tensor (n,3,h,w) in [0,1]; got {kind}. "
                        "Divide 8-bit pixels by 255.")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise UserError(f"Expected images of shape (n,3,h,w); got {tuple(images.shape)}. "
                        "Repeat a grey channel three times.")
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise UserError(f"Expected image values in [0,1] without NaN; got {low:.4g} .. {high:.4g}.")
