"""LIVE release 2 (Sheikh, Sabir & Bovik, IEEE TIP 2006): five folders of bmp files and MATLAB score files.

The scores follow the order of the folders; `orgs` marks 203 undistorted copies, which are dropped. The realigned scores
(dmos_realigned.mat) are used where they are there; they run a little beyond 0..100.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gmiqa.data.datasets.files import Finder, file, mat, same_length, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale

SCALE = Scale(0, 100, higher_is_better=False, slack=0.2)
COUNTS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
KADID = {"jp2k": 9, "jpeg": 10, "wn": 11, "gblur": 1, "fastfading": 0}


def read(root: Path, realigned: bool = True) -> Raw:
    references = mat(file(root, "refnames_all.mat"), "refnames_all")
    aligned = Finder(root).one("dmos_realigned.mat") if realigned else None
    if aligned is not None:
        path, scores, spread = aligned, mat(aligned, "dmos_new"), mat(aligned, "dmos_std")
    else:
        path = file(root, "dmos.mat")
        scores = mat(path, "dmos")
        spread = np.full(len(scores), np.nan)
    copies = mat(path, "orgs") > 0.5
    same_length(root, refnames_all=references, dmos=scores, dmos_std=spread, orgs=copies)
    expected = sum(COUNTS.values())
    if len(scores) != expected:
        order = ", ".join(COUNTS)
        raise DatasetError(f"{path.name} has {len(scores)} scores, expected {expected} in the order of {order}")
    places = [(name, number) for name, count in COUNTS.items() for number in range(1, count + 1)]
    table = pd.DataFrame({
        "image": [f"{name}/img{number}.bmp" for name, number in places],
        "reference": [str(name).rsplit(".", 1)[0] for name in references], "type": [name for name, _ in places],
        "type_id": [KADID[name] for name, _ in places], "score": scores, "spread": spread,
    })  # fmt: skip
    notes = [f"{copies.sum()} undistorted copies dropped"]
    if aligned is None:
        notes.append("dmos.mat: the scores before realignment")
    return Raw(table[~copies], SCALE, path.name, notes, without(root, *COUNTS))


FAMILY = Family("live", "LIVE release 2", read, "reference", 779, 29, "https://live.ece.utexas.edu/research/quality/")
