"""What a target looks like, synthetic or a data set: its records, picture sizes, examples and splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from gmiqa import recipes
from gmiqa.data import datasets, images, synthetic
from gmiqa.data.distortions import LEVELS, TYPES, calibration
from gmiqa_core.batch import to_float

COLUMNS = ["split", "train", "validation", "test", "mean quality of test", "crossing"]
SHOWN_SIZES = 500


@dataclass(frozen=True)
class SyntheticOverview:
    """Every type and level of the references to test on, with KADID-calibrated scores."""

    pristine: recipes.References
    table: pd.DataFrame
    seed: int
    title: str = "synthetic, pseudo-scores"
    unit: str = "contents"

    def sizes(self) -> list[Any]:
        """(width, height) of each reference."""
        return [synthetic.bring_to_size(reference.image).shape[:0:-1] for reference in self.pristine.test]

    def picture(self, record: Any) -> Tensor:
        reference = next(r for r in self.pristine.test if r.name == record.reference)
        return next(synthetic.test_batches([reference], [record.type_id], [record.level], seed=self.seed)).images[0]

    def splits(self) -> pd.DataFrame:
        names = [{r.name for r in part} for part in (self.pristine.train, self.pristine.validation, self.pristine.test)]
        return pd.DataFrame([("contents", *map(len, names), self.table["quality"].mean(), crossing(names))],
                            columns=COLUMNS)


@dataclass(frozen=True)
class DatasetOverview:
    """A data set as its authors ship it."""

    dataset: datasets.Dataset
    seed: int
    unit: str = "pictures"

    @property
    def table(self) -> pd.DataFrame:
        return self.dataset.table

    @property
    def title(self) -> str:
        return f"{self.dataset.title}, scores {self.dataset.scale}"

    def sizes(self) -> list[Any]:
        """(width, height) of at most SHOWN_SIZES pictures."""
        chosen = np.random.default_rng(self.seed).permutation(len(self.table))[:SHOWN_SIZES]
        return [images.size(path) for path in self.table["image"].iloc[chosen]]

    def picture(self, record: Any) -> Tensor:
        return to_float(images.read(record.image, max_side=400))

    def splits(self) -> pd.DataFrame:
        units, rows = pd.Series(self.dataset.units()), []
        stored: list[int | str] = list(datasets.STORED)
        for which in stored + (["official"] if (self.table["split"] != "").any() else []):
            s = datasets.split(self.dataset, which)
            sides = [set(units.iloc[part]) for part in (s.train, s.validation, s.test)]
            rows.append((s.name, len(s.train), len(s.validation), len(s.test),
                         self.table["quality"].iloc[s.test].mean(), crossing(sides)))
        return pd.DataFrame(rows, columns=COLUMNS)


def crossing(sides: list[set]) -> int:
    """How many contents are on two sides of a split."""
    return len(sides[0] & sides[1]) + len(sides[0] & sides[2]) + len(sides[1] & sides[2])


def overview(p: Any) -> SyntheticOverview | DatasetOverview:
    """The target that the settings of notebook 10 name."""
    if p.dataset != "synthetic":
        return DatasetOverview(datasets.from_parameters(p), p.seed)
    pristine = recipes.references(p)
    table = pd.DataFrame([(r.name, t.id, v) for r in pristine.test for t in TYPES for v in LEVELS],
                         columns=["reference", "type_id", "level"])
    cell = table["type_id"].to_numpy(), table["level"].to_numpy()
    return SyntheticOverview(pristine, table.assign(quality=calibration.quality(*cell),
                                                    spread=calibration.spread(*cell)), p.seed)
