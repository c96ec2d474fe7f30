"""Any folder of pictures with a CSV file of scores; columns named by the caller, range and direction stated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gmiqa.data.datasets.files import csv as read_csv
from gmiqa.data.datasets.records import SPLITS, DatasetError, Family, Raw, Scale

OPTIONAL = ("reference", "group", "subset", "type", "level", "split", "spread")
SYNONYMS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


def read(
    root: Path,
    csv: str = "",
    image: str = "image",
    score: str = "score",
    low: float | None = None,
    high: float | None = None,
    higher_is_better: bool = True,
    reference: str = "",
    group: str = "",
    subset: str = "",
    type: str = "",
    level: str = "",
    split: str = "",
    spread: str = "",
    train: str = "train",
    validation: str = "validation",
    test: str = "test",
) -> Raw:
    """`csv` is the file (in the folder, or anywhere), `image` .. `spread` are its columns ("" : the plain name if it is
    there); `low`, `high` and `higher_is_better` state the scale; `train`, `validation`, `test` are the values in the
    split column."""
    if low is None or high is None or not low < high:
        raise DatasetError(f"a folder data set needs the range of its scores, low < high; given {low} and {high}")
    path = _score_file(root, csv)
    table = read_csv(path, (image, score))
    chosen = {"reference": reference, "group": group, "subset": subset, "type": type, "level": level, "split": split,
              "spread": spread}  # fmt: skip
    named = {role: column for role, column in chosen.items() if column}
    missing = [column for column in named.values() if column not in table]
    if missing:
        raise DatasetError(f"{path.name} has no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    plain = {role: role for role in OPTIONAL if role not in named and role in table and role not in (image, score)}
    table = table.dropna(subset=[image])
    result = pd.DataFrame({"image": table[image].astype(str).str.strip(), "score": table[score]})
    for role, column in {**plain, **named}.items():
        result[role] = table[column]
    if "level" in result:
        result["level"] = pd.to_numeric(result["level"], errors="coerce")
    if "split" in result:
        words = {train: "train", validation: "validation", test: "test"}
        parts = result["split"].astype(str).str.strip()
        words = {**{part: part for part in SPLITS}, **SYNONYMS, **words}
        result["split"] = [words.get(part, words.get(part.lower().removeprefix("dev_"), "")) for part in parts]
        if "split" in named and not (result["split"] != "").any():
            raise DatasetError(
                f"{path.name}: column {named['split']} holds {', '.join(sorted(set(parts))[:5])}, "
                f"expected {train}, {validation} or {test}"
            )
    return Raw(result, Scale(float(low), float(high), higher_is_better), path.name)


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


FAMILY = Family("folder", "folder and CSV", read, "auto")
