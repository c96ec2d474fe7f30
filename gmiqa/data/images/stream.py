"""Many pictures: decoded in threads (the codecs release Python's lock), in order, a few ahead of their use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

from torch import Tensor

from gmiqa.data.images.tensors import from_any, to_uint8
from gmiqa.data.pixels import ahead

THREADS = 4


class Decoded(Sequence[Tensor]):
    """Pictures (paths, bytes, PIL images, arrays, tensors) as a sequence of uint8 tensors (3,H,W).

    Each is decoded when it is asked for and is not kept, so a folder need not fit into memory. When all are gone
    through, threads decode a few ahead.

    max_side    longer sides are brought down to it by area averaging; None: as they are
    """

    def __init__(self, sources: Sequence[Any], max_side: int | None = None):
        self.sources, self.max_side = sources, max_side

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Decoded: ...
    def __getitem__(self, index: int | slice) -> Tensor | Decoded:
        if isinstance(index, slice):
            return Decoded(self.sources[index], self.max_side)
        return self._decode(self.sources[index])

    def __iter__(self) -> Iterator[Tensor]:
        with ThreadPoolExecutor(THREADS) as threads:
            yield from ahead(threads, self._decode, self.sources)

    def _decode(self, source: Any) -> Tensor:
        return to_uint8(from_any(source, self.max_side))


def read_all(sources: Sequence[Any], max_side: int | None) -> list[Tensor]:
    """Decode pictures into memory: uint8 (3,H,W), the longer side at most max_side."""
    return list(Decoded(sources, max_side))
