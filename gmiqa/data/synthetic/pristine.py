"""Pristine pictures to distort: the embedded ones or any folder; and their split, which comes before anything else."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gmiqa.data import embedded, images
from gmiqa_core.errors import UserError

EMBEDDED_SCENES = 25


@dataclass(frozen=True)
class Reference:
    """One pristine picture: uint8 (3,H,W); kind is photograph, generated or folder."""

    name: str
    kind: str
    image: Tensor


def references(source: str | Path = "embedded", limit: int | None = None) -> list[Reference]:
    """The pristine pictures of a folder (sorted, subfolders included) or the embedded ones; the first `limit` of them.

    Pictures of a folder are kept at about 1 megapixel: more is never used, and a thousand of them must fit into memory.
    """
    if str(source) == "embedded":
        photographs = [Reference(name, "photograph", image) for name, image in embedded.photographs().items()]
        wanted = EMBEDDED_SCENES if limit is None else min(EMBEDDED_SCENES, max(0, limit - len(photographs)))
        scenes = [Reference(name, "generated", image) for name, image in embedded.scenes(wanted).items()]
        return (photographs + scenes)[:limit]
    paths = images.files(source)[:limit]
    if not paths:
        raise UserError(f"No pictures in {source}: expected a folder of undistorted JPEG, PNG, BMP, WebP or TIFF.")
    root = Path(source)
    return [Reference(str(path.relative_to(root)), "folder", images.read(path, max_side=1280)) for path in paths]


def split_references(
    contents: list[Reference], seed: int = 0, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> tuple[list[Reference], list[Reference], list[Reference]]:
    """Training, validation and test contents, disjoint; each kind is divided by itself so that the parts look alike."""
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise UserError(f"Expected three fractions that sum to 1; got {fractions}.")
    parts: tuple[list[Reference], list[Reference], list[Reference]] = ([], [], [])
    for kind in sorted({c.kind for c in contents}):
        members = sorted((c for c in contents if c.kind == kind), key=lambda c: c.name)
        order = np.random.default_rng([seed, len(members)]).permutation(len(members))
        counts = _shares(len(members), fractions)
        first = 0
        for part, count in zip(parts, counts, strict=True):
            part.extend(members[i] for i in sorted(order[first : first + count]))
            first += count
    return parts


def _shares(n: int, fractions: tuple[float, ...]) -> list[int]:
    """Whole numbers that sum to n, nearest to the fractions, none of them 0 where n allows it."""
    counts = [math.floor(n * f) for f in fractions]
    wanted = [i for i, f in enumerate(fractions) if f > 0]
    while sum(counts) < n:
        counts[max(wanted, key=lambda i: (counts[i] == 0, n * fractions[i] - counts[i]))] += 1
    for i in wanted:
        richest = max(range(len(counts)), key=lambda j: counts[j])
        if counts[i] == 0 and counts[richest] > 1:
            counts[i], counts[richest] = 1, counts[richest] - 1
    return counts


def bring_to_size(image: Tensor, whole: tuple[int, int] = (384, 512), least: int = 1) -> Tensor:
    """A picture of about the area `whole` (height, width), in its own format and never enlarged, as uint8 (3,h,w).

    The parameters and scores of the distortions belong to pictures of that size. A side shorter than `least` is
    mirrored to it.
    """
    h, w = image.shape[-2:]
    scale = math.sqrt(whole[0] * whole[1] / (h * w))
    return at_least(images.limit(image, max(1, round(max(h, w) * scale))) if scale < 1 else image, least)


def at_least(image: Tensor, side: int) -> Tensor:
    """(3,h,w) with sides shorter than `side` mirrored to it."""
    h, w = image.shape[-2:]
    if min(h, w) >= side:
        return image
    missing = [(0, 0), (0, max(0, side - h)), (0, max(0, side - w))]
    return torch.from_numpy(np.pad(image.cpu().numpy(), missing, mode="symmetric")).to(image.device)


def crop_at(image: Tensor, size: tuple[int, int], at: tuple[float, float] = (0.5, 0.5), flip: bool = False,
            quarters: int = 0) -> Tensor:
    """(3,*size) window of (3,h,w); `at` in [0,1] places it, (0.5, 0.5) in the centre. Mirrored, then turned."""
    h, w = image.shape[-2:]
    top, left = round(at[0] * (h - size[0])), round(at[1] * (w - size[1]))
    window = image[:, top : top + size[0], left : left + size[1]]
    return torch.rot90(window.flip(-1) if flip else window, quarters, (-2, -1))
