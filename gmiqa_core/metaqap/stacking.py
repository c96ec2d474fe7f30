"""Stacking: a linear meta-learner over what base networks say of pictures that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin

from gmiqa_core.settings import UserError


def least_squares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Coefficients, intercept and residual sum of squares of y ~ x (n,k)."""
    a = np.column_stack([np.ones(len(y)), x])
    solution = np.linalg.lstsq(a, y, rcond=None)[0]
    return solution[1:], float(solution[0]), float(((y - a @ solution) ** 2).sum())


class Stack(RegressorMixin, BaseEstimator):
    """Stepwise linear regression over members' predictions, as a scikit-learn estimator.

    Forward and backward steps by partial F-tests (enter below `enter`, leave above `leave`); members whose standardised
    coefficient |beta| is below `drop` (the paper's 0.05) go, and the rest is fitted again.

    members_ (names kept, in order), coef_, intercept_, beta_ (standardised), path_ (table of what each step did)
    """

    def __init__(self, enter: float = 0.05, leave: float = 0.10, drop: float = 0.05):
        self.enter, self.leave, self.drop = enter, leave, drop

    def fit(self, X: pd.DataFrame | np.ndarray, y: Sequence[float] | np.ndarray) -> Stack:
        table, target = _table(X), np.asarray(y, float)
        if len(table) != len(target) or len(target) < table.shape[1] + 3:
            raise UserError(f"stacking {table.shape[1]} members needs one score a row and at least "
                            f"{table.shape[1] + 3} rows; got {len(table)} rows and {len(target)} scores.")
        if not np.isfinite(table.to_numpy()).all():
            bad = [name for name in table if not np.isfinite(table[name]).all()]
            raise UserError(f"predictions of {', '.join(bad)} hold NaN or infinity; leave these members out.")
        self.names_, path = list(table), []
        chosen = [n for n in self._stepwise(table, target, path)]
        while len(chosen) > 1:
            beta = self._beta(table, target, chosen)
            weakest = min(chosen, key=lambda name: abs(beta[name]))
            if abs(beta[weakest]) >= self.drop:
                break
            chosen.remove(weakest)
            path.append({"step": "drop", "member": weakest, "value": beta[weakest]})
        self.members_ = chosen
        self.coef_, self.intercept_, _ = least_squares(table[chosen].to_numpy(), target)
        self.beta_ = self._beta(table, target, chosen)
        self.path_ = pd.DataFrame(path, columns=["step", "member", "value"])
        return self

    def predict(self, X: pd.DataFrame | np.ndarray) -> np.ndarray:
        table = _table(X)
        if missing := set(self.members_) - set(table):
            raise UserError(f"the stack needs predictions of {', '.join(sorted(missing))}.")
        return table[self.members_].to_numpy() @ self.coef_ + self.intercept_

    def _stepwise(self, table: pd.DataFrame, y: np.ndarray, path: list[dict]) -> list[str]:
        from scipy.stats import f as f_distribution

        def p_value(without: list[str], with_: list[str]) -> float:
            small, large = (least_squares(table[names].to_numpy(), y)[2] for names in (without, with_))
            free = len(y) - len(with_) - 1
            return float(f_distribution.sf(max(small - large, 0) / max(large, 1e-300) * free, 1, free))

        chosen: list[str] = []
        for _ in range(2 * table.shape[1]):
            gains = {name: p_value(chosen, [*chosen, name]) for name in table if name not in chosen}
            best = min(gains, key=lambda name: gains[name], default=None)
            if best is None or gains[best] >= self.enter:
                break
            chosen.append(best)
            path.append({"step": "enter", "member": best, "value": gains[best]})
            losses = {name: p_value([n for n in chosen if n != name], chosen) for name in chosen}
            worst = max(losses, key=lambda name: losses[name])
            if losses[worst] > self.leave and worst != best:
                chosen.remove(worst)
                path.append({"step": "leave", "member": worst, "value": losses[worst]})
        if not chosen:  # nothing helps: the best single member is still an answer
            chosen = [min(table, key=lambda name: least_squares(table[[name]].to_numpy(), y)[2])]
            path.append({"step": "only", "member": chosen[0], "value": float("nan")})
        return chosen

    @staticmethod
    def _beta(table: pd.DataFrame, y: np.ndarray, names: list[str]) -> dict[str, float]:
        coefficients = least_squares(table[names].to_numpy(), y)[0]
        spread = table[names].to_numpy().std(0) / max(y.std(), 1e-12)
        return {name: float(c * s) for name, c, s in zip(names, coefficients, spread, strict=True)}


def _table(X: pd.DataFrame | np.ndarray) -> pd.DataFrame:
    if isinstance(X, pd.DataFrame):
        return X
    X = np.asarray(X, float)
    return pd.DataFrame(X, columns=[f"member {k}" for k in range(X.shape[1])])


Fitted = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Member:
    """One base model. fit(rows, tag) trains on these rows and returns a function rows -> predictions; `tag` names the
    fit ("fold 0", "all"), so that a member can keep its files apart and continue them."""

    name: str
    fit: Callable[[np.ndarray, str], Fitted]


@dataclass
class OutOfFold:
    """table: out-of-fold predictions (rows x members); in_sample: predictions of pictures by models that trained on
    them; test: mean of the folds' models on other rows; failed: name -> reason, for members that are left out."""

    table: pd.DataFrame
    in_sample: pd.DataFrame
    test: pd.DataFrame
    failed: dict[str, str] = field(default_factory=dict)


def fold_rows(n: int, folds: int, groups: Sequence | np.ndarray | None = None, seed: int = 0) -> list[np.ndarray]:
    """`folds` disjoint parts of 0..n-1 that divide no group, about equal in size."""
    labels = np.arange(n) if groups is None else pd.factorize(np.asarray(groups))[0]
    order = np.random.default_rng(seed).permutation(labels.max() + 1)
    size = np.bincount(labels)
    place, load = np.zeros(len(order), int), np.zeros(folds)
    for label in order:
        place[label] = load.argmin()
        load[place[label]] += size[label]
    return [np.flatnonzero(place[labels] == k) for k in range(folds)]


def out_of_fold(members: Sequence[Member], train: np.ndarray, test: np.ndarray, folds: int = 3,
                groups: Sequence | np.ndarray | None = None, seed: int = 0) -> OutOfFold:
    """Fit every member once per fold; a member that raises is named in `failed` and does not lose the others' work.

    train, test    row numbers;  groups    of the train rows: a group lies in one fold
    """
    parts = fold_rows(len(train), folds, groups, seed)
    columns: dict[str, list[np.ndarray]] = {}
    failed: dict[str, str] = {}
    for member in members:
        held, seen, other = np.full(len(train), np.nan), np.zeros(len(train)), np.zeros(len(test))
        try:
            for k, part in enumerate(parts):
                rest = np.setdiff1d(np.arange(len(train)), part)
                fitted = member.fit(train[rest], f"fold {k}")
                held[part] = fitted(train[part])
                seen[rest] += fitted(train[rest]) / (folds - 1)
                other += fitted(test) / folds
        except (UserError, RuntimeError, OSError, ValueError) as error:
            failed[member.name] = str(error) or type(error).__name__
            continue
        columns[member.name] = [held, seen, other]
    if not columns:
        raise UserError("no base network could be fitted: " + "; ".join(f"{k}: {v}" for k, v in failed.items()))
    return OutOfFold(*(pd.DataFrame({name: values[i] for name, values in columns.items()}) for i in range(3)), failed)
