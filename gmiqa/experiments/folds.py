"""Out-of-fold predictions: what base models say of pictures that they were not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gmiqa.data.pictures import Pictures
from gmiqa_core.errors import UserError

FAILURES = (ValueError, RuntimeError, OSError)  # of one base model, UserError and out of memory included
Fitted = Callable[[Pictures], np.ndarray]


@dataclass(frozen=True)
class Member:
    """One base model. fit(pictures, tag) trains on scored pictures and returns a function pictures -> (n,) qualities;
    `tag` names the fit ("fold 0"), so that a member can keep its files apart and continue them."""

    name: str
    fit: Callable[[Pictures, str], Fitted]


@dataclass
class OutOfFold:
    """What the members say of the training pictures (rows x members), and the models behind it.

    table       predictions of each picture by the model that did not see it
    in_sample   predictions of each picture by the models that were trained on it, which nobody should stack
    failed      name -> reason, for members that are left out
    """

    table: pd.DataFrame
    in_sample: pd.DataFrame
    failed: dict[str, str]
    fitted: dict[str, list[Fitted]]

    def predict(self, pictures: Pictures) -> pd.DataFrame:
        """Other pictures (rows x members): the mean over the folds' models of each member."""
        return pd.DataFrame({name: np.mean([model(pictures) for model in models], axis=0)
                             for name, models in self.fitted.items()})


def fold_rows(n: int, folds: int, groups: Sequence | np.ndarray | None = None, seed: int = 0) -> list[np.ndarray]:
    """`folds` disjoint parts of 0..n-1 that divide no group, about equal in size."""
    labels = np.arange(n) if groups is None else pd.factorize(np.asarray(groups))[0]
    if labels.max(initial=-1) + 1 < folds:
        raise UserError(f"{folds} folds need at least {folds} groups; there are {labels.max(initial=-1) + 1}.")
    order = np.random.default_rng(seed).permutation(labels.max() + 1)
    size = np.bincount(labels)
    place, load = np.zeros(len(order), int), np.zeros(folds)
    for label in order:
        place[label] = load.argmin()
        load[place[label]] += size[label]
    return [np.flatnonzero(place[labels] == k) for k in range(folds)]


def out_of_fold(members: Sequence[Member], pictures: Pictures, folds: int = 3,
                groups: Sequence | np.ndarray | None = None, seed: int = 0) -> OutOfFold:
    """Fit every member once per fold, on the other folds; no fold divides one of `groups` (n labels).

    A member that fails, or whose predictions are not numbers, is named in `failed`; the others' work is kept.
    """
    n, parts = len(pictures), fold_rows(len(pictures), folds, groups, seed)
    table, in_sample = {}, {}
    failed: dict[str, str] = {}
    fitted: dict[str, list[Fitted]] = {}
    for member in members:
        unseen, seen, models = np.zeros(n), np.zeros(n), []
        try:
            for k, part in enumerate(parts):
                rest = np.setdiff1d(np.arange(n), part)
                model = member.fit(pictures[rest], f"fold {k}")
                unseen[part] = model(pictures[part])
                seen[rest] += model(pictures[rest]) / (folds - 1)
                models.append(model)
            if not np.isfinite(unseen).all():
                raise UserError(f"{(~np.isfinite(unseen)).sum()} of {n} predictions are not numbers")
        except FAILURES as error:
            failed[member.name] = str(error) or type(error).__name__
            continue
        table[member.name], in_sample[member.name], fitted[member.name] = unseen, seen, models
    if not table:
        raise UserError("no base model could be fitted: " + "; ".join(f"{k}: {v}" for k, v in failed.items()))
    return OutOfFold(pd.DataFrame(table), pd.DataFrame(in_sample), failed, fitted)
