"""Which pictures train and which test, and what becomes of the predictions: protocols as data, results as tidy tables.

    splits              ten stored 80/20 splits (by reference, else scene group, else picture): mean, median, spread
    official            the authors' own split
    cross               trained on one data set, tested on the whole of another
    leave_subset_out    each subset is tested by a model that saw none of it

Per distortion type is no protocol of its own: `scores(predictions, by=["type"])`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.evaluate.agreement import METRICS
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
    dataset: Any, protocol: str = "splits", splits: int = 10, other: Any = None, validation: float = 0.1
) -> list[Fold]:
    """The folds of a protocol on a data set (and, for "cross", the other one)."""
    from gmiqa.data import datasets

    def stored(which: int | str, name: str) -> Fold:
        part = datasets.split(dataset, which, validation=validation)
        return Fold(name, dataset, part.train, part.validation, dataset, part.test)

    if protocol == "splits":
        return [stored(k, f"split {k}") for k in range(splits)]
    if protocol == "official":
        return [stored("official", "official")]
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
    """The labels to resample by: reference, else group, else none (single pictures)."""
    for column in ("reference", "group"):
        if column in frame and frame[column].notna().all() and frame[column].astype(str).ne("").all():
            return frame[column].to_numpy()
    return None


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


def headline(history: pd.DataFrame, metric: str = "srocc", rule: str = "last") -> pd.DataFrame:
    """The number to report from a training history with columns epoch, test_<metric> and maybe validation_<metric>.

    rule "last" or "validation" is the headline; "best test epoch", which peeks at the test pictures, stands beside it
    by that name and is never the headline.
    """
    test, validation = f"test_{metric}", f"validation_{metric}"
    for column in ["epoch", test, *([validation] if rule == "validation" else [])]:
        if column not in history:
            raise UserError(f"The history has no column {column}, which the rule {rule!r} needs.")
    if rule not in ("last", "validation"):
        raise UserError(f"rule {rule!r} is not known. Choose last or validation.")
    sign = 1 if METRICS[metric].higher_is_better else -1
    filled = history.dropna(subset=[test])
    rows = {"last epoch": filled["epoch"].idxmax(), "best test epoch": (sign * filled[test]).idxmax()}
    if validation in filled:
        rows["validation-selected"] = (sign * filled[validation]).idxmax()
    chosen = {"last": "last epoch", "validation": "validation-selected"}[rule]
    table = pd.DataFrame([{"rule": name, "epoch": int(filled["epoch"][i]), metric: float(filled[test][i]),
                           "headline": name == chosen} for name, i in rows.items()])  # fmt: skip
    return table.sort_values("headline", ascending=False, kind="stable", ignore_index=True)
