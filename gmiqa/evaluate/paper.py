"""What a notebook says about the papers: their tables with our cells, and their claims with our outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gmiqa.evaluate import tables
from gmiqa.evaluate.comparison import Comparison, outcome, verdict
from gmiqa.evaluate.reported import DATASETS, reported

TESTED = ("LIVEC", "KonIQ-10k", "CSIQ", "LIVE")  # the data sets of GMIQA's tables 1 to 4


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


def add_tables(stage: Any, overall: pd.DataFrame, per_type: pd.DataFrame, title: str) -> None:
    """Tables 1 to 4, and one for another data set with reported numbers, as files and in the report.

    title: the data set's name in the papers; what was not run stays blank.
    """
    tidy = tables.mean_over_folds(overall.assign(dataset=title, type=""))
    single = tables.mean_over_folds(per_type.assign(dataset=title))
    made = {f"table_{number}": tables.paper_table(number, tidy if number < 3 else single) for number in (1, 2, 3, 4)}
    if title in DATASETS.values() and title not in TESTED:
        made["table_dataset"] = tables.overall(tidy, [title], f"{title}: reported, and run here")
    for name, table in made.items():
        add_table(stage, table, name)


def add_table(stage: Any, table: tables.Table, name: str, more: str = "") -> None:
    """One table as CSV, Markdown and LaTeX, and in the report."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    for path in table.save(stage.folder, name):
        stage.product(path)
    stage.table(table.flat().reset_index(), f"paper_{name}", table.caption + more)


def add_cost(stage: Any, modules: pd.DataFrame, milliseconds: dict[str, float], size: int) -> None:
    """Table 6 from network.cost (index module; parameters, gflop, ms) and the other methods' time per picture."""
    ours = pd.DataFrame({"method": [f"GMIQA: {m}" for m in modules.index], "flops": modules["gflop"].to_numpy() * 1e9,
                         **{name: modules[name].to_numpy() for name in ("parameters", "ms")}})  # fmt: skip
    others = pd.DataFrame([{"method": m, "parameters": np.nan, "flops": np.nan, "ms": ms}
                           for m, ms in milliseconds.items() if m != "GMIQA"])  # fmt: skip
    table = tables.paper_table(6, pd.concat([ours, others], ignore_index=True))
    add_table(stage, table, "table_6", f" Network: one picture of {size} px; others: a test picture.")


def add_claims(stage: Any, overall: pd.DataFrame, comparisons: dict[str, Comparison], title: str) -> None:
    """The claims of GMIQA's paper that scores bear on; what was not run is registered as not run here."""
    claim = "GMIQA is better than hand-crafted features with a support vector machine"
    crafted = {method: c for method, c in comparisons.items() if "SVR" in method}
    for method, c in crafted.items():
        stage.claim(f"{claim} ({method}, {title})", "paper", value=f"SROCC {c.delta:+.3f}", outcome=verdict(c.outcome),
                    n=c.n, evidence="methods")  # fmt: skip
    if not crafted:
        stage.claim(claim, "paper")
    ours = overall[(overall.method == "GMIQA") & (overall.metric == "srocc")]
    for fact in reported(method="GMIQA").query("type == ''").itertuples():
        line = f"SROCC {fact.srocc} and PLCC {fact.plcc} on {fact.dataset}"
        if fact.dataset != title or ours.empty:
            stage.claim(line, "paper")
            continue
        row = ours.iloc[0]
        reaches = outcome(row["low"] - fact.srocc, row["high"] - fact.srocc)
        stage.claim(line, "paper", value=f"SROCC {row['value']:.3f}", n=int(row["n"]), evidence="overall",
                    outcome=verdict(reaches))  # fmt: skip
    stage.claim("SROCC above 0.9 for every single distortion of LIVE and CSIQ", "paper")
