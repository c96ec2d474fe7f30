"""Which pictures are for training and which for testing, and the tidy tables that predictions become.

    splits              ten stored 80/20 splits (by reference, else scene group, else picture): mean, median, spread
    official            the authors' own split
    cross               trained on one data set, tested on the whole of another
    leave_subset_out    each subset is tested by a model that saw none of it

Scores per distortion type need no protocol: `scores(predictions, by=["type"])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.evaluate.agreement import METRICS
from gmiqa.evaluate.comparison import Comparison, compare
from gmiqa.evaluate.components import over_splits
from gmiqa.evaluate.intervals import metrics
from gmiqa_core.errors import UserError

PROTOCOLS = ("splits", "official", "cross", "leave_subset_out")
KEYS = ("id", "image", "reference", "group", "subset", "type", "level")


@dataclass(frozen=True)
class Fold:
    """Row numbers of `source.table` to train and validate on, and of `target.table` to test on."""

    name: str
    source: Any
    train: np.ndarray
    validation: np.ndarray
    target: Any
    test: np.ndarray


def folds(
    dataset: Any, protocol: str = "splits", splits: int = 10, other: Any = None, validation: float = 0.1,
    tuned_on: int | str = "",
) -> list[Fold]:  # fmt: skip
    """The folds of a protocol on a data set (and, for "cross", the other one).

    tuned_on: the stored split, 0 to 9 or official, that a fine-tuned network was tested on. It joins the splits, as
    methods compare on common test pictures only.
    """
    from gmiqa.data import datasets

    def stored(which: int | str, name: str) -> Fold:
        part = datasets.split(dataset, which, validation=validation)
        return Fold(name, dataset, part.train, part.validation, dataset, part.test)

    if protocol in ("splits", "official"):
        which: list[int | str] = [*range(splits)] if protocol == "splits" else ["official"]
        extra = int(tuned_on) if str(tuned_on).isdigit() else tuned_on
        return [stored(k, fold_name(k)) for k in dict.fromkeys([*which, *([extra] if extra != "" else [])])]
    if protocol == "cross":
        if other is None:
            raise UserError("cross: a second data set is needed to test on. Pass other=load(name, path).")
        part = datasets.split(dataset, 0, validation=validation)
        train = np.sort(np.concatenate([part.train, part.test]))
        everything = np.arange(len(other.table))
        return [Fold(f"{dataset.name} to {other.name}", dataset, train, part.validation, other, everything)]
    if protocol == "leave_subset_out":
        return list(_subsets(dataset, validation))
    raise UserError(f"protocol {protocol!r} is not known. Choose one of: {', '.join(PROTOCOLS)}.")


def fold_name(split: int | str) -> str:
    """What the fold of a stored split is called: official, split 0 ..."""
    return "official" if split == "official" else f"split {split}"


def _subsets(dataset: Any, validation: float) -> Iterator[Fold]:
    from gmiqa.data import datasets

    subset = dataset.table["subset"].astype(str).to_numpy()
    names = np.unique(subset)
    if len(names) < 2:
        raise UserError(f"{dataset.name} has {len(names)} subset: leave_subset_out needs at least two.")
    part = datasets.split(dataset, 0, validation=validation)
    rest, held = np.sort(np.concatenate([part.train, part.test])), part.validation
    for name in names:
        yield Fold(f"without {name}", dataset, rest[subset[rest] != name], held[subset[held] != name], dataset,
                   np.flatnonzero(subset == name))  # fmt: skip


def run(make: Callable[[], Any], folds: Iterable[Fold], method: str) -> pd.DataFrame:
    """Fit a fresh method on every fold -> predictions, one row per test picture.

    `make()` returns an object with fit(paths, quality) and predict(paths). Columns: method, fold, the record's keys,
    target, prediction (both quality in [0, 1], higher is better).
    """
    parts = []
    for fold in folds:
        seen, unseen = fold.source.table.iloc[fold.train], fold.target.table.iloc[fold.test]
        fitted = make()
        fitted.fit(seen["image"].tolist(), seen["quality"].to_numpy())
        keys = unseen[[k for k in KEYS if k in unseen]].reset_index(drop=True)
        parts.append(keys.assign(method=method, fold=fold.name, target=unseen["quality"].to_numpy(),
                                 prediction=np.asarray(fitted.predict(unseen["image"].tolist()))))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def units(frame: pd.DataFrame) -> np.ndarray | None:
    """The labels to resample by: reference, else group, else none (single pictures). A picture without a label stands
    for itself."""
    column = _unit_column(frame)
    if not column:
        return None
    labels, names = frame[column].fillna("").astype(str), frame["id"] if "id" in frame else frame.index.to_series()
    return labels.where(labels.ne(""), "alone: " + names.astype(str)).to_numpy()


def independent(frame: pd.DataFrame) -> np.ndarray:
    """What pictures that are not independent share: their reference or scene, else each is on its own."""
    labels = units(frame)
    return frame["id"].astype(str).to_numpy() if labels is None else labels


def _unit_column(frame: pd.DataFrame) -> str:
    some = (c for c in ("reference", "group") if c in frame and frame[c].fillna("").astype(str).ne("").any())
    return next(some, "")


def scores(
    predictions: pd.DataFrame, by: Iterable = (), names: Iterable = METRICS, bootstrap: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Metrics with intervals for every method and fold (and type, subset ... in `by`), one row each.

    Columns: method, fold, *by, metric, value, low, high, n, units, note. Whole references or groups are resampled.
    """
    keys = ["method", *(["fold"] if "fold" in predictions else []), *by]
    rows = []
    for values, part in predictions.groupby(keys, sort=False, observed=True):
        table = metrics(part["prediction"], part["target"], units(part), bootstrap, seed, names).reset_index()
        rows.append(table.assign(**dict(zip(keys, values, strict=True))))
    result = pd.concat(rows, ignore_index=True)
    return result[[*keys, *[c for c in result if c not in keys]]]


def summary(scored: pd.DataFrame) -> pd.DataFrame:
    """Over folds: mean, median, spread (standard deviation), least, most and their number, per method and metric.

    Splits of one data set share pictures, so their spread is no standard error of the mean.
    """
    keys = [c for c in scored if c not in ("fold", "value", "low", "high", "n", "units", "note")]
    grouped = scored.groupby(keys, sort=False, observed=True)
    table = grouped["value"].agg(mean="mean", median="median", spread="std", least="min", most="max", folds="count")
    return table.assign(n=grouped["n"].median()).reset_index()


def compared(
    predictions: pd.DataFrame, a: str, b: str, key: str = "id", metric: str = "srocc", bootstrap: int = 1000,
    seed: int = 0, margin: float | None = None,
) -> Comparison:  # fmt: skip
    """Method a against b on the folds and pictures (`key`) that both tested: the mean difference over those folds.

    Folds share pictures: three or more have the corrected interval of `over_splits`; n counts the things of one fold.
    """
    pairs = predictions[predictions["method"] == a].merge(
        predictions[predictions["method"] == b], on=["fold", key], suffixes=("", "_b"))  # fmt: skip
    if pairs.empty:
        nan = float("nan")
        return Comparison(metric, nan, nan, nan, "undecided", 0, note=f"{a} and {b} have no test picture in common")
    each, word = [], ""
    for _, part in pairs.groupby("fold", sort=False):
        word = f"{_unit_column(part) or 'picture'}s"
        each.append(compare(part["prediction"], part["prediction_b"], part["target"], metric, units(part), bootstrap,
                            seed, margin=margin, over=word))  # fmt: skip
    if len(each) == 1:
        return each[0]
    errors = np.array([c.error for c in each])
    mean = over_splits(np.array([c.delta for c in each]), errors, each[0].df)
    note = "; ".join(dict.fromkeys(c.note for c in each if c.note))
    over = f"{word} in each of {len(each)} splits"
    return Comparison.of(mean, metric, int(np.median([c.n for c in each])), over, note=note, margin=margin,
                         runs=len(each))
