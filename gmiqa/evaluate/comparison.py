"""Comparing methods on the same pictures. Better, worse and undecided come from `outcome`, here and everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from gmiqa.evaluate.agreement import METRICS, Array, Metric
from gmiqa.evaluate.intervals import LEVEL, by_name, draws, interval, pairs, resamples, undefined, units, vector
from gmiqa_core.errors import UserError


def outcome(low: float, high: float, higher_is_better: bool = True) -> str:
    """better, worse or undecided, from the interval of a difference; no interval decides nothing."""
    if not (np.isfinite(low) and np.isfinite(high)) or low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == higher_is_better else "worse"


def verdict(outcome: str, wanted: str = "better") -> str:
    """What an outcome says about the claim that the first method is `wanted`, in the words of stage.claim."""
    return {"undecided": "undecided", wanted: "holds"}.get(outcome, "does not hold")


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
    (first, second), chosen = (_runs(a), _runs(b)), by_name(metric)
    if first.shape != second.shape:
        raise UserError(f"Methods must share pictures and runs: predictions are {first.shape} and {second.shape}.")
    delta, low, high, n, over, note = _resampled(chosen, [first, second], target, groups, bootstrap, seed)
    return Comparison(metric, delta, low, high, outcome(low, high, chosen.higher_is_better), n, over, note)


def repeated(
    prediction: Any, target: Any, metric: str = "srocc", groups: Any = None, bootstrap: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """The metric's mean over the runs (runs, n) of one method: metric, value, low, high, n, over, note.

    Runs and pictures (or groups) are both resampled.
    """
    value, low, high, n, over, note = _resampled(by_name(metric), [_runs(prediction)], target, groups, bootstrap, seed)
    return {"metric": metric, "value": value, "low": low, "high": high, "n": n, "over": over, "note": note}


def _resampled(
    metric: Metric, methods: list[Array], target: Any, groups: Any, bootstrap: int, seed: int
) -> tuple[float, float, float, int, str, str]:
    """Mean over runs of the metric of one method, or of the first minus the second: value, low, high, n, over, note."""
    runs = len(methods[0])
    names = tuple(f"method {m}, run {r}" for m in range(len(methods)) for r in range(runs)) + ("target",)
    (*columns, y), keep, left_out = pairs(*(run for method in methods for run in method), target, names=names)
    of, count = units(groups, keep)
    over = ("pictures" if groups is None else f"pictures in {count} groups") + f", {runs} runs" * (runs > 1)
    reason = next((r for r in (undefined(metric, x, y) for x in columns) if r), "")
    note = "; ".join(text for text in (left_out, reason) if text)
    if reason:
        return (*(float("nan"),) * 3, len(y), over, note)
    W = np.vstack([np.ones((1, len(y))), resamples(of, bootstrap, seed)])
    sign = np.repeat([1.0, -1.0][: len(methods)], runs)
    drawn = (sign[:, None] * [draws(metric, x, y, W) for x in columns]).reshape(len(methods), runs, -1).sum(0)
    value = float(drawn[:, 0].mean())
    again = np.random.default_rng((seed, 1)).multinomial(runs, [1 / runs] * runs, size=len(W) - 1).T
    fewest, scale = min(count, runs) if runs > 1 else count, metric if len(methods) == 1 else None
    low, high = interval(value, (drawn[:, 1:] * again).mean(0), fewest, scale)
    return value, low, high, len(y), over, note


def _runs(x: Any) -> Array:
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x, dtype=np.float64)
    return x[None] if x.ndim == 1 else x


def paired(deltas: Any, metric: str = "srocc", over: str = "seeds") -> Comparison:
    """Differences per seed or split -> their mean with a t interval; fewer than 3 decide nothing.

    Splits of one data set share pictures, so over splits the interval is too narrow; the caller says so.
    """
    d = vector(deltas, "deltas")
    d = d[np.isfinite(d)]
    mean = float(d.mean()) if len(d) else float("nan")
    low = high = float("nan")
    if len(d) > 2:
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))
        low, high = mean - half, mean + half
    note = "" if len(d) > 2 else "at least 3 are needed for an interval"
    return Comparison(metric, mean, low, high, outcome(low, high, by_name(metric).higher_is_better), len(d), over, note)
