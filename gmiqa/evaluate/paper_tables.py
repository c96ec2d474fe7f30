"""What the papers report beside what we measured: their tables with our cells, and their claims with our outcome.

Everything here returns plain data, which a notebook registers: `stage.table(table, name, table.caption)` and
`stage.claim(**vars(claim))`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from gmiqa.evaluate import tables
from gmiqa.evaluate.agreement import METRICS
from gmiqa.evaluate.claims import FAILS, HOLDS, LEVEL, UNDECIDED, Claim, holm
from gmiqa.evaluate.comparison import Comparison
from gmiqa.evaluate.components import Estimate, over_splits
from gmiqa.evaluate.reported import DATASETS, reported

TESTED = ("LIVEC", "KonIQ-10k", "CSIQ", "LIVE")  # the data sets of GMIQA's tables 1 to 4
SINGLE = 0.9  # SROCC that every single distortion of LIVE and CSIQ exceeds, says GMIQA's text
MARGIN = 0.01  # a reported number counts as reached if ours is surely not lower by more than this


def interval_texts(scored: pd.DataFrame) -> pd.DataFrame:
    """Rows of protocols.scores -> one row per method and fold, a column per metric: value [low, high]."""

    def text(value: float, low: float, high: float) -> str:
        if not np.isfinite(value):
            return ""
        return f"{value:.3f} [{low:.2f}, {high:.2f}]" if np.isfinite(low) else f"{value:.3f}"

    cells = [text(*row) for row in scored[["value", "low", "high"]].itertuples(index=False)]
    wide = scored.assign(text=cells).pivot_table(index=["method", "fold", "n"], columns="metric", values="text",
                                                 aggfunc="first", sort=False)  # fmt: skip
    return wide.reset_index().rename_axis(columns=None)


def of_scores(overall: pd.DataFrame, per_type: pd.DataFrame, title: str) -> dict[str, tables.Table]:
    """Tables 1 to 4, and one for another data set with reported numbers, by name. What was not run stays blank, and a
    table that would be all blank is left out.

    overall, per_type: rows of protocols.scores. title: the data set's name in the papers.
    """
    tidy = tables.mean_over_folds(overall.assign(dataset=title, type=""))
    single = tables.mean_over_folds(per_type.assign(dataset=title, fold=per_type.get("fold", "")))
    made = {f"table_{number}": tables.paper_table(number, tidy if number < 3 else single) for number in (1, 2, 3, 4)}
    if title in DATASETS.values() and title not in TESTED:
        made["table_dataset"] = tables.overall(tidy, [title], f"{title}: reported, and run here.{tables.run_on(tidy)}")
    return {name: table for name, table in made.items() if table.frame.notna().any(axis=None)}


def of_cost(modules: pd.DataFrame, milliseconds: dict[str, float], size: int) -> tables.Table:
    """Table 6 from experiments.cost (index module; parameters, gflop, ms) and the other methods' time per picture."""
    ours = pd.DataFrame({"method": [f"GMIQA: {m}" for m in modules.index], "flops": modules["gflop"].to_numpy() * 1e9,
                         **{name: modules[name].to_numpy() for name in ("parameters", "ms")}})  # fmt: skip
    others = pd.DataFrame([{"method": m, "parameters": np.nan, "flops": np.nan, "ms": ms}
                           for m, ms in milliseconds.items() if m != "GMIQA"])  # fmt: skip
    table = tables.paper_table(6, pd.concat([ours, others], ignore_index=True))
    table.caption += f" Network: one picture of {size} px; others: a test picture."
    return table


def claims(
    overall: pd.DataFrame, comparisons: dict[str, Comparison], title: str, per_type: pd.DataFrame | None = None
) -> list[Claim]:
    """The claims of GMIQA's paper that scores bear on; what was not run is "not run here".

    comparisons: GMIQA against other methods by their titles. overall, per_type: rows of protocols.scores, of a network
    that was trained and tested on the data set `title`.
    """
    text = "GMIQA is better than hand-crafted features with a support vector machine"
    crafted = {method: c for method, c in comparisons.items() if "SVR" in method}
    made = [Claim(f"{text} ({method}, {title})", evidence="methods", family="hand-crafted", **c.as_claim())
            for method, c in crafted.items()]  # fmt: skip
    made = made or [Claim(text)]
    made += reached("GMIQA", overall, title)
    return made + [single_distortions(per_type, name, title) for name in ("LIVE", "CSIQ")]


def reached(method: str, overall: pd.DataFrame, title: str, ours: str = "", evidence: str = "overall") -> list[Claim]:
    """The numbers that a paper reports for its method, data set by data set: do ours reach both SROCC and PLCC?

    overall: rows of protocols.scores. ours: our method's name there (default: the paper's). title: the data set that we
    trained and tested on, by its name in the papers or by our loader's.
    """
    rows = overall[overall["method"] == (ours or method)]
    made = []
    for fact in reported(method=method).query("type == ''").itertuples():
        bars = {metric: bar for metric, bar in (("srocc", fact.srocc), ("plcc", fact.plcc)) if np.isfinite(bar)}
        line = f"{' and '.join(f'{METRICS[m].title} {bar}' for m, bar in bars.items())} on {fact.dataset} ({method})"
        if DATASETS.get(title, title) != fact.dataset or not set(bars) <= set(rows["metric"]):
            made.append(Claim(line))
            continue
        means = {metric: mean_over_splits(rows[rows["metric"] == metric], metric) for metric in bars}
        outcome, p = all_reach([(means[m], METRICS[m].scale, bar) for m, bar in bars.items()], MARGIN)
        value = ", ".join(f"{METRICS[m].title} {float(METRICS[m].unscale(np.asarray(e.value))):.3f}"
                          for m, e in means.items())  # fmt: skip
        first = rows[rows["metric"] == "srocc"]
        low, high = (float(np.tanh(bound)) for bound in means["srocc"].bounds())
        made.append(Claim(line, value=value, outcome=outcome, evidence=evidence, margin=MARGIN, p=p, low=low, high=high,
                          **_counted(first), family=f"{method}, reported numbers"))  # fmt: skip
    return made


def single_distortions(per_type: pd.DataFrame | None, dataset: str, title: str, method: str = "GMIQA") -> Claim:
    """Whether every single distortion of the data set has an SROCC above 0.9, judged by each type's lower bound."""
    text = f"SROCC above {SINGLE} for every single distortion of {dataset}"
    if per_type is None or per_type.empty or DATASETS.get(title, title) != dataset:
        return Claim(text)
    rows = per_type[(per_type["method"] == method) & (per_type["metric"] == "srocc")]
    if rows.empty or not np.isfinite(rows["value"]).all():
        return Claim(text)
    each = {kind: mean_over_splits(part, "srocc") for kind, part in rows.groupby("type", sort=False)}
    outcome, p = all_reach([(estimate, METRICS["srocc"].scale, SINGLE) for estimate in each.values()])
    worst = min(each, key=lambda kind: each[kind].value)
    low, high = (float(np.tanh(bound)) for bound in each[worst].bounds())
    return Claim(text, value=f"lowest: {worst} {float(np.tanh(each[worst].value)):.3f}", outcome=outcome, p=p, low=low,
                 high=high, evidence="per_type", **_counted(rows))  # fmt: skip


def mean_over_splits(rows: pd.DataFrame, metric: str) -> Estimate:
    """One row of protocols.scores for each split -> the mean over splits, on the metric's own scale (Fisher's)."""
    scale = METRICS[metric].scale
    value, low, high = (scale(rows[column].to_numpy(float)) for column in ("value", "low", "high"))
    df = rows["units"].to_numpy(float) - 1
    return over_splits(value, (high - low) / 2 / stats.t.ppf((1 + LEVEL) / 2, df), float(np.median(df)))


def all_reach(parts: list, margin: float = 0.0) -> tuple[str, float]:
    """Whether every value reaches its bar; parts: (estimate, scale, bar). The outcome and its p value.

    It holds where each value surely exceeds its bar less the margin: each alone has to pass at 5 %. It does not hold
    where one value is surely below its bar, at 5 % after Holm over the parts. Else it is undecided.
    """
    if not all(np.isfinite(estimate.error) for estimate, _, _ in parts):
        return UNDECIDED, float("nan")
    bars = [(estimate, float(scale(np.array(bar))), float(scale(np.array(bar - margin))))
            for estimate, scale, bar in parts]
    above = max(estimate.p(least) if estimate.value > least else 1.0 for estimate, _, least in bars)
    below = float(holm([estimate.p(bar) if estimate.value < bar else 1.0 for estimate, bar, _ in bars]).min())
    if above < 1 - LEVEL:
        return HOLDS, above
    return (FAILS, below) if below < 1 - LEVEL else (UNDECIDED, min(above, below))


def _counted(rows: pd.DataFrame) -> dict:
    """n of the independent things behind one split, what they are, and the number of splits."""
    splits = rows["fold"].nunique()
    word = "pictures" if (rows["units"] == rows["n"]).all() else "groups"
    return {"n": int(rows["units"].median()), "unit": word if splits == 1 else f"{word} in each of {splits} splits"}
