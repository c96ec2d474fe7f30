"""Pools: endless batches of distorted pictures, each a pure function of (seed, step), prepared in the background.

A pool is a sequence of slots without end: round after round of every (type, level) once, each time with another
content. At each step a window of `per_cell` rounds can be drawn from; `draws / reuse` slots enter it and as many leave,
so a slot is drawn `reuse` times on average, each time in another crop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from gmiqa.data.distortions import calibration, type_id
from gmiqa.data.images.gather import to_unit
from gmiqa.data.synthetic.shelf import Windows
from gmiqa.data.synthetic.slots import Slots, pick
from gmiqa.data.synthetic.slots import task as choose_task
from gmiqa.data.synthetic.slots import triplet as choose_triplet
from gmiqa.data.synthetic.store import Store
from gmiqa_core.batch import Batch, upload
from gmiqa_core.errors import UserError

BATCH, _, TRIPLET, TASK, ORDER, SLOT = range(6)  # first word of a random stream: no two purposes share one
ROUNDS_KEPT = 64


@dataclass(frozen=True)
class Drawing:
    """What is seen of a pool's pictures, and how fast they are replaced.

    crop        side of the square crops; None: whole pictures, cut to what all of a batch have
    max_side    longer side to which a distorted picture is shrunk by area before it is cropped, 0 for none: the rule of
                a network that scores shrunken pictures (finetuning.Pictures)
    turn        crops are turned by quarter turns as well as mirrored: blur and edges of a pool keep no direction
    per_cell    pictures of each (type, level) that can be drawn at a time
    reuse       how often a distorted picture is drawn on average, each time in another crop, before it is replaced;
                None: never, the pool stays as it is
    draws       pictures that a step takes, about; with `reuse` it says how fast pictures are replaced
    filled      `per_cell` pictures from the first step on, where it is one otherwise, and grows: tasks need as many
                different pictures of a type as support and query hold
    """

    crop: int | None = 128
    max_side: int = 0
    turn: bool = False
    per_cell: int = 3
    reuse: int | None = 8
    draws: int = 32
    filled: bool = False

    def __post_init__(self) -> None:
        for name, value in (("per_cell", self.per_cell), ("reuse", self.reuse), ("draws", self.draws)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1; got {value}.")
        if self.turn and not self.crop:
            raise UserError("Only square crops can be turned: give crop a side, or leave turn out.")


class SlotPool(Store):
    """What pools of synthetic and real pictures share. Children say what a round holds and how to fill slots.

    `cells` are the (type, level) of a round, in an order drawn from the seed: the same in every round, so that a window
    of the length of a round holds each of them.
    """

    def __init__(self, cells: Sequence[tuple[int, int]], drawing: Drawing, seed: int, device: str | torch.device,
                 background: bool):
        super().__init__((drawing.per_cell + 2) * len(cells), torch.device(device), background)
        self.types = tuple(sorted({t for t, _ in cells}))
        self.drawing, self.seed = drawing, seed
        self.waited = 0.0  # seconds that callers spent on getting pictures
        self.cells = [cells[i] for i in self._rng(ORDER, 0).permutation(len(cells))]
        self._rounds: dict[int, Slots] = {}

    def identity(self) -> dict[str, str]:
        """Plain values that say which pictures it gives: a training on others is another training."""
        values = {**asdict(self.drawing), "types": self.types, "seed": self.seed}
        return {name: repr(value) for name, value in values.items()}

    def _round(self, number: int) -> Slots:
        """The slots of a round, in the order of `cells`."""
        raise NotImplementedError

    # -- batches

    def batch(self, step: int, n: int) -> Batch:
        """n pictures of any type, level and content; no slot twice before all have been drawn."""
        rng = self._rng(BATCH, step)
        return self._draw(step, pick(rng, self._window(step), n), rng)

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
        if type not in self.types:
            raise UserError(f"Distortion type {type} is not in this pool, which holds {list(self.types)}.")
        slots = self._typed(step, type)
        drawn = self._draw(step, choose_task(rng, slots, self._table(slots), support, query), rng)
        return drawn[:support], drawn[support:]

    # -- which slots

    def _rng(self, purpose: int, step: int, *words: int) -> np.random.Generator:
        if step < 0:
            raise UserError(f"step must be 0 or more; got {step}.")
        return np.random.default_rng([self.seed % 2**63, purpose, step, *words])

    def _window(self, step: int) -> np.ndarray:
        """Slots that can be drawn at a step: one round at the start (all of the window, if `filled`), then growing,
        then moving on; or all, for good."""
        full = self.drawing.per_cell * len(self.cells)
        start = full if self.drawing.filled else len(self.cells)
        end = full if self.drawing.reuse is None else start + step * self.drawing.draws // self.drawing.reuse
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

    def _typed(self, step: int, type: int) -> np.ndarray:
        slots = self._window(step)
        return slots[self._table(slots).type == type]

    def _triplet(self, step: int, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slots of anchor, positive and negative."""
        types = [t for t in self.types if t]
        if len(types) < 2:
            raise UserError("A triplet needs at least two distortion types in the pool.")
        same, other = (self._typed(step, int(t)) for t in rng.choice(types, 2, replace=False))
        return choose_triplet(rng, same, other, self._table, n)

    # -- their pictures

    def _draw(self, step: int, slots: np.ndarray, rng: np.random.Generator) -> Batch:
        """Slots in a random crop each, mirrored half of the time, and turned by 0 to 3 quarters if the pool turns."""
        n, crop, window = len(slots), self.drawing.crop, self._window(step)
        at, flip = rng.random((n, 2)), rng.random(n) < 0.5
        quarters = rng.integers(4, size=n) if self.drawing.turn else np.zeros(n, int)
        span = int(window[0]), int(window[-1]) + 1 + len(self.cells)  # a round ahead
        began = time.perf_counter()
        pictures = self.crops(slots.tolist(), span, Windows((crop, crop) if crop else None, at, flip, quarters))
        self.waited += time.perf_counter() - began
        return _batch(pictures, self._table(slots))


def _batch(pictures: Tensor, slots: Slots) -> Batch:
    """The facts travel to the device together."""
    severity = 1 - calibration.quality(slots.type, slots.level)
    columns = (slots.quality, slots.spread, severity, slots.type, slots.level, slots.content)
    quality, spread, severity, *whole = upload(torch.from_numpy(np.stack(columns).astype(float)), pictures.device)
    type, level, content = (column.long() for column in whole)
    return Batch(to_unit(pictures), quality.float(), spread.float(), type, level, severity.float(), content)


def draws_a_step(sizes: Sequence[int], batch: int, mixed: int) -> int:
    """Pictures that graph pre-training with these sizes draws in a step: so fast must its pool move on."""
    return max(1, (3 * batch + mixed) // max(1, batch // min(sizes)))


def pictures_per_cell(sizes: Sequence[int]) -> int:
    """How many pictures of a (type, level) make an anchor and a positive graph of the largest N without repeating one:
    2 N over five levels."""
    return max(3, -(-2 * max(sizes) // 5))
