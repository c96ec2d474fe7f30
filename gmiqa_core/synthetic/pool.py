"""Pools: endless batches of distorted pictures, each a pure function of (seed, step), prepared in the background.

A pool works in generations. Generation g is a plan of slots, `per_cell` for each (type, level), each with a content. It
lasts a fixed number of steps, in which every slot is drawn `reuse` times on average, each time in another crop. A
background thread fills the slots; those that are asked for before their turn are filled by the caller. Who fills one
makes no difference to what is in it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gmiqa_core.distortions import calibration, type_id
from gmiqa_core.distortions.workers import background_executor
from gmiqa_core.settings import UserError
from gmiqa_core.synthetic.batch import Batch
from gmiqa_core.synthetic.contents import crop_at

BATCH, GRAPH, TRIPLET, TASK, PLAN, SLOT = range(6)  # first word of a random stream: no two purposes share one
CHUNK = 4  # pictures that the background thread makes at a time


@dataclass
class Plan:
    """The slots of one generation: (m,) arrays, and the pictures that are ready."""

    type: np.ndarray
    level: np.ndarray
    content: np.ndarray
    source: np.ndarray
    quality: np.ndarray
    spread: np.ndarray
    pictures: dict[int, Tensor] = field(default_factory=dict)
    claimed: set[int] = field(default_factory=set)


class SlotPool:
    """What pools of synthetic and real pictures share. Children say what a generation holds and how to fill slots."""

    def __init__(
        self, types: Sequence[int], *, crop: int | None, reuse: int, draws: int, seed: int,
        device: str | torch.device, background: bool
    ):
        if reuse < 1 or draws < 1:
            raise UserError(f"reuse and draws must be at least 1; got {reuse} and {draws}.")
        self.types, self.crop, self.reuse, self.draws = tuple(types), crop, reuse, draws
        self.seed, self.device, self.background = seed, torch.device(device), background
        self.waited = 0.0  # seconds that callers spent here in all
        self._plans: dict[int, Plan] = {}
        self._newest = 0
        self._ready = threading.Condition()
        self._filling = False

    def __getstate__(self) -> dict:
        """What a worker process needs to draw the same batches: everything but the pictures at hand and the lock."""
        return self.__dict__ | {"_plans": {}, "_ready": None, "_filling": False}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _ready=threading.Condition())

    # -- what children define

    def _plan(self, generation: int) -> Plan:
        raise NotImplementedError

    def _fill(self, generation: int, plan: Plan, slots: list[int]) -> list[Tensor]:
        """uint8 pictures (3,h,w) of these slots, a pure function of its arguments and the seed."""
        raise NotImplementedError

    # -- batches

    def batch(self, step: int, n: int) -> Batch:
        """n pictures of any type, level and content; no slot twice before all have been drawn."""
        rng = self._rng(BATCH, step)
        plan = self._at(step)
        return self._draw(step, _pick(rng, np.arange(len(plan.type)), n), rng)

    def graph(self, step: int, n: int, type: int | None = None) -> Batch:
        """n pictures of one type (drawn if not given), mixed levels and contents."""
        rng = self._rng(GRAPH, step)
        chosen = self._chosen(type, rng)
        return self._draw(step, self._of_type(step, chosen, n, rng), rng)

    def triplet(self, step: int, n: int) -> tuple[Batch, Batch, Batch]:
        """Anchor and positive of one type, negative of another; n pictures each."""
        if len(self.types) < 2:
            raise UserError("A triplet needs at least two distortion types in the pool.")
        rng = self._rng(TRIPLET, step)
        same, other = (int(t) for t in rng.choice(self.types, 2, replace=False))
        pair = self._of_type(step, same, 2 * n, rng)
        slots = np.concatenate([pair, self._of_type(step, other, n, rng)])
        drawn = self._draw(step, slots, rng)
        return drawn[:n], drawn[n : 2 * n], drawn[2 * n :]

    def task(self, step: int, type: int, support: int, query: int) -> tuple[Batch, Batch]:
        """Support and query of one type, from disjoint contents."""
        rng = self._rng(TASK, step, type_id(type) if type else 0)
        plan = self._at(step)
        slots = np.flatnonzero(plan.type == self._chosen(type, rng))
        present = np.unique(plan.content[slots])
        if len(present) < 2:
            raise UserError("A task needs at least two contents: support and query must not share one.")
        order = rng.permutation(present)
        cut = min(max(1, round(len(present) * support / (support + query))), len(present) - 1)
        inside = np.isin(plan.content[slots], order[:cut])
        picked = np.concatenate([_pick(rng, slots[inside], support), _pick(rng, slots[~inside], query)])
        drawn = self._draw(step, picked, rng)
        return drawn[:support], drawn[support:]

    # -- machinery

    def _rng(self, purpose: int, step: int, *words: int) -> np.random.Generator:
        if step < 0:
            raise UserError(f"step must be 0 or more; got {step}.")
        return np.random.default_rng([self.seed % 2**63, purpose, step, *words])

    def _chosen(self, type: int | None, rng: np.random.Generator) -> int:
        if type is None:
            return int(rng.choice(self.types))
        if type not in self.types:
            raise UserError(f"Distortion type {type} is not in this pool, which holds {list(self.types)}.")
        return type

    def _of_type(self, step: int, type: int, n: int, rng: np.random.Generator) -> np.ndarray:
        return _pick(rng, np.flatnonzero(self._at(step).type == type), n)

    def _generation(self, step: int) -> int:
        slots = len(self._get_plan(0).type)
        return step // max(1, self.reuse * slots // self.draws)

    def _get_plan(self, generation: int) -> Plan:
        with self._ready:
            if generation not in self._plans:
                self._plans[generation] = self._plan(generation)
            return self._plans[generation]

    def _at(self, step: int) -> Plan:
        return self._get_plan(self._generation(step))

    def _draw(self, step: int, slots: np.ndarray, rng: np.random.Generator) -> Batch:
        """Slots in a random crop each, mirrored half of the time."""
        places, flips = rng.random((len(slots), 2)), rng.random(len(slots)) < 0.5
        began = time.perf_counter()
        generation = self._generation(step)
        plan = self._get_plan(generation)
        pictures = self._pictures(generation, plan, [int(s) for s in slots])
        size = (self.crop,) * 2 if self.crop else tuple(min(p.shape[k] for p in pictures) for k in (1, 2))
        crops = [crop_at(p, size, at, flip) for p, at, flip in zip(pictures, places, flips, strict=True)]  # type: ignore[arg-type]
        batch = _batch(torch.stack(crops), plan, slots)
        self.waited += time.perf_counter() - began
        return batch

    def _pictures(self, generation: int, plan: Plan, slots: list[int]) -> list[Tensor]:
        with self._ready:
            self._newest = generation
            for old in [g for g in self._plans if g not in (0, generation, generation + 1)]:
                del self._plans[old]
            if generation != 0 and 0 in self._plans:  # its plan still tells the number of slots
                self._plans[0].pictures.clear()
                self._plans[0].claimed.clear()
            mine = [s for s in dict.fromkeys(slots) if s not in plan.claimed]
            plan.claimed.update(mine)
        self._fill_claimed(generation, plan, mine)
        self._start_background()
        with self._ready:
            # A slot that another thread gave up on (an exception there) is no longer claimed: then it is ours.
            self._ready.wait_for(lambda: all(s in plan.pictures or s not in plan.claimed for s in slots))
            lost = [s for s in dict.fromkeys(slots) if s not in plan.pictures]
            plan.claimed.update(lost)
        self._fill_claimed(generation, plan, lost)
        return [plan.pictures[s] for s in slots]

    def _fill_claimed(self, generation: int, plan: Plan, slots: list[int]) -> None:
        made: list[Tensor] = []
        try:
            made = self._fill(generation, plan, slots) if slots else []
        finally:
            with self._ready:
                plan.pictures.update(zip(slots, made, strict=False))
                plan.claimed.difference_update(set(slots) - set(plan.pictures))
                self._ready.notify_all()

    def _start_background(self) -> None:
        with self._ready:
            start, self._filling = self.background and not self._filling, True
        if start:
            _submit(weakref.ref(self))

    def _background_chunk(self) -> bool:
        """Fill some slots of this generation, else of the next; False if there is nothing left to do."""
        for generation in (self._newest, self._newest + 1):
            plan = self._get_plan(generation)
            with self._ready:
                left = (s for s in range(len(plan.type)) if s not in plan.claimed)
                slots = [s for s, _ in zip(left, range(CHUNK), strict=False)]
                plan.claimed.update(slots)
            if slots:
                self._fill_claimed(generation, plan, slots)
                return True
        return False


def _submit(pool: weakref.ref[SlotPool]) -> None:
    """One chunk after another for as long as the pool lives and has work; all pools share the executor in turn."""

    def work() -> None:
        alive = pool()
        if alive is None:
            return
        more = False
        try:
            more = alive._background_chunk()
        finally:
            alive._filling = more
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


def _batch(pictures: Tensor, plan: Plan, slots: np.ndarray) -> Batch:
    def column(values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(values[slots], dtype=dtype).to(pictures.device)

    cell = 1 - calibration.quality(plan.type, plan.level)
    return Batch(
        images=pictures.float() / 255,
        quality=column(plan.quality, torch.float32),
        spread=column(plan.spread, torch.float32),
        type=column(plan.type, torch.long),
        level=column(plan.level, torch.long),
        severity=column(cell, torch.float32),
        content=column(plan.content, torch.long),
    )
