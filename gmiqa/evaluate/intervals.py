"""Agreement of predicted with human scores: plain values and bootstrap intervals.

Intervals come from bootstrap standard errors over U units, pictures or whole groups (references, scenes, contents),
with Student's t at U - 1 degrees of freedom and the factor sqrt(U / (U - 1)) that the bootstrap's variance lacks: so
they hold for few units too. Correlations on Fisher's scale.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gmiqa.evaluate.agreement import CELLS, METRICS, Array, Metric, fit
from gmiqa.evaluate.claims import LEVEL
from gmiqa_core.errors import UserError


def vector(x: Any, name: str) -> Array:
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    try:
        return np.asarray(x, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected numbers, found {type(x).__name__}. Pass one number per picture.") from error


def pairs(*columns: Any, names: tuple[str, ...]) -> tuple[list[Array], Array, str]:
    """Vectors without the rows where one is not finite, the kept rows, and what was left out in words."""
    vectors = [vector(c, n) for c, n in zip(columns, names, strict=True)]
    if len({len(v) for v in vectors}) > 1:
        sizes = ", ".join(f"{n} has {len(v)}" for n, v in zip(names, vectors, strict=True))
        raise UserError(f"Scores must come in pairs: {sizes}. Pass one number of each per picture.")
    keep = np.all([np.isfinite(v) for v in vectors], axis=0) if vectors[0].size else np.zeros(0, bool)
    lost = int((~keep).sum())
    note = f"{lost} of {len(keep)} pairs left out: not a finite number" if lost else ""
    return [v[keep] for v in vectors], keep, note


def undefined(metric: Metric, x: Array, y: Array) -> str:
    if len(x) < metric.least:
        return f"{metric.title} is not defined: {len(x)} pairs, at least {metric.least} are needed"
    if metric.needs_spread:
        constant = [name for name, v in (("prediction", x), ("target", y)) if np.ptp(v) == 0]
        if constant:
            return f"{metric.title} is not defined: constant {' and '.join(constant)}"
    return ""


def _one(name: str, prediction: Any, target: Any) -> float:
    (x, y), _, note = pairs(prediction, target, names=("prediction", "target"))
    metric = METRICS[name]
    reason = undefined(metric, x, y)
    for text in (note, reason):
        if text:
            warnings.warn(text, stacklevel=3)
    return float("nan") if reason else float(metric.weighted(np.ones((1, len(x))), x, y)[0])


def srocc(prediction: Any, target: Any) -> float:
    """Spearman's rank correlation in [-1, 1]; NaN, with a warning, for n < 3 or a constant."""
    return _one("srocc", prediction, target)


def plcc(prediction: Any, target: Any) -> float:
    """Pearson's linear correlation in [-1, 1]; NaN, with a warning, for n < 3 or a constant."""
    return _one("plcc", prediction, target)


def plcc_logistic(prediction: Any, target: Any) -> float:
    """Pearson's correlation after the four-parameter logistic; needs 5 pairs. Negative where the fitted curve falls."""
    return _one("plcc_logistic", prediction, target)


def krocc(prediction: Any, target: Any) -> float:
    """Kendall's tau-b in [-1, 1]; NaN, with a warning, for n < 3 or a constant."""
    return _one("krocc", prediction, target)


def rmse(prediction: Any, target: Any) -> float:
    """Root of the mean squared error, in the unit of the target; lower is better."""
    return _one("rmse", prediction, target)


def fit_logistic(prediction: Any, target: Any) -> Array:
    """The four parameters (b1, b2, b3, b4 > 0) of the logistic that maps predictions to targets by least squares."""
    (x, y), _, _ = pairs(prediction, target, names=("prediction", "target"))
    reason = undefined(METRICS["plcc_logistic"], x, y)
    if reason:
        raise UserError(reason.replace("PLCC (logistic)", "The logistic fit") + ".")
    return fit(np.ones((1, len(x))), x, y)[0]


def resamples(index: Array, bootstrap: int, seed: int) -> Array:
    """Weights (bootstrap, n): whole units (labels 0..U-1 per picture) drawn with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    count = int(index.max()) + 1
    counts = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap)
    return counts[:, index].astype(np.float64)


def interval(value: float, drawn: Array, units: int, metric: Metric | None = None) -> tuple[float, float]:
    """95 % interval of a value from its bootstrap draws over that many units; NaN for fewer than 3 units."""
    scale, unscale = (metric.scale, metric.unscale) if metric else (np.asarray, np.asarray)
    drawn = scale(drawn[np.isfinite(drawn)])
    if units < 3 or len(drawn) < 20:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + LEVEL) / 2, units - 1) * drawn.std(ddof=1) * np.sqrt(units / (units - 1))
    low, high = unscale(scale(np.asarray(value)) + half * np.array([-1.0, 1.0]))
    return float(low), float(high)


def units(groups: Any, keep: Array) -> tuple[Array, int]:
    """What is resampled: the unit 0..U-1 of every kept picture, and U. Without groups every picture is one."""
    if groups is None:
        return np.arange(int(keep.sum())), int(keep.sum())
    labels = np.asarray(groups).reshape(-1)
    if len(labels) != len(keep):
        raise UserError(f"groups has {len(labels)} entries for {len(keep)} pictures. Pass one group label per picture.")
    names, index = np.unique(labels[keep].astype(str), return_inverse=True)
    return index, len(names)


def draws(metric: Metric, x: Array, y: Array, W: Array) -> Array:
    """The metric (B,) of each resample, a few rows at a time; NaN where a resample is constant."""
    step = max(1, CELLS // max(1, len(x)))
    return np.concatenate([metric.weighted(W[i : i + step], x, y) for i in range(0, len(W), step)])


def metrics(
    prediction: Any, target: Any, groups: Any = None, bootstrap: int = 1000, seed: int = 0, names: Iterable = METRICS
) -> pd.DataFrame:
    """All metrics with 95 % intervals -> index metric; columns value, low, high, n (pictures), units (resampled), note.

    With `groups` (reference, scene or content per picture) whole groups are resampled, as pictures of one group are not
    independent. What is not defined is NaN and `note` says why.
    """
    (x, y), keep, left_out = pairs(prediction, target, names=("prediction", "target"))
    index, count = units(groups, keep)
    W = resamples(index, bootstrap, seed) if count > 2 and bootstrap else None
    few = f"{count} groups: no interval" if groups is not None and count < 3 else ""
    rows = {}
    for name in names:
        metric = by_name(name)
        reason = undefined(metric, x, y)
        value, low, high = (float("nan"),) * 3
        if not reason:
            value = float(metric.weighted(np.ones((1, len(x))), x, y)[0])
            low, high = (low, high) if W is None else interval(value, draws(metric, x, y, W), count, metric)
        note = "; ".join(text for text in (left_out, reason, few) if text)
        rows[name] = {"value": value, "low": low, "high": high, "n": len(x), "units": count, "note": note}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def by_name(name: str) -> Metric:
    if name not in METRICS:
        raise UserError(f"metric {name!r} is not known. Choose one of: {', '.join(METRICS)}.")
    return METRICS[name]
