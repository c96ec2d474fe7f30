"""BIQ2021 (Ahmed & Asif, JEI 2022): Images/ss01 (1).jpg.. and a CSV file each for training and test.

Training and test scores were probably scaled to 0..1 separately, so trust ranks across them more than differences.
The authors' files say nothing about scenes, though subset ss01 shows the same scene several times: random splits are
optimistic there.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gmiqa.data.datasets.files import csv, file, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale

SCALE = Scale(0, 1)
FILES = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}
REPOSITORY = "https://github.com/nisarahmedrana/BIQ2021.git"
COUNTS = {"train": 10000, "test": 2000}


def read(root: Path) -> Raw:
    parts = []
    for split, name in FILES.items():
        table = csv(file(root, name), ("Image Name", "MOS")).dropna(subset=["Image Name"])
        names = table["Image Name"].astype(str).str.strip()
        parts.append(pd.DataFrame({"image": "Images/" + names, "subset": names.str.extract(r"^(ss\d+)", expand=False),
                                   "score": table["MOS"], "split": split}))  # fmt: skip
    result = pd.concat(parts, ignore_index=True)
    if result["subset"].isna().any():
        odd = result["image"][result["subset"].isna()].iloc[0]
        raise DatasetError(f"image name {odd!r}, expected a subset first: 'ss01 (1).jpg'")
    return Raw(result, SCALE, " and ".join(FILES.values()), findings=without(root, "Images"))


FAMILY = Family("biq2021", "BIQ2021", read, "image", 12000, None, "https://github.com/nisarahmedrana/BIQ2021")
