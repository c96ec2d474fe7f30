"""The error of a mean over runs x contents, both of which are samples of what there could be: variance components.

With a run, b content and e what only this run does on this content, d_rc = mean + a_r + b_c + e_rc and

    Var(mean) = s_a^2 / R + s_b^2 / C + s_e^2 / (R C) = V_runs + V_contents - V_interaction,

where V_runs = MS_runs / (R C) is what the spread of the R run means gives, s_a^2 / R + s_e^2 / (R C), V_contents the
same for contents, and V_interaction = MS_interaction / (R C). Each holds s_e^2 / (R C), so the sum counts it twice.
Degrees of freedom follow Satterthwaite (1946): V^2 / sum of V_k^2 / df_k. An estimate of s_a^2 or s_b^2 below zero is
taken as zero, which leaves the larger of V_runs and V_contents with its own degrees of freedom.

A metric that is no mean of pictures (SROCC) is brought into the same table by the jackknife: the pseudo-value of run r
and content c is C m_r - (C - 1) m_r(without c) (Tukey 1958).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from gmiqa.evaluate.agreement import CELLS, Array, Metric
from gmiqa.evaluate.claims import LEVEL

BLOCKS = 1000  # units left out one by one up to here; more are left out in this many blocks


@dataclass(frozen=True)
class Parts:
    """Variances of the mean of a table (R, C) that its runs, its contents and their interaction account for."""

    R: int
    C: int
    runs: float
    contents: float
    interaction: float

    def estimate(self, value: float, R: int, C: int) -> Estimate:
        """What an experiment of R runs and C contents would give for the same value."""
        both = self.interaction * self.R * self.C
        of_runs = max(0.0, self.runs - self.interaction) * self.R
        of_contents = max(0.0, self.contents - self.interaction) * self.C
        runs, contents = (of_runs + both / C) / R, (of_contents + both / R) / C
        variance = of_runs / R + of_contents / C + both / (R * C)
        spread = runs**2 / (R - 1) + contents**2 / (C - 1) + (both / (R * C)) ** 2 / ((R - 1) * (C - 1))
        return Estimate(value, variance**0.5, max(1.0, variance**2 / spread) if spread else float(min(R, C) - 1))


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error and its degrees of freedom; NaN where there are too few values for an error."""

    value: float
    error: float = float("nan")
    df: float = float("nan")
    parts: Parts | None = None

    def bounds(self, level: float = LEVEL) -> tuple[float, float]:
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    def p(self, at: float = 0.0) -> float:
        """Two-sided p value of the value being `at`."""
        distance = abs(self.value - at)
        return 2 * self._tail(distance) if np.isfinite(self.error) else float("nan")

    def p_within(self, margin: float) -> float:
        """The larger p value of the two one-sided tests that the value lies within the margin on both sides of 0."""
        return self._tail(margin - abs(self.value)) if np.isfinite(self.error) else float("nan")

    def _tail(self, distance: float) -> float:
        if self.error == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        return float(special.stdtr(self.df, -distance / self.error))


def crossed(table: Array) -> Estimate:
    """The mean of a table (R, C) of differences and its error where rows and columns are both random.

    One row, or one column, leaves a one-sample t. Fewer than three of anything that varies have no error.
    """
    R, C = table.shape
    mean = float(table.mean()) if table.size else float("nan")
    if 1 in (R, C):
        return _one_way(mean, table.reshape(-1))
    if min(R, C) < 3 or not np.isfinite(table).all():
        return Estimate(mean)
    of_rows, of_columns = table.mean(1), table.mean(0)
    rest = table - of_rows[:, None] - of_columns + mean
    runs, contents = float(of_rows.var(ddof=1)) / R, float(of_columns.var(ddof=1)) / C
    interaction = float((rest**2).sum()) / ((R - 1) * (C - 1)) / (R * C)
    variance = runs + contents - interaction
    parts = Parts(R, C, runs, contents, interaction)
    if variance <= max(runs, contents):  # a component below zero
        return Estimate(mean, max(runs, contents) ** 0.5, (R if runs > contents else C) - 1, parts)
    spread = runs**2 / (R - 1) + contents**2 / (C - 1) + interaction**2 / ((R - 1) * (C - 1))
    return Estimate(mean, variance**0.5, max(1.0, variance**2 / spread), parts)


def needed(estimate: Estimate, margin: float, most: int = 1000, errors: tuple[float, float] = (1 - LEVEL, 1 - LEVEL)
           ) -> tuple[int | None, int | None]:
    """(runs, contents) that would decide an estimate whose value stays what it is, the other number staying too, and
    everything above R = C = `most` counting as never (None). Decided: the value differs from zero, or lies within the
    margin by two one-sided tests, each with its own error of the two."""
    parts = estimate.parts
    if parts is None:
        return None, None

    def decided(R: int, C: int) -> bool:
        then = parts.estimate(estimate.value, R, C)
        return then.p() < errors[0] or (abs(estimate.value) < margin and then.p_within(margin) < errors[1])

    runs = next((R for R in range(parts.R, most + 1) if decided(R, parts.C)), None)
    return runs, next((C for C in range(parts.C, most + 1) if decided(parts.R, C)), None)


def _one_way(mean: float, values: Array) -> Estimate:
    if len(values) < 3 or not np.isfinite(values).all():
        return Estimate(mean)
    return Estimate(mean, float(values.std(ddof=1)) / len(values) ** 0.5, len(values) - 1)


def complete(table: Array) -> tuple[Array, str]:
    """The table without what has gaps, the row or column with the most of them first; and what was lost, in words."""
    kept = table
    while kept.size and not (there := np.isfinite(kept)).all():
        rows, columns = there.mean(1), there.mean(0)
        by_row = rows.min() <= columns.min()
        kept = np.delete(kept, rows.argmin() if by_row else columns.argmin(), 0 if by_row else 1)
    lost = table.size - kept.size
    return kept, f"{lost} of {table.size} differences left out: their row or column is not complete" if lost else ""


def left_out(index: Array, units: int, limit: int = BLOCKS, seed: int = 0) -> Array:
    """Weights (1 + U, n): every picture; then all but those of one unit (labels 0..U-1), or of one block of units.

    More units than `limit` are shuffled into `limit` blocks of about equal size.
    """
    limit = min(limit, BLOCKS)
    if units > limit:
        order = np.random.default_rng(seed).permutation(units)
        index, units = (order * limit // units)[index], limit
    return np.vstack([np.ones(len(index)), index != np.arange(units)[:, None]])


def pseudo_values(metric: Metric, x: Array, y: Array, W: Array, scaled: bool = False) -> tuple[float, Array]:
    """The metric of all pictures, and its pseudo-values (U,) from the weights of `left_out`.

    scaled: on the scale where the metric's error is nearly normal (Fisher's, for a correlation).
    """
    step = max(1, CELLS // max(1, len(x)))
    value = np.concatenate([metric.weighted(W[i : i + step], x, y) for i in range(0, len(W), step)])
    value = metric.scale(value) if scaled else value
    units = len(W) - 1
    return float(value[0]), units * value[0] - (units - 1) * value[1:]


def over_splits(values: Array, errors: Array, df: float, test_to_train: float = 0.25) -> Estimate:
    """The mean over K random splits of one data set, which share pictures, so that their values are no K samples.

    Var(mean) = (1 / K + n_test / n_train) s^2 with K - 1 degrees of freedom (Nadeau & Bengio 2003). One or two splits
    keep the error of a single one (`errors`, `df`), which is then too large rather than too small.
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 3:
        return Estimate(mean, float(np.mean(errors)), df)
    return Estimate(mean, float(((1 / count + test_to_train) * np.var(values, ddof=1)) ** 0.5), count - 1)
