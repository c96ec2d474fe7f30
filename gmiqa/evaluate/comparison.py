"""Comparing methods on the same pictures. The words of an outcome come from `claims`, here and everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gmiqa.evaluate.agreement import METRICS, Array, Metric
from gmiqa.evaluate.claims import BETTER, SAME, UNDECIDED, narrower, p_text, verdict, words
from gmiqa.evaluate.claims import outcome as outcome_of
from gmiqa.evaluate.components import Estimate, complete, crossed, left_out, pseudo_values
from gmiqa.evaluate.intervals import by_name, pairs, undefined, units, vector
from gmiqa_core.errors import UserError

NAN = float("nan")
LEAST_RUNS = 3  # trainings that decide anything about a way to train


@dataclass(frozen=True)
class Comparison:
    """a against b: delta = metric(a) - metric(b), its 95 % interval, and the outcome for a.

    n counts independent things and `over` names them: contents, seeds, type-seed pairs. runs: trainings behind each.
    error, df: the standard error of delta and its degrees of freedom; `estimate` has its variance components.
    p belongs to the test that decides: of the margin where the outcome is "no difference", else of zero difference.
    """

    metric: str
    delta: float
    low: float
    high: float
    outcome: str
    n: int
    over: str = "pictures"
    note: str = ""
    p: float = NAN
    df: float = NAN
    error: float = NAN
    margin: float | None = None
    runs: int = 1
    estimate: Estimate | None = None

    @classmethod
    def of(cls, estimate: Estimate, metric: str, n: int, over: str, margin: float | None = None, **more: Any
           ) -> Comparison:
        """The outcome of an estimated difference; more: note, runs."""
        low, high = estimate.bounds()
        word = outcome_of(low, high, by_name(metric).higher_is_better, margin, estimate.df)
        p = estimate.p_within(margin) if word == SAME and margin is not None else estimate.p()
        return cls(metric, estimate.value, low, high, word, n, over, p=p, df=estimate.df, error=estimate.error,
                   margin=margin, estimate=estimate, **more)

    @property
    def counted(self) -> str:
        return f"n = {self.n} {self.over}" + (f", {self.runs} runs" if self.runs > 1 else "")

    def sentence(self, a: str, b: str) -> str:
        """The outcome in words, with the numbers that decide it."""
        lead, title = words(self.outcome, a, b, self.margin), METRICS[self.metric].title
        if not np.isfinite(self.delta):
            return f"{lead}: {self.note or f'{title} is not defined'}."
        note = f" {self.note}." if self.note else ""
        return f"{lead}: {title} {self.delta:+.3f}, {self._span()}, {self.counted}.{note}"

    def _span(self) -> str:
        if not np.isfinite(self.low):
            return "no interval"
        if self.outcome == SAME:
            low, high = narrower(self.low, self.high, self.df)
            return f"90 % interval {low:+.3f} to {high:+.3f}, {p_text(self.p)}"
        margin = f", margin {self.margin:g}" if self.margin is not None else ""
        return f"95 % interval {self.low:+.3f} to {self.high:+.3f}, {p_text(self.p)}{margin}"

    def as_claim(self, wanted: str = BETTER, runs: int | None = None) -> dict[str, Any]:
        """What stage.claim asks for, where the claim is that a is `wanted`: value, outcome, n, unit, interval, p.

        runs: trainings behind it, where the comparison does not know them. Fewer than three decide no claim about a
        way to train, however many pictures they are tested on.
        """
        runs = self.runs if runs is None else runs
        outcome = verdict(self.outcome, wanted) if runs >= LEAST_RUNS else UNDECIDED
        return {"value": f"{METRICS[self.metric].title} {self.delta:+.3f}", "outcome": outcome, "n": self.n,
                "unit": self.over, "runs": runs, "low": self.low, "high": self.high, "p": self.p, "margin": self.margin}


def compare(
    a: Any, b: Any, target: Any, metric: str = "srocc", groups: Any = None, bootstrap: int = 2000, seed: int = 0, *,
    margin: float | None = None, over: str = "",
) -> Comparison:  # fmt: skip
    """metric(a) - metric(b) on the same pictures; the interval is over whole groups where `groups` is given.

    a and b are (n,) predictions, or (runs, n) for trainings repeated with the same seeds in both: then the mean over
    runs is compared, and runs and pictures (or groups) are both random. Or (pairs, runs, n): the mean difference of
    several pairs, which are no sample of anything, as a main effect is.

    bootstrap   at most so many resamples, each without one picture or group, or without a block of them
    margin      the smallest difference that matters, declared before the run
    over        the word for one group: contents, references
    """
    (first, second), chosen = (_runs(a), _runs(b)), by_name(metric)
    if first.shape != second.shape:
        raise UserError(f"Methods must share pictures and runs: predictions are {first.shape} and {second.shape}.")
    both = zip(first, second, strict=True) if first.ndim == 3 else [(first, second)]
    methods = [runs for pair in both for runs in pair]
    estimate, n, note = _estimate(chosen, methods, target, groups, bootstrap, seed)
    return Comparison.of(estimate, metric, n, _unit(groups, over), note=note, margin=margin, runs=len(methods[0]))


def repeated(
    prediction: Any, target: Any, metric: str = "srocc", groups: Any = None, bootstrap: int = 2000, seed: int = 0, *,
    over: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The metric's mean over the runs (runs, n) of one method: metric, value, low, high, n, over, note, runs, df.

    Runs and pictures (or groups) are both random, as in `compare`; n counts pictures or groups.
    """
    runs, chosen = _runs(prediction), by_name(metric)
    estimate, n, note = _estimate(chosen, [runs], target, groups, bootstrap, seed)
    value, low, high = (float(chosen.unscale(np.asarray(v))) for v in (estimate.value, *estimate.bounds()))
    return {"metric": metric, "value": value, "low": low, "high": high, "n": n, "over": _unit(groups, over),
            "note": note, "runs": len(runs), "df": estimate.df}  # fmt: skip


def _estimate(
    metric: Metric, methods: list[Array], target: Any, groups: Any, resamples: int, seed: int
) -> tuple[Estimate, int, str]:
    """Mean over runs of one method's metric, on its own scale, or of the first minus the second, the third minus the
    fourth and so on: estimate, n, note."""
    names = tuple(f"method {m}, run {r}" for m, runs in enumerate(methods) for r in range(len(runs))) + ("target",)
    (*columns, y), keep, lost = pairs(*(run for method in methods for run in method), target, names=names)
    index, count = units(groups, keep)
    reason = next((r for r in (undefined(metric, x, y) for x in columns) if r), "")
    note = "; ".join(text for text in (lost, reason) if text)
    if reason:
        return Estimate(NAN), count, note
    W = left_out(index, count, resamples, seed) if count > 2 else np.ones((1, len(index)))
    made = [pseudo_values(metric, x, y, W, scaled=len(methods) == 1) for x in columns]
    sign = np.resize([1.0, -1.0], len(methods))[:, None] / max(1, len(methods) // 2)
    values = (sign * np.reshape([value for value, _ in made], (len(methods), -1))).sum(0)
    table = (sign[:, :, None] * np.reshape([pseudo for _, pseudo in made], (len(methods), len(values), -1))).sum(0)
    mean = crossed(table) if count > 2 else Estimate(NAN)
    if not np.isfinite(mean.error):
        few = f"{count} {'pictures or groups' if len(values) == 1 else f'pictures or groups and {len(values)} runs'}"
        note = "; ".join(text for text in (note, f"no interval for {few}: at least 3 of each are needed") if text)
    return Estimate(float(values.mean()), mean.error, mean.df, mean.parts), count, note


def _unit(groups: Any, over: str) -> str:
    return over or ("pictures" if groups is None else "groups")


def _runs(x: Any) -> Array:
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x, dtype=np.float64)
    return x[None] if x.ndim == 1 else x


def paired(deltas: Any, metric: str = "srocc", over: str = "seeds", *, margin: float | None = None) -> Comparison:
    """Differences -> their mean with a t interval; fewer than 3 decide nothing.

    deltas   (n,): one for each seed or content. (rows, columns): one for each pair of two things that are both random,
             as distortion types x seeds; then n counts the pairs, `over` names them ("type-seed pairs"), and the
             interval allows for what the pairs of a row, and of a column, share.

    Splits of one data set share pictures: for those see `protocols.compared`.
    """
    d = deltas.detach().cpu().numpy() if hasattr(deltas, "detach") else np.asarray(deltas, dtype=float)
    if d.ndim == 2 and min(d.shape) > 1:
        table, note = complete(d)
    else:
        d = vector(d, "deltas")
        table, note = d[np.isfinite(d)][None], ""
    estimate = crossed(table)
    if not np.isfinite(estimate.error):
        note = "; ".join(text for text in (note, "at least 3 are needed for an interval") if text)
    return Comparison.of(estimate, metric, table.size, over, note=note, margin=margin)
