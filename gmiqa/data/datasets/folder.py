"""Any folder of pictures with a CSV file of scores. The caller names the columns and states range and direction."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from gmiqa.data.datasets.files import csv as read_csv
from gmiqa.data.datasets.records import SPLITS, DatasetError, Family, Raw, Scale

OPTIONAL = ("reference", "group", "subset", "type", "level", "split", "spread")
SYNONYMS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


@dataclass(frozen=True)
class Layout:
    """How a CSV file is to be read.

    csv                          the file, in the folder or anywhere; "": the only one in the folder
    image .. spread              its columns; "": the plain name if it is there
    low, high, higher_is_better  the scale of the scores
    train, validation, test      values in the split column
    """

    csv: str = ""
    image: str = "image"
    score: str = "score"
    low: float | None = None
    high: float | None = None
    higher_is_better: bool = True
    reference: str = ""
    group: str = ""
    subset: str = ""
    type: str = ""
    level: str = ""
    split: str = ""
    spread: str = ""
    train: str = "train"
    validation: str = "validation"
    test: str = "test"

    @property
    def scale(self) -> Scale:
        if self.low is None or self.high is None or not self.low < self.high:
            raise DatasetError("a folder data set needs the range of its scores, low < high; "
                               f"given {self.low} and {self.high}")
        return Scale(float(self.low), float(self.high), self.higher_is_better)


def read(root: Path, **options: Any) -> Raw:
    """The records of a folder under a Layout."""
    layout = Layout(**options)
    scale, path = layout.scale, _score_file(root, layout.csv)
    table = read_csv(path, (layout.image, layout.score))
    named = {role: getattr(layout, role) for role in OPTIONAL if getattr(layout, role)}
    missing = [column for column in named.values() if column not in table]
    if missing:
        raise DatasetError(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    taken = (layout.image, layout.score)
    plain = {role: role for role in OPTIONAL if role not in named and role in table and role not in taken}
    table = table.dropna(subset=[layout.image])
    result = pd.DataFrame({"image": table[layout.image].astype(str).str.strip(), "score": table[layout.score]})
    for role, column in {**plain, **named}.items():
        result[role] = table[column]
    if "level" in result:
        result["level"] = pd.to_numeric(result["level"], errors="coerce")
    if "split" in result:
        result["split"] = _splits(result["split"], layout, path)
    return Raw(result, scale, path.name)


def _splits(values: pd.Series, layout: Layout, path: Path) -> list[str]:
    """The values of a split column in our words; "" for a value that means nothing."""
    words = {**{part: part for part in SPLITS}, **SYNONYMS,
             layout.train: "train", layout.validation: "validation", layout.test: "test"}
    parts = values.astype(str).str.strip()
    translated = [words.get(part, words.get(part.lower().removeprefix("dev_"), "")) for part in parts]
    if layout.split and not any(translated):
        raise DatasetError(f"{path.name}: column {layout.split} holds {', '.join(sorted(set(parts))[:5])}, "
                           f"expected {layout.train}, {layout.validation} or {layout.test}")
    return translated


def _score_file(root: Path, csv: str) -> Path:
    if csv:
        for path in (root / csv, Path(csv)):
            if path.is_file():
                return path
        raise DatasetError(f"no file {csv} in {root}")
    files = sorted(root.glob("*.csv"))
    if len(files) != 1:
        raise DatasetError(f"{len(files)} CSV files in {root}: name the one with the scores (csv=...)")
    return files[0]


FAMILY = Family("folder", "folder and CSV", read, "auto", options=tuple(f.name for f in fields(Layout)))
