"""CSIQ (Larson & Chandler, JEI 2010): dst_imgs/{type}/{name}.{TYPE}.{level}.png, src_imgs/, csiq.DMOS.xlsx.

The sheet all_by_image has its header in row 4 and blank rows between; the image 1600 is a number cell. The common text
form, one line "name dmos", is read as well.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from gmiqa.data.datasets.files import file, held_to, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale

SCALE = Scale(0, 1, higher_is_better=False, slack=0.05)
# dst_type in the sheet -> folder, TYPE in file names, KADID's type where it is the same (0: none)
TYPES = {
    "noise": ("awgn", "AWGN", 11),
    "blur": ("blur", "BLUR", 1),
    "contrast": ("contrast", "contrast", 25),
    "fnoise": ("fnoise", "fnoise", 0),
    "jpeg": ("jpeg", "JPEG", 10),
    "jpeg 2000": ("jpeg2000", "jpeg2000", 9),
}
BY_FILE = {part.lower(): (folder_name, part, kind) for folder_name, part, kind in TYPES.values()}
WORKBOOKS, TEXTS = ("csiq.DMOS.xlsx",), ("csiq.txt", "csiq_label.txt", "csiq.DMOS.txt", "dmos.txt")


def read(root: Path, scores: str = "auto") -> Raw:
    """`scores`: name of the score file, .xlsx or text; auto takes the first known one."""
    path = file(root, *((*WORKBOOKS, *TEXTS) if scores == "auto" else (scores,)))
    table = _sheet(path) if path.suffix.lower() == ".xlsx" else _text(path)
    kinds = [BY_FILE[part.lower()] for part in table["part"]]
    table["type"] = [folder_name for folder_name, _, _ in kinds]
    table["type_id"] = [kind for _, _, kind in kinds]
    table["image"] = [
        f"dst_imgs/{folder_name}/{name}.{part}.{level}.png"
        for (folder_name, part, _), name, level in zip(kinds, table["reference"], table["level"], strict=True)
    ]
    return Raw(table.drop(columns="part"), SCALE, path.name, findings=without(root, "dst_imgs"))


def _sheet(path: Path) -> pd.DataFrame:
    columns = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    try:
        sheet = pd.read_excel(path, sheet_name="all_by_image", header=3, usecols="D:I")
    except Exception as error:  # zip, xml and key errors of a broken or foreign workbook
        raise DatasetError(f"{path.name}: no readable sheet all_by_image ({error})") from error
    sheet.columns = [str(name).strip() for name in sheet.columns]
    sheet = held_to(sheet, columns, path).dropna(subset=["image", "dst_type", "dst_lev"], how="any")
    kind = sheet["dst_type"].astype(str).str.strip().str.lower()
    if not kind.isin(TYPES).all():
        raise DatasetError(f"{path.name}: dst_type {kind[~kind.isin(TYPES)].iloc[0]!r}, expected {', '.join(TYPES)}")
    return pd.DataFrame({
        "reference": [_plain(cell) for cell in sheet["image"]], "part": [TYPES[k][1] for k in kind],
        "level": sheet["dst_lev"].astype(int), "score": sheet["dmos"], "spread": sheet["dmos_std"],
    }).reset_index(drop=True)  # fmt: skip


def _plain(cell: object) -> str:
    """A number cell 1600 (read as 1600.0 among blanks) is the image 1600."""
    return str(int(cell)) if isinstance(cell, (int, float)) else str(cell).strip()


def _text(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        words = re.split(r"[\s,;]+", line.strip())
        match = re.match(r"(?i)^(?:.*/)?(.+)\.(awgn|blur|contrast|fnoise|jpeg|jpeg2000)\.(\d)(?:\.png)?$", words[0])
        if match is None or len(words) < 2:
            raise DatasetError(f"{path.name}, line {number}: {line.strip()[:60]!r}, expected '1600.AWGN.1.png 0.062'")
        rows.append((match[1], BY_FILE[match[2].lower()][1], int(match[3]), words[1]))
    if not rows:
        raise DatasetError(f"{path.name} is empty, expected lines like '1600.AWGN.1.png 0.062'")
    return pd.DataFrame(rows, columns=["reference", "part", "level", "score"])


FAMILY = Family("csiq", "CSIQ", read, "reference", 866, 30, "https://s2.smu.edu/~eclarson/csiq.html")
