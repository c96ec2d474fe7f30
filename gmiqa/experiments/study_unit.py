"""A unit of the study: columns of a small table that one process makes, and that stand alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.data.pictures import Pictures
from gmiqa.evaluate.protocols import units as labels_of

Shard = tuple[int, ...]
Work = Callable[[str, Path], pd.DataFrame]  # unit, folder of its trainings -> table
PICTURE = ("seed", "picture", "content", "target")
FOLD_SEEDS = 3  # of trainings that cost most: the stack's members in every fold, GMIQA in full


@dataclass(frozen=True)
class Experiment:
    """keys: the index of its table. of_shard: which of them a shard fixes. holds: whether a shard's part of the table
    holds a unit."""

    keys: tuple[str, ...]
    of_shard: tuple[str, ...]
    shards: Callable[[Any], list[Shard]]
    units: Callable[[Any, Shard], list[str]]
    holds: Callable[[pd.DataFrame, str], bool]
    open: Callable[[Any, Shard], Work]

    def finished(self, table: pd.DataFrame, p: Any, shard: Shard) -> list[str]:
        """The units of a shard that a table holds."""
        if table.empty:
            return []
        for name, value in zip(self.of_shard, shard, strict=True):
            table = table[table.index.get_level_values(name) == value]
        return [unit for unit in self.units(p, shard) if self.holds(table, unit)]


def joined(tables: Sequence[pd.DataFrame], keys: Sequence[str]) -> pd.DataFrame:
    """Tables of units as one: a row for each key, a column for each arm."""
    result = pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(keys), names=list(keys)))
    for table in tables:
        result = table if result.empty else result.combine_first(table)
    return result.sort_index()


def seeds(p: Any, count: int) -> list[Shard]:
    return [(seed,) for seed in range(p.seed, p.seed + count)]


def scored(pictures: Pictures, seed: int, **columns: np.ndarray) -> pd.DataFrame:
    """Predictions of test pictures, with what their comparison needs."""
    labels = labels_of(pictures.facts)
    n = len(pictures)
    return pd.DataFrame({"seed": seed, "picture": np.arange(n), "content": np.arange(n) if labels is None else labels,
                         "target": pictures.quality.numpy().astype(float).round(6), **columns}).set_index(list(PICTURE))


def once(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`make` of settings, its last result kept: shards of one process share what does not depend on them."""
    last: dict[str, Any] = {}

    def made(p: Any) -> Any:
        key = json.dumps(p.plain(), sort_keys=True)
        if key not in last:
            last.clear()
            last[key] = make(p)
        return last[key]

    return made


def quiet(*_: Any) -> None:
    """Reports nothing: many trainings run side by side."""


def holds_column(table: pd.DataFrame, unit: str) -> bool:
    return unit in table and bool(table[unit].notna().any())


def holds_seed(table: pd.DataFrame, unit: str) -> bool:
    return number(unit) in table.index.get_level_values("seed")


def number(unit: str) -> int:
    return int(unit.removeprefix("seed "))


def calibrated(shards: Callable[[Any], list[Shard]]) -> Callable[[Any], list[Shard]]:
    """These shards where scores are KADID-calibrated; none on a data set."""
    return lambda p: shards(p) if p.dataset == "synthetic" else []
