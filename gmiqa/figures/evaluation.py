"""Methods against human scores: values with intervals, per distortion type, predicted against human, ablations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmiqa.data.distortions import TYPES
from gmiqa.figures.style import GRID, INK, MUTED, PALETTE, REPORT_WIDTH, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTCOME = {"better": ("^", PALETTE[0]), "worse": ("v", PALETTE[3]), "no difference": ("s", PALETTE[2]),
           "undecided": ("o", MUTED)}  # fmt: skip


def _intervals(ax: Axes, y: np.ndarray, table: pd.DataFrame, colour: str, marker: str = "o", label: str = "") -> None:
    ax.hlines(y, table["low"], table["high"], color=colour, lw=2)
    ax.plot(table["value"], y, marker, color=colour, ms=6, label=label or None, ls="")


def methods(scored: pd.DataFrame, metrics: dict[str, str], ours: str, part: str = "part") -> Figure:
    """One panel per metric (name -> title), methods as rows, one marker per part of the test pictures.

    scored: columns method, <part>, metric, value, low, high, n.
    """
    import matplotlib.pyplot as plt

    parts = list(dict.fromkeys(scored[part]))
    first = scored[(scored.metric == next(iter(metrics))) & (scored[part] == parts[0])].set_index("method")["value"]
    names = list(first.fillna(-2).sort_values().index)
    with style():
        height = 1.3 + 0.5 * len(names)
        figure, axes = plt.subplots(1, len(metrics), figsize=(9, height), sharey=True, squeeze=False)
        for ax, (metric, title) in zip(axes[0], metrics.items(), strict=True):
            ax.axvline(0, color=MUTED, lw=1)
            for k, name in enumerate(parts):
                rows = scored[(scored.metric == metric) & (scored[part] == name)].set_index("method").reindex(names)
                offset = (k - (len(parts) - 1) / 2) * -0.24
                label = f"{name}, n = {int(rows['n'].max())}"
                _intervals(ax, np.arange(len(names)) + offset, rows, PALETTE[k], "osD^"[k % 4], label)
            for place in np.flatnonzero(rows["value"].isna()):
                ax.text(0.02, float(place), "not defined: constant", va="center", color=MUTED, fontsize=9)
            ax.set(title=title, yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4))
            ax.grid(axis="x")
        for text in axes[0][0].get_yticklabels():
            text.set_fontweight("bold" if text.get_text() == ours else "normal")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(parts))
    return figure


def per_type(scored: pd.DataFrame, types: dict[Any, str] | None = None) -> Figure:
    """SROCC for every distortion type (rows) and method (columns), the best of a row bold; grey: not defined.

    scored: columns method, type, value.
    """
    import matplotlib.pyplot as plt

    titles = types or {t.id: f"{t.id} {t.title.split(' (')[0]}" for t in TYPES}
    grid = scored.pivot(index="type", columns="method", values="value")
    grid = grid.reindex(index=[t for t in titles if t in grid.index], columns=list(dict.fromkeys(scored.method)))
    with style(0.88):
        figure, ax = plt.subplots(figsize=(9, 1.1 + 0.27 * len(grid)))
        colours = plt.get_cmap("cividis").with_extremes(bad=GRID)
        picture = ax.imshow(np.ma.masked_invalid(grid.to_numpy(float)), cmap=colours, vmin=-1, vmax=1, aspect="auto")
        for i, row in enumerate(grid.to_numpy(float)):
            for j, value in enumerate(row):
                if np.isfinite(value):
                    ink = "white" if value < 0.3 else "black"
                    best = np.isclose(round(value, 2), np.nanmax(np.round(row, 2)))
                    weight = "bold" if best else "normal"
                    ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink, fontweight=weight)
        ax.set(xticks=range(grid.shape[1]), yticks=range(len(grid)), yticklabels=[titles[t] for t in grid.index])
        ax.set_xticklabels(grid.columns, rotation=20, ha="left")
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        figure.colorbar(picture, ax=ax, label="SROCC", shrink=0.5, aspect=30)
    return figure


def predicted(panels: dict[str, np.ndarray], target: np.ndarray, part: np.ndarray) -> Figure:
    """Predicted against human score, one panel per method; the line is the fitted four-parameter logistic."""
    import matplotlib.pyplot as plt

    from gmiqa.evaluate import fit_logistic, logistic
    from gmiqa_core.errors import UserError

    names = list(dict.fromkeys(part))
    with style():
        figure, axes = plt.subplots(1, len(panels), figsize=(9, 9 / len(panels) + 0.5), sharey=True, squeeze=False)
        for ax, (title, prediction) in zip(axes[0], panels.items(), strict=True):
            for k, name in enumerate(names):
                use = part == name
                look: dict[str, Any] = {"color": PALETTE[k], "ms": 4, "alpha": 0.6, "mew": 0, "label": name}
                ax.plot(prediction[use], target[use], "os^D"[k % 4], **look)
            try:
                x = np.linspace(prediction.min(), prediction.max(), 100)
                ax.plot(x, logistic(x, fit_logistic(prediction, target)), color=INK, lw=1.5)
            except UserError:  # a constant has no curve
                pass
            ax.set(title=title, xlabel="predicted quality", ylim=(-0.03, 1.03))
        axes[0][0].set_ylabel("KADID-calibrated human score")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    return figure


def worst(pictures: list[np.ndarray], captions: list[str], columns: int = 4) -> Figure:
    """Pictures (h,w,3) uint8 with two lines of text below each."""
    import matplotlib.pyplot as plt

    rows = -(-len(pictures) // columns)
    with style(0.86):
        figure, axes = plt.subplots(rows, columns, figsize=(9, 2.3 * rows), squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, picture, caption in zip(axes.flat, pictures, captions, strict=False):
            ax.imshow(picture)
            ax.set_anchor("SW")  # captions stand in line
            ax.text(0, -0.03, caption, transform=ax.transAxes, va="top", fontsize=8.5, linespacing=1.35)
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Left the SROCC of every row, right its difference to the row it is compared with; triangles are decided."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    gaps = (table.part != table.part.shift()).cumsum().to_numpy() - 1
    y = -(np.arange(len(table)) + 0.6 * gaps)
    with style():
        size = (9, 1.6 + 0.36 * len(table))
        figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(1, 1.15))
        named = {"srocc": "value", "srocc_low": "low", "srocc_high": "high"}
        _intervals(left, y, table.rename(columns=named), PALETTE[0])
        left.set(yticks=y, yticklabels=table.title, title="SROCC")
        right.axvline(0, color=MUTED, lw=1)
        for place, (_, row) in zip(y, table.iterrows(), strict=True):
            if isinstance(row.get("outcome"), str):
                marker, colour = OUTCOME[row.outcome]
                right.hlines(place, row.delta_low, row.delta_high, color=colour, lw=2)
                right.plot(row.delta, place, marker, color=colour, ms=7)
                right.text(1.01, place, f"against {row.against}", transform=right.get_yaxis_transform(), va="center",
                           fontsize=8.5, color=MUTED)  # fmt: skip
        right.set_title("difference in SROCC")
        for ax in (left, right):
            ax.grid(axis="x")
        marks = [Line2D([], [], ls="", marker=m, color=c, ms=7, label=name) for name, (m, c) in OUTCOME.items()]
        figure.legend(handles=marks, loc="outside lower center", ncols=3)
    return figure


def in_margins(rows: pd.DataFrame) -> Any:
    """Differences with their 95 % intervals in units of their margins, a row each (short, value, low, high, margin);
    an interval that leaves the axis ends in an arrow. More than 0 speaks for the claim."""
    import matplotlib.pyplot as plt

    shown = rows.assign(order=rows["value"] / rows["margin"]).sort_values("order")
    span = float(np.clip((shown[["low", "high"]].abs().max(axis=1) / shown["margin"]).quantile(0.8) * 1.2, 2.5, 15))
    with style():
        figure, axes = plt.subplots(figsize=(REPORT_WIDTH, 0.9 + 0.34 * len(shown)))
        axes.axvspan(-1, 1, color=GRID)
        axes.axvline(0, color=MUTED, linewidth=1)
        for place, row in enumerate(shown.itertuples()):
            low, value, high = (x / row.margin for x in (row.low, row.value, row.high))
            colour = PALETTE[0] if low > 0 else PALETTE[3] if high < 0 else MUTED
            axes.plot(np.clip([low, high], -span, span), [place, place], color=colour, linewidth=2.4)
            for end in (x for x in (low, high) if abs(x) > span):
                axes.plot(np.copysign(span, end), place, ">" if end > 0 else "<", color=colour, markersize=7,
                          clip_on=False)
            if abs(value) <= span:
                axes.plot(value, place, "o", color=colour, markersize=7)
            axes.annotate(f"{row.value:+.3f}", (1.01, place), xycoords=("axes fraction", "data"), va="center",
                          color=MUTED, fontsize=9)
        axes.set_yticks(range(len(shown)), list(shown["short"]))
        axes.set(xlabel="difference in margins; right of 0 speaks for the claim", xlim=(-span, span),
                 ylim=(-0.6, len(shown) - 0.4))
    return figure
