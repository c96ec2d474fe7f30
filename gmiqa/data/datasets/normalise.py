"""Turn what a family's reader returns into the common table of records, and list everything that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from gmiqa.data.datasets.files import Finder
from gmiqa.data.datasets.records import COLUMNS, Dataset, Family, Finding, Raw


def finished(family: Family, root: Path, raw: Raw) -> tuple[Dataset, np.ndarray, list[Finding]]:
    """Fill in the common columns and look for faults -> data set, records whose image exists, findings."""
    table = raw.table.reset_index(drop=True).copy()
    findings = list(raw.findings)
    for column, default in {"reference": "", "group": "", "subset": "", "type": "", "split": ""}.items():
        values = table[column] if column in table else pd.Series(default, index=table.index)
        table[column] = values.fillna("").astype(str).astype(object)
    for column in ("type_id", "level"):
        values = table[column] if column in table else pd.Series(0, index=table.index)
        table[column] = values.replace([np.inf, -np.inf], np.nan).fillna(0).astype(int)
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
    again = table["image"].map(os.path.normpath).duplicated()  # ./a.png is a.png, and A.png where only a.png is there
    if again.any():
        twice = table["id"][again]
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
                f"{missing.sum():,} of {len(table):,} scores in {raw.scores_file} are not numbers, "
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
