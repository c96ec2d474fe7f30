"""KonIQ-10k (Hosu et al., IEEE TIP 2020): 1024x768/ or 512x384/ and one of two score files, on two scales.

`koniq10k_scores_and_distributions.csv` has MOS on 1..5 (and MOS_zscore on 0..100);
`koniq10k_distributions_sets.csv` has MOS on 0..100 and the official sets. The columns say which one it is, the values
must agree. SD is in units of the five grades in both; here it is in units of the score.
"""

from __future__ import annotations

from pathlib import Path

from gmiqa.data.datasets.files import csv, file
from gmiqa.data.datasets.records import DatasetError, Family, Finding, Raw, Scale

SETS, SCORES = "koniq10k_distributions_sets.csv", "koniq10k_scores_and_distributions.csv"
GRADES, PERCENT = Scale(1, 5), Scale(0, 100)
PARTS = {"training": "train", "validation": "validation", "test": "test"}


def read(root: Path, size: str = "auto", score: str = "MOS", scores: str = "auto") -> Raw:
    """`size`: 1024x768, 512x384 or auto (the one that is there); `score`: MOS or MOS_zscore; `scores`: a file."""
    path = file(root, *((SETS, SCORES) if scores == "auto" else (scores,)))
    table = csv(path, ("image_name", "MOS", "SD"))
    has_sets = "set" in table
    if score not in ("MOS", "MOS_zscore") or score not in table:
        raise DatasetError(f"{path.name} has no score {score!r}; choose MOS, or MOS_zscore with {SCORES}")
    scale = PERCENT if has_sets or score == "MOS_zscore" else GRADES
    if scale is PERCENT and len(table) and table[score].max() <= 5:
        raise DatasetError(f"{path.name}: {score} reaches only {table[score].max():g}, expected a 0 to 100 scale")
    folders = ("1024x768", "512x384") if size == "auto" else (size,)
    where = next((name for name in folders if (root / name).is_dir()), None)
    findings = [] if where else [Finding(f"no folder {' or '.join(folders)} in {root}", images=True)]
    result = table.assign(
        image=(where or folders[0]) + "/" + table["image_name"].astype(str).str.strip(),
        score=table[score],
        spread=table["SD"] * (25 if scale is PERCENT else 1),
    )
    if has_sets:
        result["split"] = table["set"].astype(str).str.strip().str.lower().map(PARTS)
        if result["split"].isna().any():
            odd = table["set"][result["split"].isna()].iloc[0]
            raise DatasetError(f"{path.name}: set {odd!r}, expected {', '.join(PARTS)}")
    notes = [] if has_sets else [f"{path.name} has no official sets; {SETS} has"]
    keep = ["image", "score", "spread", *(["split"] if has_sets else [])]
    return Raw(result[keep], scale, path.name, notes, findings)


FAMILY = Family(
    "koniq10k", "KonIQ-10k", read, "image", 10073, None, "https://database.mmsp-kn.de/koniq-10k-database.html"
)
