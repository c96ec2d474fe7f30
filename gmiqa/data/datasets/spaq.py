"""SPAQ (Fang et al., CVPR 2020): TestImage/00001.jpg.. and a workbook of scores and attributes in Annotations/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gmiqa.data.datasets.files import file, held_to, without
from gmiqa.data.datasets.records import DatasetError, Family, Raw, Scale

SCALE = Scale(0, 100)
ATTRIBUTES = ("Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness")


def read(root: Path) -> Raw:
    path = file(root, "Annotations/MOS and Image attribute scores.xlsx")
    try:
        sheet = pd.read_excel(path)
    except Exception as error:  # zip, xml and key errors of a broken or foreign workbook
        raise DatasetError(f"{path.name} is no workbook that can be read ({error})") from error
    sheet.columns = [str(name).strip() for name in sheet.columns]
    sheet = held_to(sheet, ("Image name", "MOS"), path).dropna(subset=["Image name"])
    attributes = {name.lower(): sheet[name] for name in ATTRIBUTES if name in sheet}
    image = "TestImage/" + sheet["Image name"].astype(str).str.strip()
    table = pd.DataFrame({"image": image, "score": sheet["MOS"], **attributes})
    return Raw(table, SCALE, path.name, findings=without(root, "TestImage"))


FAMILY = Family("spaq", "SPAQ", read, "image", 11125, None, "https://github.com/h4nwei/SPAQ")
