"""Windows of many pictures in one operation, where a card would wait for the host between small ones."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from gmiqa_core.batch import upload


def gather(memory: Tensor, windows: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    """(n,3,*size) windows of pictures (3,h,w) that lie somewhere in `memory`, equal to slices of them, flip(-1) where
    a window is mirrored, then rot90 by its quarters.

    windows    seven arrays (n,): where the picture begins in memory, its height and width; the window's top and left;
               whether it is mirrored; quarter turns (0 unless size is square)
    """
    numbers = upload(torch.from_numpy(np.stack([np.asarray(w, np.int64) for w in windows])), memory.device)
    start, height, width, top, left, flip, quarters = numbers.view(7, -1, 1, 1)
    i = torch.arange(size[0], device=memory.device)[:, None]
    j = torch.arange(size[1], device=memory.device)
    sideways = quarters % 2 == 1
    row, column = torch.where(sideways, j, i), torch.where(sideways, i, j)
    row = torch.where(quarters >= 2, size[0] - 1 - row, row)
    column = torch.where((quarters == 1) | (quarters == 2), size[1] - 1 - column, column)
    column = torch.where(flip == 1, size[1] - 1 - column, column)
    place = start + (top + row) * width + left + column
    flat = memory.view(-1)
    return torch.stack([flat[place + channel * height * width] for channel in range(3)], 1)


class Packed:
    """Pictures of any sizes, one after the other in one tensor on a device."""

    def __init__(self, pictures: Sequence[Tensor], device: torch.device):
        self.heights, self.widths = np.array([p.shape[1:] for p in pictures]).T
        ends = np.cumsum([p.numel() for p in pictures])
        self.starts = np.concatenate([[0], ends[:-1]])
        self.memory = upload(torch.cat([p.reshape(-1) for p in pictures]), device)

    def __getitem__(self, index: Sequence[int]) -> "Packed":
        """Some of the pictures, in the same memory."""
        part = copy(self)
        part.heights, part.widths, part.starts = (a[index] for a in (self.heights, self.widths, self.starts))
        return part

    def windows(self, index: np.ndarray, places: Sequence[tuple], size: tuple[int, int]) -> Tensor:
        """(n,3,*size): pictures `index`, each at its top and left, mirrored if so, turned by quarters."""
        where = (self.starts[index], self.heights[index], self.widths[index])
        return gather(self.memory, (*where, *np.array(places, int).T), size)


def fits(pictures: Sequence[Tensor], device: torch.device) -> bool:
    """Whether a card has room for them: a quarter of its free memory at most."""
    if device.type != "cuda":
        return False
    return 4 * sum(p.numel() for p in pictures) <= torch.cuda.mem_get_info(device)[0]


def to_unit(pictures: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [0,1], the same numbers on every device: a card divides by a plain number through its
    reciprocal, which is another rounding, and the randomness of a distortion follows from the pixels' bytes."""
    return pictures.float() / torch.full((), 255.0, device=pictures.device)
