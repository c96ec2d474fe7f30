"""Pools: endless batches of distorted pictures, each a pure function of (seed, step), prepared in the background.

A pool is a sequence of slots without end: round after round of every (type, level) once, each time with another
content. At each step a window of `per_cell` rounds can be drawn from; `draws / reuse` slots enter it and as many leave,
so a slot is drawn `reuse` times on average, each time in another crop. A background thread fills slots ahead of the
window; those asked for before their turn are filled by the caller. Who fills one makes no difference to what is in it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.data.distortions import calibration, type_id
from gmiqa.data.distortions.workers import background_executor
from gmiqa.data.synthetic.pristine import crop_at
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError

BATCH, _, TRIPLET, TASK, ORDER, SLOT = range(6)  # first word of a random stream: no two purposes share one
CHUNK = 4  # pictures that the background thread makes at a time
ROUNDS_KEPT = 64


@dataclass(frozen=True)
class Slots:
    """What is known about some slots, (m,) arrays; `source` is what a pool needs to find the picture."""

    type: np.ndarray
    level: np.ndarray
    content: np.ndarray
    source: np.ndarray
    quality: np.ndarray
    spread: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Slots:
        return Slots(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def cat(parts: Sequence[Slots]) -> Slots:
        return Slots(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Slots)))


class SlotPool:
    """What pools of synthetic and real pictures share. Children say what a round holds and how to fill slots.

    `cells` are the (type, level) of a round, in an order drawn from the seed: the same in every round, so that a window
    of the length of a round holds each of them.
    """

    filled = False  # whether the window has its whole length from the first step on

    def __init__(
        self,
        cells: Sequence[tuple[int, int]],
        crop: int | None,
        per_cell: int,
        reuse: int | None,
        draws: int,
        seed: int,
        device: str | torch.device,
        background: bool,
        turn: bool = False,
    ):
        for name, value in (("per_cell", per_cell), ("reuse", reuse), ("draws", draws)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1; got {value}.")
        if turn and not crop:
            raise UserError("Only square crops can be turned: give crop a side, or leave turn out.")
        self.types = tuple(sorted({t for t, _ in cells}))
        self.crop, self.per_cell, self.reuse, self.draws = crop, per_cell, reuse, draws
        self.seed, self.device, self.background, self.turn = seed, torch.device(device), background, turn
        self.waited = 0.0  # seconds that callers spent on getting pictures
        self.cells = [cells[i] for i in self._rng(ORDER, 0).permutation(len(cells))]
        self._rounds: dict[int, Slots] = {}
        self._pictures: dict[int, Tensor] = {}
        self._claimed: set[int] = set()
        self._span = (0, 0)  # what the background thread should have ready: the window and a round ahead
        self._lock = threading.Condition()
        self._filling = False

    def identity(self) -> dict[str, str]:
        """Plain values that say which pictures it gives: a training on others is another training."""
        return {name: repr(value) for name, value in vars(self).items()
                if not name.startswith("_") and isinstance(value, (int, str, tuple, type(None)))
                and name not in ("background", "waited")}

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process needs: it fills its own slots."""
        return {**vars(self), "_pictures": {}, "_claimed": set(), "_span": (0, 0), "_filling": False, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Condition())

    # -- what children define

    def _round(self, number: int) -> Slots:
        """The slots of a round, in the order of `cells`."""
        raise NotImplementedError

    def _fill(self, slots: list[int]) -> list[Tensor]:
        """uint8 pictures (3,h,w) of these slots, a pure function of the seed and each slot."""
        raise NotImplementedError

    # -- batches

    def batch(self, step: int, n: int) -> Batch:
        """n pictures of any type, level and content; no slot twice before all have been drawn."""
        rng = self._rng(BATCH, step)
        return self._draw(step, _pick(rng, self._window(step), n), rng)

    def triplet(self, step: int, n: int) -> tuple[Batch, Batch, Batch]:
        """Anchor and positive of one type, negative of another; n pictures each.

        Anchor and positive share no content, and the negative takes the anchor's as far as its type has them: what the
        pictures show argues against the answer, so only the distortion can give it. Undistorted pictures (type 0) are
        left out: with one level they are a fifth as many as those of a type.
        """
        rng = self._rng(TRIPLET, step)
        drawn = self._draw(step, np.concatenate(self._triplet(step, n, rng)), rng)
        return drawn[:n], drawn[n : 2 * n], drawn[2 * n :]

    def task(self, step: int, type: int, support: int, query: int) -> tuple[Batch, Batch]:
        """Support and query of one type, from disjoint contents; levels spread evenly in both, and no picture twice
        before all of its part have been drawn."""
        rng = self._rng(TASK, step, type_id(type) if type else 0)
        slots = self._typed(step, self._chosen(type, rng))
        table = self._table(slots)
        if len(np.unique(table.content)) < 2:
            raise UserError("A task needs at least two contents: support and query must not share one.")
        inside = _divide(rng, table, support, query)
        picked = np.concatenate([slots[part][stratified(table.level[part], n, rng)]
                                 for part, n in ((inside, support), (~inside, query))])
        drawn = self._draw(step, picked, rng)
        return drawn[:support], drawn[support:]

    # -- which slots

    def _rng(self, purpose: int, step: int, *words: int) -> np.random.Generator:
        if step < 0:
            raise UserError(f"step must be 0 or more; got {step}.")
        return np.random.default_rng([self.seed % 2**63, purpose, step, *words])

    def _window(self, step: int) -> np.ndarray:
        """Slots that can be drawn at a step: one round at the start (all of the window, if `filled`), then growing,
        then moving on; or all, for good."""
        full = self.per_cell * len(self.cells)
        start = full if self.filled else len(self.cells)
        end = full if self.reuse is None else start + step * self.draws // self.reuse
        return np.arange(max(0, end - full), end)

    def _table(self, slots: np.ndarray) -> Slots:
        numbers, places = np.divmod(slots, len(self.cells))
        parts, where = [], np.empty(len(slots), int)
        for count, number in enumerate(np.unique(numbers)):
            with self._lock:
                if number not in self._rounds:
                    while len(self._rounds) >= ROUNDS_KEPT:
                        del self._rounds[next(iter(self._rounds))]
                    self._rounds[number] = self._round(int(number))
                parts.append(self._rounds[number])
            chosen = numbers == number
            where[chosen] = places[chosen] + count * len(self.cells)
        return Slots.cat(parts)[where]

    def _chosen(self, type: int | None, rng: np.random.Generator) -> int:
        if type is None:
            return int(rng.choice(self.types))
        if type not in self.types:
            raise UserError(f"Distortion type {type} is not in this pool, which holds {list(self.types)}.")
        return type

    def _typed(self, step: int, type: int) -> np.ndarray:
        slots = self._window(step)
        return slots[self._table(slots).type == type]

    def _of_type(self, step: int, type: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return _pick(rng, self._typed(step, type), n)

    def _triplet(self, step: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slots of anchor, positive and negative."""
        types = [t for t in self.types if t]
        if len(types) < 2:
            raise UserError("A triplet needs at least two distortion types in the pool.")
        same, other = (self._typed(step, int(t)) for t in rng.choice(types, 2, replace=False))
        content, theirs = self._table(same).content, self._table(other).content
        present, counts = np.unique(content, return_counts=True)
        if len(present) < 2:
            raise UserError("A triplet needs at least two contents: anchor and positive must not share one.")
        order = rng.permutation(len(present))
        order = order[np.argsort(~np.isin(present[order], theirs), kind="stable")]  # those that the negative has, first
        half = np.abs(counts[order].cumsum()[:-1] - len(same) / 2).argmin() + 1  # contents for half of the pictures
        inside = np.isin(content, present[order[:half]])
        anchor, positive = _pick(rng, same[inside], n), _pick(rng, same[~inside], n)
        shared = np.isin(theirs, self._table(anchor).content)
        negative = np.concatenate([rng.permutation(other[shared]), rng.permutation(other[~shared])])
        return anchor, positive, np.resize(negative, n)

    # -- their pictures

    def _draw(self, step: int, slots: np.ndarray, rng: np.random.Generator) -> Batch:
        """Slots in a random crop each, mirrored half of the time, and turned by 0 to 3 quarters if the pool turns."""
        places, flips = rng.random((len(slots), 2)), rng.random(len(slots)) < 0.5
        quarters = (rng.integers(4, size=len(slots)) if self.turn else np.zeros(len(slots), int)).tolist()
        began = time.perf_counter()
        made = self._get(step, slots.tolist())
        self.waited += time.perf_counter() - began
        pictures = [made[s] for s in slots.tolist()]
        size = (self.crop,) * 2 if self.crop else tuple(min(p.shape[k] for p in pictures) for k in (1, 2))
        how = zip(pictures, places.tolist(), flips.tolist(), quarters, strict=True)
        crops = [crop_at(p, size, at, flip, quarter) for p, at, flip, quarter in how]  # type: ignore[arg-type]
        return _batch(torch.stack(crops), self._table(slots))

    def _get(self, step: int, slots: list[int]) -> dict[int, Tensor]:
        window = self._window(step)
        with self._lock:
            self._span = int(window[0]), int(window[-1]) + 1 + len(self.cells)
            mine = [s for s in dict.fromkeys(slots) if s not in self._pictures and s not in self._claimed]
            self._claimed.update(mine)
        made = self._fill_claimed(mine)
        self._start_background()
        with self._lock:
            # A slot that another thread gave up on (an exception there) is no longer claimed: then it is ours.
            self._lock.wait_for(lambda: not any(s in self._claimed for s in slots))
            made |= {s: self._pictures[s] for s in slots if s in self._pictures}
            lost = [s for s in dict.fromkeys(slots) if s not in made]
            self._claimed.update(lost)
        return made | self._fill_claimed(lost)

    def _fill_claimed(self, slots: list[int]) -> dict[int, Tensor]:
        made: dict[int, Tensor] = {}
        try:
            made = dict(zip(slots, self._fill(slots), strict=True)) if slots else {}
        finally:
            with self._lock:
                self._pictures.update(made)
                self._claimed.difference_update(slots)
                self._forget()
                self._lock.notify_all()
        return made

    def _forget(self) -> None:
        """Keep what the span can hold and a round more; what is farthest from the span goes first."""
        first, end = self._span
        room = (self.per_cell + 2) * len(self.cells)
        if len(self._pictures) > room:
            distance = sorted(self._pictures, key=lambda s: max(first - s, s - end, 0))
            for slot in distance[room:]:
                del self._pictures[slot]

    def _start_background(self) -> None:
        with self._lock:
            start = self.background and not self._filling
            self._filling = self._filling or start
        if start:
            _submit(weakref.ref(self))

    def _background_chunk(self) -> bool:
        """Fill the first missing slots of the span; False if there are none."""
        with self._lock:
            missing = (s for s in range(*self._span) if s not in self._pictures and s not in self._claimed)
            slots = [s for s, _ in zip(missing, range(CHUNK), strict=False)]
            self._claimed.update(slots)
            self._filling = bool(slots)
        self._fill_claimed(slots)
        return bool(slots)


def _submit(pool: weakref.ref[SlotPool]) -> None:
    """One chunk after another for as long as the pool lives and has work; all pools share the executor in turn."""

    def work() -> None:
        alive = pool()
        if alive is None:
            return
        try:
            more = alive._background_chunk()
        except BaseException:
            alive._filling = False
            raise
        del alive
        if more:
            _submit(pool)

    try:
        background_executor().submit(work)
    except RuntimeError:  # the interpreter is shutting down
        return


def _pick(rng: np.random.Generator, slots: np.ndarray, n: int) -> np.ndarray:
    """n of the slots in random order, each once before any comes twice."""
    rounds = [rng.permutation(slots) for _ in range(-(-n // len(slots)))]
    return np.concatenate(rounds)[:n] if rounds else slots[:0]


def stratified(levels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Places of n pictures: all levels as often as they go, random beyond that; none twice unless n exceeds them."""
    order = rng.permutation(len(levels))
    turn = np.empty(len(levels), int)  # how many pictures of its level come before it
    for level in np.unique(levels):
        members = order[levels[order] == level]
        turn[members] = np.arange(len(members))
    return np.resize(order[np.argsort(turn[order], kind="stable")], n)


def _divide(rng: np.random.Generator, table: Slots, support: int, query: int) -> np.ndarray:
    """Which slots of one type are of the support's contents (bool): contents are handed out one by one, in random
    order, to the part that misses more of their levels, or else to the one farther from its share."""
    contents = rng.permutation(np.unique(table.content))
    wanted = np.array([support, query]) / len(np.unique(table.level))  # pictures of each level
    have = np.zeros((2, table.level.max() + 1))
    inside = np.zeros(len(table.level), bool)
    for number, content in enumerate(contents):
        members = table.content == content
        count = np.bincount(table.level[members], minlength=have.shape[1])
        gain = np.minimum(count, np.maximum(0, wanted[:, None] - have)).sum(1) / wanted
        left = have.sum(1) / (support, query)
        part = int(np.lexsort((left, -gain))[0])
        if number == len(contents) - 1 and not have.sum(1).all():  # neither stays empty
            part = int(have.sum(1).argmin())
        have[part] += count
        inside |= members & (part == 0)
    return inside


def _batch(pictures: Tensor, slots: Slots) -> Batch:
    def column(values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=dtype).to(pictures.device)

    return Batch(
        images=pictures.float() / 255,
        quality=column(slots.quality, torch.float32),
        spread=column(slots.spread, torch.float32),
        type=column(slots.type, torch.long),
        level=column(slots.level, torch.long),
        severity=column(1 - calibration.quality(slots.type, slots.level), torch.float32),
        content=column(slots.content, torch.long),
    )
