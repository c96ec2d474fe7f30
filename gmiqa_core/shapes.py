"""Pictures of one shape share a batch, which takes less time and gives the same result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

WAITING = 8  # batches' worth of pictures that may wait for others of their shape


def by_shape(pictures: Iterable[Tensor], batch: int, pixels: int | None = None) -> Iterator[tuple[list[int], Tensor]]:
    """Stacks (positions, (n,...)) of tensors of one shape and type, n <= batch; every position comes once.

    Goes through `pictures` once, in order, and takes the next one only when it is needed. So a generator, or a
    sequence that decodes on access, is never in memory as a whole: at most WAITING * batch pictures wait.

    batch     largest number of pictures in a stack
    pixels    a stack is also full when it holds this many pixels (height times width)
    """
    waiting: dict[tuple[torch.Size, torch.dtype], list[tuple[int, Tensor]]] = {}
    count = 0
    for position, picture in enumerate(pictures):
        kind = picture.shape, picture.dtype
        group = waiting.setdefault(kind, [])
        group.append((position, picture))
        count += 1
        full = len(group) >= batch or (pixels and len(group) * picture.shape[-2:].numel() >= pixels)
        if full or count > WAITING * batch:
            group = waiting.pop(kind if full else max(waiting, key=lambda key: len(waiting[key])))
            count -= len(group)
            yield _stacked(group)
    for group in waiting.values():
        yield _stacked(group)


def _stacked(group: list[tuple[int, Tensor]]) -> tuple[list[int], Tensor]:
    return [position for position, _ in group], torch.stack([picture for _, picture in group])
