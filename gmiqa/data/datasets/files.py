"""Finding and reading the files of a data set. Errors name what is missing and what was expected."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from gmiqa.data.datasets.records import DatasetError, Finding


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
    """The first of these files that exists, whatever the case of its name; a DatasetError names them if none does."""
    finder = Finder(root)
    for name in names:
        if (path := finder.one(name)) is not None:
            return path
    raise DatasetError(f"no file {' or '.join(names)} in {root}")


def csv(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file and check its columns; empty trailing columns and blank rows are dropped."""
    try:
        table = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{path} is no CSV file that can be read ({error})") from error
    table.columns = [str(name).strip() for name in table.columns]
    table = table.loc[:, [not name.startswith("Unnamed") for name in table.columns]].dropna(how="all")
    return held_to(table, columns, path)


def held_to(table: pd.DataFrame, columns: Iterable[str], path: Path) -> pd.DataFrame:
    """The table, if it has these columns, each once; DatasetError naming the missing and the present ones otherwise."""
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DatasetError(f"{path.name} has more than one column {twice[0]}: rename or delete all but one")
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
