"""What a data set is: one table of records with a declared scale, and a list of what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa_core.errors import UserError

COLUMNS = ("id", "image", "reference", "group", "subset", "type", "type_id", "level", "score", "spread", "quality",
           "split")  # fmt: skip
SPLITS = ("train", "validation", "test")


class DatasetError(UserError):
    """A data set cannot be used; the message names what is missing or wrong and what was expected."""


@dataclass(frozen=True)
class Scale:
    """Declared range and direction of raw scores. `slack`: how far beyond the ends scores may run, in ranges."""

    low: float
    high: float
    higher_is_better: bool = True
    slack: float = 0.005

    def quality(self, score: Any) -> np.ndarray:
        """Raw score -> [0, 1], higher is better; what runs beyond the declared ends is clipped."""
        unit = (np.asarray(score, dtype=np.float64) - self.low) / (self.high - self.low)
        return np.clip(unit if self.higher_is_better else 1 - unit, 0.0, 1.0)

    def raw(self, quality: Any) -> np.ndarray:
        """[0, 1], higher is better -> raw score."""
        unit = np.asarray(quality, dtype=np.float64)
        return self.low + (self.high - self.low) * (unit if self.higher_is_better else 1 - unit)

    def far_outside(self, score: Any) -> np.ndarray:
        """True where a raw score lies beyond the declared ends by more than the slack, or is no number."""
        margin = self.slack * (self.high - self.low)
        score = np.asarray(score, dtype=np.float64)
        return ~((score >= self.low - margin) & (score <= self.high + margin))

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, {'higher' if self.higher_is_better else 'lower'} is better"


@dataclass(frozen=True)
class Finding:
    """Something wrong with a download. `fatal`: it cannot be used as it is; `images`: pictures are not there."""

    text: str
    fatal: bool = True
    images: bool = False


@dataclass(frozen=True)
class Family:
    """What is known about a data set before it is opened."""

    name: str
    title: str
    read: Callable[..., Raw]
    unit: str  # what is never divided by a split: "reference", "group" or "image"
    records: int | None = None
    references: int | None = None
    source: str = ""
    options: tuple[str, ...] = ()  # what its reader takes, where that is not its arguments


@dataclass
class Raw:
    """What a family's reader found: a table with an `image` column of paths relative to the root, and the scale."""

    table: pd.DataFrame
    scale: Scale
    scores_file: str
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Dataset:
    """A data set as one table of records.

    table columns: id (stable name, relative to root), image (path), reference, group, subset, type ("" where there is
    none), type_id (1..25 where the type is one of KADID's, else 0), level (0 where none), score (raw, on `scale`),
    spread (standard deviation of the opinions in raw units, NaN where none), quality in [0, 1] (higher is better),
    split (the authors': train, validation, test or "").
    """

    name: str
    root: Path
    table: pd.DataFrame
    scale: Scale
    unit: str
    title: str = ""
    scores_file: str = ""
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def units(self) -> np.ndarray:
        """Per record, the label that a split never divides."""
        ids = self.table["id"].to_numpy(dtype=object)
        if self.unit == "image":
            return ids
        labels = self.table[self.unit].to_numpy(dtype=object)
        return np.where(labels == "", ids, labels)

    def drop(self, keep: np.ndarray) -> Dataset:
        """The same data set with only the records where `keep` is true."""
        table = self.table[keep].reset_index(drop=True)
        return Dataset(self.name, self.root, table, self.scale, self.unit, self.title, self.scores_file, self.notes)
