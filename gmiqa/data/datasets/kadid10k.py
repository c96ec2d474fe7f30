"""KADID-10k (Lin, Hosu & Saupe, QoMEX 2019): images/I{ref}_{type}_{level}.png and dmos.csv, in one folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gmiqa.data.datasets.files import csv, file, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale
from gmiqa.data.distortions import TYPES

SCALE = Scale(1, 5)  # called dmos, yet 5 is best
NAME = r"(?i)^(I\d+)_(\d+)_(\d+)\.png$"


def read(root: Path) -> Raw:
    path = file(root, "dmos.csv")
    table = csv(path, ("dist_img", "ref_img", "dmos", "var"))
    parts = table["dist_img"].astype(str).str.strip().str.extract(NAME)
    if parts.isna().any(axis=None):
        odd = table["dist_img"][parts.isna().any(axis=1)].iloc[0]
        raise DatasetError(f"{path.name}: image name {odd!r}, expected I01_01_01.png (reference, type, level)")
    kind = parts[1].astype(int)
    if not kind.between(1, 25).all():
        raise DatasetError(f"{path.name}: type {kind[~kind.between(1, 25)].iloc[0]}, expected 1 to 25")
    result = table.assign(
        image="images/" + table["dist_img"].str.strip(),
        reference=table["ref_img"].str.strip().str.replace(r"\.\w+$", "", regex=True),
        type=[TYPES[k - 1].name for k in kind],
        type_id=kind,
        level=parts[2].astype(int),
        score=table["dmos"],
        spread=np.sqrt(table["var"].astype(float)),
    ).drop(columns=["dist_img", "ref_img", "dmos", "var"])
    return Raw(result, SCALE, path.name, findings=without(root, "images"))


FAMILY = Family(
    "kadid10k", "KADID-10k", read, "reference", 10125, 81, "https://database.mmsp-kn.de/kadid-10k-database.html"
)
