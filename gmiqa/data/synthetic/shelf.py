"""Where the distorted pictures of a pool are kept, as uint8, and how crops are taken from them.

On a CPU every slot is a tensor of its own. On a card all lie in the rows of one tensor, so that the crops of a batch
are a single gather whatever the sizes of the pictures. Slots are filled there on a stream of their own, beside the one
that trains; events keep the two in order, and the host waits for neither.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gmiqa.data.images.gather import gather
from gmiqa.data.synthetic.pristine import crop_at


@dataclass(frozen=True)
class Windows:
    """Which part of each of n pictures is taken: `size` at the place `at` (n,2) in [0,1], mirrored, then turned."""

    size: tuple[int, int] | None  # None: what all of the pictures have
    at: np.ndarray
    flip: np.ndarray
    quarters: np.ndarray


class Shelf(dict[int, Tensor]):
    """slot -> (3,h,w), each a tensor of its own."""

    def crops(self, slots: Sequence[int], how: Windows) -> Tensor:
        """(n,3,*size) uint8, one window of each slot."""
        pictures = [self[s] for s in slots]
        size = how.size or (min(p.shape[1] for p in pictures), min(p.shape[2] for p in pictures))
        each = zip(pictures, how.at.tolist(), how.flip.tolist(), how.quarters.tolist(), strict=True)
        return torch.stack([crop_at(picture, size, at, flip, quarters) for picture, at, flip, quarters in each])

    def filling(self) -> contextlib.AbstractContextManager:
        """What makes the pictures runs in here."""
        return contextlib.nullcontext()


class CardShelf:
    """The same in the rows of one tensor on a device; `rows` is how many there are at first."""

    def __init__(self, device: torch.device, rows: int):
        self.rows, self.device = rows, device
        self.memory = torch.empty(0, 0, dtype=torch.uint8, device=device)
        self.free: list[int] = []
        self.places: dict[int, tuple[int, int, int]] = {}  # slot -> row, height, width
        on_card = device.type == "cuda"
        self.stream = torch.cuda.Stream(device) if on_card else None
        self.stored, self.drawn = (torch.cuda.Event() if on_card else None for _ in range(2))

    def __contains__(self, slot: object) -> bool:
        return slot in self.places

    def __iter__(self) -> Iterator[int]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __delitem__(self, slot: int) -> None:
        self.free.append(self.places.pop(slot)[0])

    def filling(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def update(self, made: Mapping[int, Tensor]) -> None:
        """Copy new pictures into free rows."""
        with self.filling():
            if self.stream is not None and self.drawn is not None:
                self.stream.wait_event(self.drawn)  # until then a row may still be read
            for slot, picture in made.items():
                if not self.free or picture.numel() > self.memory.shape[1]:
                    self._grow(picture.numel())
                row = self.free.pop()
                self.memory[row, : picture.numel()] = picture.reshape(-1)
                self.places[slot] = row, picture.shape[1], picture.shape[2]
            if self.stored is not None:
                self.stored.record(self.stream)

    def _grow(self, width: int) -> None:
        """More rows if none is free, and longer ones if a picture needs that."""
        rows, wide = self.memory.shape
        more = rows if self.free else max(self.rows, rows + rows // 4 + 1)
        memory = torch.empty(more, max(width, wide), dtype=torch.uint8, device=self.device)
        memory[:rows, :wide] = self.memory
        self.memory = memory
        self.free += range(rows, more)

    def crops(self, slots: Sequence[int], how: Windows) -> Tensor:
        rows, heights, widths = np.array([self.places[s] for s in slots]).T
        size = how.size or (int(heights.min()), int(widths.min()))
        # as round() in crop_at: halves go to the even number
        tops, lefts = (np.rint(at * (have - want)).astype(np.int64)
                       for at, have, want in zip(how.at.T, (heights, widths), size, strict=True))
        starts = rows * self.memory.shape[1]
        current = torch.cuda.current_stream(self.device) if self.stored is not None else None
        if current is not None and self.stored is not None:
            current.wait_event(self.stored)
        result = gather(self.memory, (starts, heights, widths, tops, lefts, how.flip, how.quarters), size)
        if current is not None and self.drawn is not None:
            self.drawn.record(current)
            self.memory.record_stream(current)  # a larger one may take its place while this is still being read
        return result
