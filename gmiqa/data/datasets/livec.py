"""LIVE In the Wild Challenge (Ghadiyaram & Bovik, IEEE TIP 2016): Images/ and three MATLAB files in Data/.

The lists have 1,169 entries; the first seven are the training pictures t1..t7 of the study and are dropped.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from gmiqa.data.datasets.files import file, mat, same_length, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale

SCALE = Scale(0, 100)


def read(root: Path) -> Raw:
    names, scores, spread = (
        mat(file(root, f"Data/{key}.mat"), key) for key in ("AllImages_release", "AllMOS_release", "AllStdDev_release")
    )
    same_length(root / "Data", AllImages_release=names, AllMOS_release=scores, AllStdDev_release=spread)
    training = np.array([re.fullmatch(r"(?i)t[1-7]\.bmp", str(name)) is not None for name in names])
    if training.sum() not in (0, 7) or not training[: training.sum()].all():
        raise DatasetError(
            f"AllImages_release.mat: {training.sum()} training pictures t1.bmp to t7.bmp, expected them "
            "as the first 7 entries"
        )
    table = pd.DataFrame({"image": [f"Images/{name}" for name in names], "score": scores, "spread": spread})
    notes = [f"{training.sum()} training pictures dropped"]
    return Raw(table[~training], SCALE, "Data/AllMOS_release.mat", notes, without(root, "Images"))


FAMILY = Family("livec", "LIVE In the Wild Challenge", read, "image", 1162, None,
                "https://live.ece.utexas.edu/research/ChallengeDB/")  # fmt: skip
