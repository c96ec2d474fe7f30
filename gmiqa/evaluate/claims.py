"""The words of a result, written only here: what a comparison found, and what that says about a claim.

    comparison   better | worse | no difference (larger than a margin) | undecided
    claim        holds | does not hold | no difference | undecided | not run here

A margin is the smallest difference that matters, declared with the claim before the run. "No difference" is decided by
two one-sided tests at 5 % (Schuirmann 1987): the 90 % interval of the difference lies within the margin on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95  # of every interval
BETTER, WORSE, SAME, UNDECIDED = OUTCOMES = ("better", "worse", "no difference", "undecided")
HOLDS, FAILS, NOT_RUN = "holds", "does not hold", "not run here"
DECIDED = (HOLDS, FAILS, SAME)


def narrower(low: float, high: float, df: float = math.inf) -> tuple[float, float]:
    """The 90 % interval inside a 95 % interval with Student's t at df degrees of freedom."""
    centre, half = (low + high) / 2, (high - low) / 2
    half *= float(stats.t.ppf(LEVEL, df) / stats.t.ppf((1 + LEVEL) / 2, df))
    return centre - half, centre + half


def outcome(low: float, high: float, higher_is_better: bool = True, margin: float | None = None,
            df: float = math.inf) -> str:
    """The word for a difference, from its 95 % interval; no interval decides nothing.

    margin: the smallest difference that matters; without one a null result stays undecided. df belongs to the interval.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return UNDECIDED
    if low > 0 or high < 0:
        return BETTER if (low > 0) == higher_is_better else WORSE
    if margin is None:
        return UNDECIDED
    low, high = narrower(low, high, df)
    return SAME if -margin < low and high < margin else UNDECIDED


def verdict(outcome: str, wanted: str = BETTER) -> str:
    """What an outcome says about the claim that the first method is `wanted`, in the words of stage.claim."""
    return {UNDECIDED: UNDECIDED, SAME: SAME, wanted: HOLDS}.get(outcome, FAILS)


def words(outcome: str, a: str, b: str, margin: float | None = None) -> str:
    """The outcome of a against b as the beginning of a sentence."""
    return {BETTER: f"{a} is better than {b}", WORSE: f"{a} is worse than {b}",
            SAME: f"{a} and {b} show no difference larger than {margin:g}" if margin is not None else "",
            UNDECIDED: f"{a} against {b} is undecided at this size"}[outcome]  # fmt: skip


def deciding(outcome: str) -> tuple[int, str, str]:
    """The interval that decided it: its width in percent, and the columns of its ends in a table of findings."""
    return (90, "low_90", "high_90") if outcome == SAME else (95, "low", "high")


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@dataclass(frozen=True)
class Claim:
    """One claim and what was found, as stage.claim takes it: `stage.claim(**vars(claim))` registers it.

    n counts independent things and unit names them; runs counts trainings or splits; margin is in the metric's unit;
    claims of one family are corrected together (Holm), by their p values.
    """

    claim: str
    source: str = "paper"
    value: Any = None
    outcome: str = NOT_RUN
    n: int | None = None
    evidence: str = ""
    margin: float | None = None
    family: str = ""
    unit: str = ""
    runs: int | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None


def holm(p: Any) -> np.ndarray:
    """Adjusted p values (Holm 1979): the smallest times their number, the next times one less, never falling."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """Registered claims after Holm within each family: a claim that is not decided there becomes undecided.

    Reads the columns outcome, p and family; adds p_holm (NaN outside a family) and nominal, the outcome before. A claim
    is decided by one of two tests, for a difference or for none larger than the margin, and p is that of its own test.
    Each kind of test is corrected by itself, over all claims of the family: the other kind counts with p = 1. So a
    family errs in 5 % of all cases in what it calls a difference, and in 5 % in what it calls none.
    """
    result = frame.assign(nominal=frame["outcome"], p_holm=np.nan)
    p = pd.to_numeric(frame["p"], errors="coerce")
    for family in frame["family"].fillna("").unique():
        rows = frame.index[(frame["family"] == family) & p.notna()] if family else []
        alike = frame.loc[rows, "outcome"] == SAME
        for kind in (alike, ~alike) if len(rows) else ():
            result.loc[rows[kind], "p_holm"] = holm(p[rows].where(kind, 1.0))[kind]
    lost = result["outcome"].isin(DECIDED) & (result["p_holm"] > 1 - LEVEL)
    return result.assign(outcome=result["outcome"].mask(lost, UNDECIDED))
