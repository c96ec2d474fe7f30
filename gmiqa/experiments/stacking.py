"""Stacking: a linear meta-learner over base networks' predictions of pictures that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmiqa_core.errors import UserError


def least_squares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Coefficients, intercept and residual sum of squares of y ~ x (n,k)."""
    a = np.column_stack([np.ones(len(y)), x])
    solution = np.linalg.lstsq(a, y, rcond=None)[0]
    return solution[1:], float(solution[0]), float(((y - a @ solution) ** 2).sum())


class Stack:
    """Stepwise linear regression over members' predictions, with scikit-learn's interface of a regressor (which is
    loaded only where it is used).

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
        path: list[dict[str, Any]] = []
        chosen = self._stepwise(table, target, path)
        while len(chosen) > 1:
            beta = self._beta(table, target, chosen)
            weakest = min(chosen, key=lambda name: abs(beta[name]))
            if abs(beta[weakest]) >= self.drop:
                break
            chosen.remove(weakest)
            path.append({"step": "drop", "member": weakest, "beta": beta[weakest]})
        self.members_ = chosen
        self.coef_, self.intercept_, _ = least_squares(table[chosen].to_numpy(), target)
        self.beta_ = self._beta(table, target, chosen)
        self.path_ = pd.DataFrame(path, columns=["step", "member", "p", "beta"])
        return self

    def predict(self, X: pd.DataFrame | np.ndarray) -> np.ndarray:
        table = _table(X)
        if missing := set(self.members_) - set(table):
            raise UserError(f"the stack needs predictions of {', '.join(sorted(missing))}.")
        return table[self.members_].to_numpy() @ self.coef_ + self.intercept_

    def score(self, X: pd.DataFrame | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
        """R^2, as scikit-learn's regressors have it."""
        from sklearn.metrics import r2_score

        return float(r2_score(y, self.predict(X)))

    def get_params(self, deep: bool = True) -> dict[str, float]:
        return {"enter": self.enter, "leave": self.leave, "drop": self.drop}

    def set_params(self, **values: float) -> Stack:
        if unknown := set(values) - set(self.get_params()):
            raise UserError(f"Stack has no {', '.join(sorted(unknown))}; it has {', '.join(self.get_params())}.")
        for name, value in values.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import RegressorTags, Tags, TargetTags

        return Tags(estimator_type="regressor", target_tags=TargetTags(required=True), regressor_tags=RegressorTags())

    def _stepwise(self, table: pd.DataFrame, y: np.ndarray, path: list[dict[str, Any]]) -> list[str]:
        """Names of the members that the F-tests keep; at least one."""
        from scipy.stats import f as f_distribution

        def residual(names: list[str]) -> float:
            return least_squares(table[names].to_numpy(), y)[2]

        def p_value(small: list[str], large: list[str]) -> float:
            free, rest = len(y) - len(large) - 1, max(residual(large), 1e-300)
            return float(f_distribution.sf(max(residual(small) - rest, 0) / rest * free, 1, free))

        chosen: list[str] = []
        for _ in range(2 * table.shape[1]):
            others = [name for name in table if name not in chosen]
            if not others:
                break
            best = min(others, key=lambda name: residual([*chosen, name]))  # not by p, which is 0 for several of them
            p = p_value(chosen, [*chosen, best])
            if p >= self.enter:
                break
            chosen.append(best)
            path.append({"step": "enter", "member": best, "p": p})
            without = {name: [n for n in chosen if n != name] for name in chosen}
            worst = min(chosen, key=lambda name: residual(without[name]))
            p = p_value(without[worst], chosen)
            if p > self.leave and worst != best:
                chosen = without[worst]
                path.append({"step": "leave", "member": worst, "p": p})
        if not chosen:  # nothing helps: the best single member is still an answer
            chosen = [min(table, key=lambda name: residual([name]))]
            path.append({"step": "only", "member": chosen[0]})
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
