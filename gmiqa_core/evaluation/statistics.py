"""Agreement of predicted with human scores: plain values, bootstrap intervals, paired comparison.

Intervals come from bootstrap standard errors over U units, pictures or whole groups (references, scenes, contents),
with Student's t at U - 1 degrees of freedom and the factor sqrt(U / (U - 1)) that the bootstrap's variance lacks: so
they hold for few units too. Correlations on Fisher's scale. Better, worse and undecided come from `outcome` alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gmiqa_core.evaluation.agreement import CELLS, METRICS, Array, Metric, fit
from gmiqa_core.settings import UserError

LEVEL = 0.95  # of every interval


def _vector(x: Any, name: str) -> Array:
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    try:
        return np.asarray(x, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: expected numbers, found {type(x).__name__}. Pass one number per picture.") from error


def _pairs(*columns: Any, names: tuple[str, ...]) -> tuple[list[Array], Array, str]:
    """Vectors without the rows where one is not finite, the kept rows, and what was left out in words."""
    vectors = [_vector(c, n) for c, n in zip(columns, names, strict=True)]
    if len({len(v) for v in vectors}) > 1:
        sizes = ", ".join(f"{n} has {len(v)}" for n, v in zip(names, vectors, strict=True))
        raise UserError(f"Scores must come in pairs: {sizes}. Pass one number of each per picture.")
    keep = np.all([np.isfinite(v) for v in vectors], axis=0) if vectors[0].size else np.zeros(0, bool)
    lost = int((~keep).sum())
    note = f"{lost} of {len(keep)} pairs left out: not a finite number" if lost else ""
    return [v[keep] for v in vectors], keep, note


def _undefined(metric: Metric, x: Array, y: Array) -> str:
    if len(x) < metric.least:
        return f"{metric.title} is not defined: {len(x)} pairs, at least {metric.least} are needed"
    if metric.needs_spread:
        constant = [name for name, v in (("prediction", x), ("target", y)) if np.ptp(v) == 0]
        if constant:
            return f"{metric.title} is not defined: constant {' and '.join(constant)}"
    return ""


def _one(name: str, prediction: Any, target: Any) -> float:
    (x, y), _, note = _pairs(prediction, target, names=("prediction", "target"))
    metric = METRICS[name]
    reason = _undefined(metric, x, y)
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
    (x, y), _, _ = _pairs(prediction, target, names=("prediction", "target"))
    reason = _undefined(METRICS["plcc_logistic"], x, y)
    if reason:
        raise UserError(reason.replace("PLCC (logistic)", "The logistic fit") + ".")
    return fit(np.ones((1, len(x))), x, y)[0]


def resamples(units: Array, bootstrap: int, seed: int) -> Array:
    """Weights (bootstrap, n): whole units (labels 0..U-1 per picture) drawn with replacement, as many as there are."""
    rng = np.random.default_rng(seed)
    count = int(units.max()) + 1
    draws = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap)
    return draws[:, units].astype(np.float64)


def interval(value: float, draws: Array, units: int, metric: Metric | None = None) -> tuple[float, float]:
    """95 % interval of a value from its bootstrap draws over that many units; NaN for fewer than 3 units."""
    scale, unscale = (metric.scale, metric.unscale) if metric else (np.asarray, np.asarray)
    draws = scale(draws[np.isfinite(draws)])
    if units < 3 or len(draws) < 20:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + LEVEL) / 2, units - 1) * draws.std(ddof=1) * np.sqrt(units / (units - 1))
    low, high = unscale(scale(np.asarray(value)) + half * np.array([-1.0, 1.0]))
    return float(low), float(high)


def _units(groups: Any, keep: Array) -> Array:
    if groups is None:
        return np.arange(int(keep.sum()))
    labels = np.asarray(groups).reshape(-1)
    if len(labels) != len(keep):
        raise UserError(f"groups has {len(labels)} entries for {len(keep)} pictures. Pass one group label per picture.")
    return np.unique(labels[keep].astype(str), return_inverse=True)[1]


def _draws(metric: Metric, x: Array, y: Array, W: Array) -> Array:
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
    (x, y), keep, left_out = _pairs(prediction, target, names=("prediction", "target"))
    units = _units(groups, keep)
    count = int(units.max()) + 1 if len(units) else 0
    W = resamples(units, bootstrap, seed) if count > 2 and bootstrap else None
    few = f"{count} groups: no interval" if groups is not None and count < 3 else ""
    rows = {}
    for name in names:
        metric = _metric(name)
        reason = _undefined(metric, x, y)
        value, low, high = (float("nan"),) * 3
        if not reason:
            value = float(metric.weighted(np.ones((1, len(x))), x, y)[0])
            low, high = (low, high) if W is None else interval(value, _draws(metric, x, y, W), count, metric)
        note = "; ".join(text for text in (left_out, reason, few) if text)
        rows[name] = {"value": value, "low": low, "high": high, "n": len(x), "units": count, "note": note}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise UserError(f"metric {name!r} is not known. Choose one of: {', '.join(METRICS)}.")
    return METRICS[name]

def outcome(low: float, high: float, higher_is_better: bool = True) -> str:
    """better, worse or undecided, from the interval of a difference; no interval decides nothing."""
    if not (np.isfinite(low) and np.isfinite(high)) or low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == higher_is_better else "worse"


@dataclass(frozen=True)
class Comparison:
    """a against b: delta = metric(a) - metric(b), its 95 % interval, and the outcome for a."""

    metric: str
    delta: float
    low: float
    high: float
    outcome: str
    n: int
    over: str = "pictures"
    note: str = ""

    def sentence(self, a: str, b: str) -> str:
        """The outcome in words, with the numbers that decide it."""
        lead = {"better": f"{a} is better than {b}", "worse": f"{a} is worse than {b}",
                "undecided": f"{a} against {b} is undecided at this size"}[self.outcome]  # fmt: skip
        title = METRICS[self.metric].title
        if not np.isfinite(self.delta):
            return f"{lead}: {self.note or f'{title} is not defined'}."
        span = f"95 % interval {self.low:+.3f} to {self.high:+.3f}" if np.isfinite(self.low) else "no interval"
        note = f" {self.note}." if self.note else ""
        return f"{lead}: {title} {self.delta:+.3f}, {span}, n = {self.n} {self.over}.{note}"


def compare(
    a: Any, b: Any, target: Any, metric: str = "srocc", groups: Any = None, bootstrap: int = 2000, seed: int = 0
) -> Comparison:
    """Paired bootstrap of metric(a) - metric(b) on the same pictures (whole groups where `groups` is given).

    a and b are (n,) predictions, or (runs, n) for trainings repeated with the same seeds in both: then runs are
    resampled as well, and the mean over runs is compared.
    """
    (runs_a, runs_b), chosen = (_runs(a), _runs(b)), _metric(metric)
    if runs_a.shape != runs_b.shape:
        raise UserError(f"Methods must share pictures and runs: predictions are {runs_a.shape} and {runs_b.shape}.")
    names = tuple(f"{m} (run {r})" for m in "ab" for r in range(len(runs_a))) + ("target",)
    (*columns, y), keep, note = _pairs(*runs_a, *runs_b, target, names=names)
    pairs = list(zip(columns[: len(runs_a)], columns[len(runs_a) :], strict=True))
    units = _units(groups, keep)
    count = int(units.max()) + 1 if len(units) else 0
    over = ("pictures" if groups is None else f"pictures in {count} groups") + f", {len(pairs)} runs" * (len(pairs) > 1)
    reason = next((r for r in (_undefined(chosen, x, y) for pair in pairs for x in pair) if r), "")
    delta, low, high = (float("nan"),) * 3
    if not reason:
        whole = np.ones((1, len(y)))
        delta = float(np.mean([chosen.weighted(whole, p, y) - chosen.weighted(whole, q, y) for p, q in pairs]))
        W = resamples(units, bootstrap, seed)
        draws = np.stack([_draws(chosen, p, y, W) - _draws(chosen, q, y, W) for p, q in pairs], 1)
        again = np.random.default_rng((seed, 1)).multinomial(len(pairs), [1 / len(pairs)] * len(pairs), size=len(draws))
        draws = (draws * again).mean(1)
        low, high = interval(delta, draws, min(count, len(pairs)) if len(pairs) > 1 else count)
    note = "; ".join(text for text in (note, reason) if text)
    return Comparison(metric, delta, low, high, outcome(low, high, chosen.higher_is_better), len(y), over, note)


def _runs(x: Any) -> Array:
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x, dtype=np.float64)
    return x[None] if x.ndim == 1 else x


def paired(deltas: Any, metric: str = "srocc", over: str = "seeds") -> Comparison:
    """Differences per seed or split -> their mean with a t interval; fewer than 3 decide nothing.

    Splits of one data set share pictures, so over splits the interval is too narrow; the caller says so.
    """
    d = _vector(deltas, "deltas")
    d = d[np.isfinite(d)]
    mean = float(d.mean()) if len(d) else float("nan")
    low = high = float("nan")
    if len(d) > 2:
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
        low, high = mean - half, mean + half
    note = "" if len(d) > 2 else "at least 3 are needed for an interval"
    return Comparison(metric, mean, low, high, outcome(low, high, _metric(metric).higher_is_better), len(d), over, note)
