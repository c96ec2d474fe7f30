"""Ten stored splits and the authors' own.

A stored split is a fixed function of the records' stable names: units (references, else scene groups, else images) are
put in the order of a hash of (split number, name), and the last fifth is the test part. So it needs no file, is the
same on every machine and version, and stays almost the same when a record is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from gmiqa.data.datasets.records import Dataset, DatasetError

STORED = tuple(range(10))


@dataclass(frozen=True)
class Split:
    """Row numbers of a data set's table; the three parts share no unit."""

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(dataset: Dataset, which: int | str = 0, validation: float = 0.1) -> Split:
    """Stored split 0..9 (80 % train, 20 % test, by unit) or "official".

    `validation` is the share of the training units that is held out, cut in the same way; 0 leaves it empty. An
    official validation part is taken as it is.
    """
    if not 0 <= validation < 1:
        raise DatasetError(f"validation = {validation}: expected a part of the training side, 0 to below 1")
    units = dataset.units()
    name = str(which).strip().lower()
    if name == "official":
        parts = dataset.table["split"].to_numpy(dtype=object)
        train, held, test = (np.flatnonzero(parts == part) for part in ("train", "validation", "test"))
        if len(held) and not len(test):
            held, test = test, held
        if not len(train) or not len(test):
            raise DatasetError(f"{dataset.name} has no official split; choose a stored one, 0 to 9")
        if not len(held):
            train, held = _cut(train, units, f"{dataset.name} official validation", validation)
        result = Split("official", train, held, test)
        _refuse_crossing(dataset, units, result)
        return result
    if not name.isdigit() or int(name) not in STORED:
        raise DatasetError(f"split {which!r}: expected 0 to 9 or official")
    everything = np.arange(len(dataset))
    if len(set(units)) < 2:
        raise DatasetError(f"{dataset.name} has {len(set(units))} {dataset.unit}: a split needs at least two")
    rest, test = _cut(everything, units, f"{dataset.name} {int(name)}", 0.2)
    train, held = _cut(rest, units, f"{dataset.name} {int(name)} validation", validation)
    return Split(name, train, held, test)


def _cut(rows: np.ndarray, units: np.ndarray, salt: str, part: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows -> (rest, part of them), by unit; at least one unit on both sides unless part is 0."""
    if part == 0:
        return rows, rows[:0]
    names = sorted({str(unit) for unit in units[rows]}, key=lambda unit: sha256(f"{salt}|{unit}".encode()).digest())
    rest = min(max(round((1 - part) * len(names)), 1), max(len(names) - 1, 1))
    cut = np.isin(units[rows].astype(str), names[rest:])
    return rows[~cut], rows[cut]


def _refuse_crossing(dataset: Dataset, units: np.ndarray, parts: Split) -> None:
    both = set(units[parts.train]) & set(units[parts.test])
    if both:
        first = min(map(str, both))
        raise DatasetError(
            f"{dataset.name}: {len(both)} {dataset.unit}s are in both the training and the test part of "
            f"the official split, {first} for example"
        )
