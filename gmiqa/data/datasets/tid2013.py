"""TID2013 (Ponomarenko et al., SPIC 2015): distorted_images/, mos_with_names.txt with lines "5.51429 I01_01_1.bmp"."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from gmiqa.data.datasets.files import file, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale

SCALE = Scale(0, 9)
NAMES = (
    "additive Gaussian noise", "noise in colour components", "spatially correlated noise", "masked noise",
    "high frequency noise", "impulse noise", "quantisation noise", "Gaussian blur", "denoising", "JPEG", "JPEG2000",
    "JPEG transmission errors", "JPEG2000 transmission errors", "non-eccentricity pattern noise",
    "block-wise distortions", "mean shift", "contrast change", "saturation change", "multiplicative Gaussian noise",
    "comfort noise",
    "lossy compression of noisy images", "colour quantisation with dither", "chromatic aberrations", "sparse sampling",
)  # fmt: skip
# TID's type -> KADID's where it is the same distortion
KADID = {1: 11, 2: 12, 6: 13, 8: 1, 10: 10, 11: 9, 16: 18, 17: 25, 19: 14, 22: 6}


def read(root: Path) -> Raw:
    path = file(root, "mos_with_names.txt")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        words = line.split()
        match = re.fullmatch(r"(?i)(I\d+)_(\d+)_(\d)\.bmp", words[-1])
        if match is None or len(words) != 2 or not 1 <= int(match[2]) <= 24:
            raise DatasetError(f"{path.name}, line {number}: {line.strip()[:60]!r}, expected '5.51429 I01_01_1.bmp'")
        kind = int(match[2])
        image, reference, level = f"distorted_images/{words[1]}", match[1].upper(), int(match[3])
        rows.append((image, reference, NAMES[kind - 1], KADID.get(kind, 0), level, words[0]))
    table = pd.DataFrame(rows, columns=["image", "reference", "type", "type_id", "level", "score"])
    return Raw(table, SCALE, path.name, findings=without(root, "distorted_images"))


FAMILY = Family("tid2013", "TID2013", read, "reference", 3000, 25, "https://www.ponomarenko.info/tid2013.htm")
