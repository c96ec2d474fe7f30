"""Scored pictures in memory: of a data set or synthetic, and the batches drawn from them.

One rule for large pictures, here and in scoring: the longer side is brought down to `max_side` by area averaging,
never up; training and test see the same rule.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from gmiqa.data import images, synthetic
from gmiqa.data.distortions import LEVELS, TYPES
from gmiqa.data.images.gather import Packed, fits
from gmiqa_core.batch import Target, random_place, random_window, upload

SMALLEST = 32  # pixels of a side that the network needs


@dataclass
class Pictures:
    """Scored pictures, decoded once and kept in memory as uint8.

    pictures   list of (3,H,W) uint8, longer side at most max_side, but see `padded`
    quality    (n,) float in [0,1], higher is better
    spread     (n,) float: standard deviation of the score a picture of this kind gets; 0 where the score is its own
    facts      DataFrame with n rows: what else is known of each picture (id, type, level, reference or content)
    packed     a copy on a card, from which `batch` takes its crops, see `on`
    """

    pictures: list[Tensor]
    quality: Tensor
    spread: Tensor
    facts: pd.DataFrame = field(default_factory=pd.DataFrame)
    packed: Packed | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: Sequence[int] | np.ndarray) -> "Pictures":
        chosen = [int(i) for i in index]
        facts = self.facts.iloc[chosen].reset_index(drop=True) if len(self.facts) else self.facts
        part = Pictures([self.pictures[i] for i in chosen], self.quality[chosen], self.spread[chosen], facts)
        part.packed = self.packed[chosen] if self.packed is not None else None
        return part

    def on(self, device: str | torch.device) -> "Pictures":
        """The same pictures, their batches taken on that card where it has room for them; else these. Parts of them
        stay there without a copy."""
        device = torch.device(device)
        if self.packed is not None or not fits(self.pictures, device):
            return self
        there = replace(self, quality=upload(self.quality, device), spread=upload(self.spread, device))
        there.packed = Packed(self.pictures, device)
        return there

    def drawn(self, seed: int = 0) -> Tensor:
        """(n,) one score per picture, drawn from N(quality, spread): the quality itself where the spread is 0."""
        return self.quality + self.spread * torch.randn(len(self), generator=torch.Generator().manual_seed(seed))

    @classmethod
    def read(cls, dataset: Any, rows: Sequence[int] | np.ndarray, max_side: int = 512) -> "Pictures":
        """Rows of a datasets.Dataset. A set's own spread is that of single opinions, not of the score: it stays out."""
        table = dataset.table.iloc[list(rows)]
        paths = [Path(dataset.root) / str(name) for name in table["image"]]
        quality = torch.tensor(table["quality"].to_numpy(np.float32))
        known = [name for name in ("id", "reference", "group", "subset", "type", "level") if name in table]
        facts = table[known].reset_index(drop=True)
        pictures = [padded(picture) for picture in images.read_all(paths, max_side)]
        return cls(pictures, quality, torch.zeros(len(quality)), facts)

    @classmethod
    def of_batch(cls, batch: Any) -> "Pictures":
        """A synthetic.Batch: its scores are means of a (type, level) cell, its spread the deviation within the cell."""
        stored = images.to_uint8(batch.images.detach().cpu())
        type, level, content = (x.tolist() for x in (batch.type, batch.level, batch.content))
        names = [TYPES[t - 1].name if t else "none" for t in type]
        ids = [f"content {c}, {name} {v}" for c, name, v in zip(content, names, level, strict=True)]
        facts = pd.DataFrame({"id": ids, "reference": content, "type": names, "level": level})
        return cls(list(stored), batch.quality.detach().cpu().float(), batch.spread.detach().cpu().float(), facts)

    @classmethod
    def of_cells(cls, contents: Sequence[Any], types: Sequence[int] | None, max_side: int, seed: int,
                 rows: np.ndarray | None = None) -> "Pictures":
        """Every level of these types (None: all) on every content, whole, longer side at most `max_side`.
        rows: only these of them, sorted."""
        batches = synthetic.test_batches(contents, types=types, seed=seed, rows=rows, stored=True)
        made = cls.join(map(cls.of_batch, batches))
        return replace(made, pictures=[images.limit(picture, max_side) for picture in made.pictures])

    @classmethod
    def join(cls, parts: Iterable["Pictures"]) -> "Pictures":
        parts = list(parts)
        return cls([picture for part in parts for picture in part.pictures], torch.cat([x.quality for x in parts]),
                   torch.cat([x.spread for x in parts]), pd.concat([x.facts for x in parts], ignore_index=True))

    def batch(self, seed: int, step: int, n: int, crop: int = 0, turn: bool = False) -> Target:
        """Batch `step` of shuffled epochs, a pure function of (seed, step): random crops of side `crop`, or with 0
        whole pictures, cut at random to the smallest height and width among them; mirrored half of the time, and with
        `turn` turned by 0 to 3 quarters where they are square."""
        n = min(n, len(self))
        epoch, place = divmod(step, len(self) // n)
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        index = order[place * n: (place + 1) * n]
        rng = np.random.default_rng((seed, epoch, place))
        chosen = [self.pictures[i] for i in index]
        height, width = (min([p.shape[d] for p in chosen] + [crop or 1 << 30]) for d in (1, 2))
        if self.packed is None:
            parts = torch.stack([random_window(p, height, width, rng, turn) for p in chosen])
        else:
            places = [random_place(p, height, width, rng, turn) for p in chosen]
            parts = self.packed.windows(index, places, (height, width))
        rows = upload(torch.from_numpy(index), parts.device)
        return Target(parts, self.quality[rows], self.spread[rows], rows)


def padded(picture: Tensor) -> Tensor:
    """uint8 (3,H,W) with its right and lower edge repeated up to SMALLEST pixels, as in scoring."""
    short = [max(0, SMALLEST - side) for side in picture.shape[1:]]
    if not any(short):
        return picture
    return F.pad(picture[None].float(), (0, short[1], 0, short[0]), mode="replicate")[0].to(torch.uint8)


def drawn(n: int, count: int, seed: int) -> np.ndarray:
    """`count` of 0..n-1 in order, drawn evenly; all of them where there are no more, or where `count` is 0."""
    return np.sort(np.random.default_rng(seed).permutation(n)[: count or n])


def synthetic_target(learn: Sequence[Any], test: Sequence[Any], types: Sequence[int], labels: int, max_side: int = 512,
                     seed: int = 0, test_pictures: int = 0) -> tuple[Pictures, Pictures]:
    """A target set without a data set: KADID-calibrated scores on pristine contents that no training has seen.

    learn, test    contents (synthetic.Reference) of the few labelled pictures, and of those to be scored
    types          types of the labelled pictures: those held out of pre-training; the test has all 25
    labels         number of labelled pictures, drawn over types, levels and contents
    test_pictures  so many of the pictures to be scored, drawn in the same way; 0 for all
    """
    order = np.random.default_rng(seed).permutation(len(learn) * len(types) * len(LEVELS))[:labels]
    few = Pictures.of_cells(learn, types, max_side, seed, np.sort(order))
    tested = drawn(len(test) * len(TYPES) * len(LEVELS), test_pictures, seed)
    return few[order.argsort().argsort()], Pictures.of_cells(test, None, max_side, seed, tested)
