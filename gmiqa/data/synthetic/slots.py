"""Slots of a pool: what is known of each, and which of them make a batch, a triplet or a task. No pictures here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from gmiqa_core.errors import UserError


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


def pick(rng: np.random.Generator, slots: np.ndarray, n: int) -> np.ndarray:
    """n of the slots in random order, each once before any comes twice."""
    rounds = [rng.permutation(slots) for _ in range(-(-n // len(slots)))]
    return np.concatenate(rounds)[:n] if rounds else slots[:0]


def in_turn(rng: np.random.Generator, turn: int, n: int) -> int:
    """The item of 0..n-1 whose turn it is, in an order that the generator draws: all come before one comes again."""
    return int(rng.permutation(n)[turn % n])


def stratified(levels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Places of n pictures: all levels as often as they go, random beyond that; none twice unless n exceeds them."""
    order = rng.permutation(len(levels))
    turn = np.empty(len(levels), int)  # how many pictures of its level come before it
    for level in np.unique(levels):
        members = order[levels[order] == level]
        turn[members] = np.arange(len(members))
    return np.resize(order[np.argsort(turn[order], kind="stable")], n)


def triplet(rng: np.random.Generator, same: np.ndarray, other: np.ndarray, table: Callable[[np.ndarray], Slots],
            n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n slots each of anchor and positive, from the slots `same` of one type, and of the negative, from `other`."""
    content, theirs = table(same).content, table(other).content
    present, counts = np.unique(content, return_counts=True)
    if len(present) < 2:
        raise UserError("A triplet needs at least two contents: anchor and positive must not share one.")
    order = rng.permutation(len(present))
    order = order[np.argsort(~np.isin(present[order], theirs), kind="stable")]  # those that the negative has, first
    half = np.abs(counts[order].cumsum()[:-1] - len(same) / 2).argmin() + 1  # contents for half of the pictures
    inside = np.isin(content, present[order[:half]])
    anchor, positive = pick(rng, same[inside], n), pick(rng, same[~inside], n)
    shared = np.isin(theirs, table(anchor).content)
    negative = np.concatenate([rng.permutation(other[shared]), rng.permutation(other[~shared])])
    return anchor, positive, np.resize(negative, n)


def task(rng: np.random.Generator, slots: np.ndarray, table: Slots, support: int, query: int) -> np.ndarray:
    """Slots of support and query, one after the other, of disjoint contents; levels spread evenly in both."""
    if len(np.unique(table.content)) < 2:
        raise UserError("A task needs at least two contents: support and query must not share one.")
    inside = _divide(rng, table, support, query)
    return np.concatenate([slots[part][stratified(table.level[part], n, rng)]
                           for part, n in ((inside, support), (~inside, query))])


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
