"""Pictures by slot: made by whoever needs one first, and ahead of that in the background. Who makes one makes no
difference to what is in it.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from gmiqa.data.distortions.workers import background_executor, background_threads
from gmiqa.data.synthetic.shelf import CardShelf, Shelf, Windows

CHUNK = 4  # pictures that a background thread of a CPU makes at a time
CARD_CHUNK = 256  # that are made at a time on a card, where all threads share them


class Store:
    """A shelf of `room` slots and what keeps it filled. Children say how slots are filled.

    The `span` is what the background should have ready; what is farthest from it goes when the room is used up.
    """

    def __init__(self, room: int, device: torch.device, background: bool):
        self.room, self.device, self.background = room, device, background
        self._empty()

    def _empty(self) -> None:
        on_card = self.device.type == "cuda"
        self._pictures: Shelf | CardShelf = CardShelf(self.device, self.room) if on_card else Shelf()
        self._claimed: set[int] = set()  # that somebody is making
        self._asked: list[set[int]] = []  # that somebody waits for
        self._span = (0, 0)
        self._at_work = 0  # background tasks
        self._lock = threading.Condition()

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process needs: it fills its own slots."""
        return {name: value for name, value in vars(self).items()
                if name not in ("_pictures", "_claimed", "_asked", "_span", "_at_work", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._empty()

    def _fill(self, slots: list[int]) -> list[Tensor]:
        """uint8 pictures (3,h,w) of these slots, a pure function of the seed and each slot."""
        raise NotImplementedError

    def crops(self, slots: Sequence[int], span: tuple[int, int], how: Windows) -> Tensor:
        """(n,3,h,w) uint8 windows of these slots; the background goes on with `span`."""
        asked = set(slots)
        with self._lock:
            self._span = span
            self._asked.append(asked)
        try:
            return self._made(slots, asked, how)
        finally:
            with self._lock:
                self._asked.remove(asked)

    def _made(self, slots: Sequence[int], asked: set[int], how: Windows) -> Tensor:
        while True:
            with self._lock:
                missing = [s for s in dict.fromkeys(slots) if s not in self._pictures]
                mine = [s for s in missing if s not in self._claimed]
                if not missing:
                    result = self._pictures.crops(slots, how)
                    break
                if not mine:  # a slot that another thread gives up on (an exception there) is then ours
                    self._lock.wait_for(lambda: not asked & self._claimed)
                self._claimed.update(mine)
            if mine:
                self._fill_claimed(mine)
            self._start_background()
        self._start_background()
        return result

    def _fill_claimed(self, slots: list[int]) -> None:
        made: dict[int, Tensor] = {}
        try:
            with self._pictures.filling():
                made = dict(zip(slots, self._fill(slots), strict=True)) if slots else {}
        finally:
            with self._lock:
                self._claimed.difference_update(slots)
                self._pictures.update(made)
                self._forget()
                self._lock.notify_all()

    def _forget(self) -> None:
        """Keep what the room holds and what is waited for; what is farthest from the span goes first."""
        first, end = self._span
        if len(self._pictures) > self.room:
            kept = set().union(*self._asked)
            distance = sorted(self._pictures, key=lambda s: 0 if s in kept else max(first - s, s - end, 0))
            for slot in distance[self.room:]:
                del self._pictures[slot]

    # -- in the background

    def _start_background(self) -> None:
        """On a card one task at a time, which all threads share; on a CPU a task for each thread."""
        threads = background_threads()
        most = 1 if self.device.type == "cuda" else threads
        while self.background:
            with self._lock:
                if self._at_work >= most or not self._missing(1):
                    return
                self._at_work += 1
            _submit(weakref.ref(self), background_executor(threads))

    def _missing(self, count: int) -> list[int]:
        """The first slots of the span, at most so many, that nobody has made or is making."""
        missing = (s for s in range(*self._span) if s not in self._pictures and s not in self._claimed)
        return [s for s, _ in zip(missing, range(count), strict=False)]

    def _background_chunk(self) -> bool:
        """Fill the first missing slots of the span; False if there are none."""
        with self._lock:
            slots = self._missing(CARD_CHUNK if self.device.type == "cuda" else CHUNK)
            self._claimed.update(slots)
            self._at_work -= not slots
        self._fill_claimed(slots)
        return bool(slots)


def _submit(store: weakref.ref[Store], executor: ThreadPoolExecutor) -> None:
    """One chunk after another for as long as the pool lives and has work; all pools share the threads in turn."""

    def work() -> None:
        alive = store()
        if alive is None:
            return
        try:
            more = alive._background_chunk()
        except BaseException:
            with alive._lock:
                alive._at_work -= 1
            raise
        del alive
        if more:
            _submit(store, executor)

    with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
        executor.submit(work)
