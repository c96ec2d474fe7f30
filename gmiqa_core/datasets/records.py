"""One table of records for every data set, and what its reader needs: declared scales, findings, file look-up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa_core.settings import UserError

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
        own = self.table["id"].to_numpy(dtype=object)
        if self.unit == "image":
            return own
        labels = self.table[self.unit].to_numpy(dtype=object)
        return np.where(labels == "", own, labels)

    def drop(self, keep: np.ndarray) -> Dataset:
        """The same data set with only the records where `keep` is true."""
        table = self.table[keep].reset_index(drop=True)
        return Dataset(self.name, self.root, table, self.scale, self.unit, self.title, self.scores_file, self.notes)


def finished(family: Family, root: Path, raw: Raw) -> tuple[Dataset, np.ndarray, list[Finding]]:
    """Fill in the common columns and look for what is wrong -> data set, records whose image is there, findings."""
    table = raw.table.reset_index(drop=True).copy()
    findings = list(raw.findings)
    for column, default in {"reference": "", "group": "", "subset": "", "type": "", "split": ""}.items():
        values = table[column] if column in table else pd.Series(default, index=table.index)
        table[column] = values.fillna("").astype(str).astype(object)
    for column in ("type_id", "level"):
        table[column] = table[column].fillna(0).astype(int) if column in table else 0
    table["score"] = pd.to_numeric(table["score"], errors="coerce").astype(float)
    table["spread"] = pd.to_numeric(table["spread"], errors="coerce").astype(float) if "spread" in table else np.nan
    findings += _score_findings(table, raw)
    table["quality"] = raw.scale.quality(table["score"])

    listed = table["image"].astype(str).str.replace("\\", "/", regex=False)
    located = Finder(root).all(listed)
    there = np.array([path is not None for path in located])
    table["id"] = listed.to_numpy(dtype=object)
    table["image"] = [str(path or root / name) for path, name in zip(located, listed, strict=True)]
    if not there.all():
        first = listed[~there].iloc[0]
        findings.append(
            Finding(
                f"{(~there).sum():,} of {len(table):,} images are missing or empty, the first is {first}", images=True
            )
        )
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()]
        findings.append(
            Finding(f"{len(twice):,} images are listed twice in {raw.scores_file}, the first is {twice.iloc[0]}")
        )
    if family.records is not None and len(table) != family.records:
        findings.append(Finding(f"{len(table):,} records, expected {family.records:,}", fatal=False))
    references = table["reference"][table["reference"] != ""].nunique()
    if family.references is not None and references != family.references:
        findings.append(Finding(f"{references} references, expected {family.references}", fatal=False))
    unit = family.unit
    if unit == "auto":
        unit = next((u for u in ("reference", "group") if (table[u] != "").any()), "image")
    columns = [*COLUMNS, *(column for column in table if column not in COLUMNS)]
    dataset = Dataset(family.name, root, table[columns], raw.scale, unit, family.title, raw.scores_file, raw.notes)
    return dataset, there, findings


def _score_findings(table: pd.DataFrame, raw: Raw) -> list[Finding]:
    if not len(table):
        return [Finding(f"{raw.scores_file} lists no images")]
    findings = []
    missing = table["score"].isna()
    if missing.any():
        name = table["image"][missing].iloc[0]
        findings.append(
            Finding(
                f"{missing.sum():,} of {len(table):,} scores in {raw.scores_file} are no numbers, "
                f"the first is that of {name}"
            )
        )
    outside = raw.scale.far_outside(table["score"]) & ~missing
    if outside.any():
        worst = table["score"][outside].iloc[0]
        findings.append(
            Finding(
                f"{outside.sum():,} of {len(table):,} scores in {raw.scores_file} lie outside "
                f"{raw.scale.low:g} to {raw.scale.high:g}, the first is {worst:g} of "
                f"{table['image'][outside].iloc[0]}"
            )
        )
    return findings


class Finder:
    """Finds listed files whatever the case of their names: lists and disks disagree (`.JPG` listed as `.jpg`)."""

    def __init__(self, root: Path):
        self.root = root
        self._folders: dict[str, dict[str, Path]] = {}

    def all(self, names: Iterable[str]) -> list[Path | None]:
        return [self.one(name) for name in names]

    def one(self, name: str) -> Path | None:
        folder, _, file = name.rpartition("/")
        if folder not in self._folders:
            where = self.root / folder
            entries = list(os.scandir(where)) if where.is_dir() else []
            exact = {entry.name: Path(entry.path) for entry in entries if entry.is_file() and entry.stat().st_size}
            self._folders[folder] = {**{known.lower(): path for known, path in exact.items()}, **exact}
        known = self._folders[folder]
        return known.get(file) or known.get(file.lower())


def without(root: Path, *folders: str) -> list[Finding]:
    """A finding for each folder of pictures that is not there."""
    return [Finding(f"no folder {name} in {root}", images=True) for name in folders if not (root / name).is_dir()]


def file(root: Path, *names: str) -> Path:
    """The first of these files that is there, in any case; DatasetError naming them where none is."""
    finder = Finder(root)
    for name in names:
        if (path := finder.one(name)) is not None:
            return path
    raise DatasetError(f"no file {' or '.join(names)} in {root}")


def csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file and hold it to its columns; empty trailing columns and blank rows are dropped."""
    try:
        table = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{path} is no CSV file that can be read ({error})") from error
    table.columns = [str(name).strip() for name in table.columns]
    table = table.loc[:, [not name.startswith("Unnamed") for name in table.columns]].dropna(how="all")
    return held_to(table, columns, path)


def held_to(table: pd.DataFrame, columns: Iterable[str], path: Path) -> pd.DataFrame:
    """The table, if it has these columns; DatasetError naming the missing and the present ones otherwise."""
    missing = [name for name in columns if name not in table]
    if missing:
        present = ", ".join(map(str, table.columns))
        raise DatasetError(f"{path.name} has no column {', '.join(missing)}; it has {present}")
    return table


def mat(path: Path, key: str) -> np.ndarray:
    """One variable of a MATLAB file, flattened; cells of text become strings."""
    from scipy.io import loadmat

    try:
        values = loadmat(path)
    except (ValueError, OSError, NotImplementedError, TypeError) as error:
        raise DatasetError(f"{path.name} is no MATLAB file that can be read ({error})") from error
    if key not in values:
        known = ", ".join(name for name in values if not name.startswith("__"))
        raise DatasetError(f"{path.name} has no variable {key}; it has {known}")
    flat = values[key].ravel()
    if flat.dtype == object:
        return np.array([str(np.ravel(cell)[0]) if np.size(cell) else "" for cell in flat], dtype=object)
    return flat.astype(np.float64)


def same_length(path: Path, **columns: np.ndarray) -> None:
    """DatasetError unless the named columns of a score file have one length."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"the score files in {path} disagree: " + ", ".join(f"{n} {k}" for k, n in lengths.items()))
