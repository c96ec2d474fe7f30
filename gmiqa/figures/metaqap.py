"""Figures of MetaQAP: what the loss sees, its weights, the starts, the stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.figures.style import INK, MUTED, PALETTE, REPORT_WIDTH, style


def temperatures(x: np.ndarray, y: np.ndarray, values: Mapping[float, float], exact: float, chosen: float) -> Any:
    """Soft and exact Spearman over the temperature, beside the scores that they were computed on; `chosen` is ours."""
    import matplotlib.pyplot as plt

    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(REPORT_WIDTH, 3.4))
        left.scatter(x, y, s=14, color=PALETTE[0], alpha=0.7, linewidths=0)
        left.set(xlabel="prediction, standardised", ylabel="score, standardised", title="Scores")
        right.plot(list(values), list(values.values()), marker="o", color=PALETTE[0], label="soft Spearman")
        right.axhline(exact, color=INK, linestyle="--", linewidth=1.2, label="Spearman")
        right.axvline(chosen, color=MUTED, linestyle=":", linewidth=1.2, label="used here")
        right.set(xscale="log", xlabel="temperature, in standard deviations", ylabel="correlation",
                  title="The surrogate meets the rank correlation")
        right.legend()
    return figure


def intervals(rows: pd.DataFrame, xlabel: str, title: str, highlight: str = "") -> Any:
    """A dot and its 95 % interval for each row (index: name; columns value, low, high), the first one on top."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(figsize=(REPORT_WIDTH * 0.8, 0.9 + 0.42 * len(rows)))
        for place, (name, row) in enumerate(rows.iloc[::-1].iterrows()):
            colour = PALETTE[3] if name == highlight else PALETTE[0]
            axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
            axes.plot(row["value"], place, "o", color=colour, markersize=7)
            axes.annotate(f"{row['value']:.3f}", (row["value"], place), xytext=(0, 7), textcoords="offset points",
                          ha="center", color=MUTED, fontsize=9)
        axes.set_yticks(range(len(rows)), list(rows.index[::-1]))
        axes.set(xlabel=xlabel, title=title, ylim=(-0.6, len(rows) - 0.3))
        axes.grid(axis="x")
    return figure
