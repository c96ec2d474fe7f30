"""Figures of distortion graphs: pictures as nodes, edges before and after the GCN, smoothing, separation, spreads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.figures.style import INK, MUTED, PALETTE, PAPER, REPORT_WIDTH, style

MARKERS = "osD^v"
LAYOUT = 1.0  # radius of the circle of nodes


def graph(data: Any, title: str) -> Any:
    """A distortion graph twice, its pictures on a circle: lines before the GCN are cosines of nodes, after it the mean
    over the edge's channels. Darker and wider means larger. Each panel has its own scale, which its colour bar gives.

    data    graph_probe.distortion_graph(..., image=(N,3,h,w), level=(N,))
    """
    import matplotlib.pyplot as plt

    before, after = _matrices(data)
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(REPORT_WIDTH, 4.9))
        for ax, weights, label in ((axes[0], before, "before the GCN: cosine of two nodes"),
                                   (axes[1], after, "after it: mean of the edge's channels")):
            _draw(figure, ax, data, weights, label)
        figure.suptitle(title)
    return figure


def edges(data: Any, title: str) -> Any:
    """The same numbers as two (N,N) tables, with the nodes in the order of their levels."""
    import matplotlib.pyplot as plt

    order = np.argsort(_list(data.level), kind="stable")
    levels = [_list(data.level)[i] for i in order]
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(REPORT_WIDTH, 4.3))
        for ax, weights, label in zip(axes, _matrices(data), ("before: cosine of two nodes",
                                                              "after: mean of the edge's channels"), strict=True):
            shown = ax.imshow(weights[np.ix_(order, order)], cmap="viridis")
            ax.set(title=label, xlabel="level of node j", ylabel="level of node i")
            ax.set_xticks(range(len(levels)), levels)
            ax.set_yticks(range(len(levels)), levels)
            figure.colorbar(shown, ax=ax, shrink=0.85)
        figure.suptitle(title)
    return figure


def _matrices(data: Any) -> tuple[np.ndarray, np.ndarray]:
    n = data.num_nodes
    return data.edge_cosine.view(n, n).numpy(), data.edge_attr.mean(-1).view(n, n).numpy()


def _list(values: Any) -> list[int]:
    return [int(v) for v in values]


def _draw(figure: Any, ax: Any, data: Any, weights: np.ndarray, label: str) -> None:
    import matplotlib as mpl
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    n = data.num_nodes
    angle = [math.pi / 2 - 2 * math.pi * i / n for i in range(n)]
    place = [(LAYOUT * math.cos(a), LAYOUT * math.sin(a)) for a in angle] if n > 1 else [(0.0, 0.0)]
    pairs = [(i, j) for i in range(n) for j in range(i)]
    if pairs:
        values = [float(weights[i, j]) for i, j in pairs]
        low, high = min(values), max(values)
        scale = mpl.colors.Normalize(low, high if high > low else low + 1e-6)
        colours = mpl.colormaps["viridis_r"]
        for value, (i, j) in sorted(zip(values, pairs, strict=True)):
            share = float(scale(value))
            ax.plot(*zip(place[i], place[j], strict=True), color=colours(share), linewidth=0.6 + 3.4 * share,
                    alpha=0.35 + 0.6 * share, zorder=1 + share)
        figure.colorbar(mpl.cm.ScalarMappable(scale, colours), ax=ax, shrink=0.7, pad=0.02)
    side = 105 * (min(1.0, 1.05 * math.sin(math.pi / n)) if n > 1 else 0.9)  # points
    for (x, y), picture, level in zip(place, data.image, _list(data.level), strict=True):
        pixels = picture.permute(1, 2, 0).float().numpy()
        box = OffsetImage(np.clip(pixels / (255 if pixels.max() > 1.5 else 1), 0, 1), zoom=side / max(pixels.shape))
        ax.add_artist(AnnotationBbox(box, (x, y), pad=0.12, bboxprops={"edgecolor": MUTED}, zorder=5))
        ax.annotate(f"level {level}", (x, y), (0, -side / 2 - 3), textcoords="offset points", ha="center", va="top",
                    fontsize=8.5, color=INK, zorder=6, bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6})
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), xticks=[], yticks=[], title=label, aspect="equal")
    ax.spines[:].set_visible(False)


def smoothing(frame: pd.DataFrame) -> Any:
    """Edge variance as a share of energy, per layer: a panel per `network`, a line per N; log axis.

    frame    network, residual, N, layer (0: before the GCN), variance
    """
    import matplotlib.pyplot as plt

    networks = list(dict.fromkeys(frame["network"]))
    with style():
        figure, axes = plt.subplots(1, len(networks), figsize=(REPORT_WIDTH, 3.6), sharey=True, squeeze=False)
        for ax, name in zip(axes[0], networks, strict=True):
            part = frame[frame["network"] == name]
            for colour, marker, (n, lines) in zip(PALETTE, MARKERS, part.groupby("N"), strict=False):
                for residual, line in lines.groupby("residual"):
                    ax.plot(line["layer"], 100 * line["variance"], "--" if residual else "-", color=colour,
                            marker=marker, label=f"N = {n}" + (", residual" if residual else ""))
            ax.set(yscale="log", xlabel="layers passed", title=name)
            ax.set_xticks(sorted(part["layer"].unique()))
            ax.grid(axis="y")
        axes[0, 0].set_ylabel("edge variance, % of energy")
        axes[0, -1].legend(fontsize=8.5)
    return figure


def separation(metrics: pd.DataFrame, sizes: list[int], chance: float, baseline: float) -> Any:
    """Over training, on unseen contents: nearest-neighbour type accuracy and the error of the level branch, by N.

    metrics     training.History.metrics of a run with graph_probe.watch
    baseline    level error of always answering the mean severity
    """
    import matplotlib.pyplot as plt

    rows = metrics[metrics["part"] == "validation"]
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(REPORT_WIDTH, 3.4))
        for colour, marker, n in zip(PALETTE, MARKERS, sizes, strict=False):
            for ax, name in ((left, "type_accuracy"), (right, "level_error")):
                line = rows[rows["name"] == f"{name}_{n}"]
                ax.plot(line["step"], line["value"], color=colour, marker=marker, label=f"N = {n}")
        left.axhline(chance, color=MUTED, linestyle=":", label="chance")
        right.axhline(baseline, color=MUTED, linestyle=":", label="always the mean")
        left.set(xlabel="step", ylim=(0, 1), title="Type named by the nearest code")
        right.set(xlabel="step", title="Level: mean absolute error")
        right.set_ylim(0, 1.15 * max(baseline, rows[rows["name"].str.startswith("level_error")]["value"].max()))
        for ax in (left, right):
            ax.xaxis.get_major_locator().set_params(integer=True)
        left.legend(loc="upper left")
        right.legend(loc="lower left")
    return figure


def spreads(cells: Mapping[str, pd.DataFrame]) -> Any:
    """Predicted sigma against the spread of human scores, one point per (type, level) cell, a panel per loss.

    cells    name of the loss -> columns spread, sigma
    """
    import matplotlib.pyplot as plt

    top = 1.1 * max(max(table["spread"].max(), table["sigma"].max()) for table in cells.values())
    with style():
        figure, axes = plt.subplots(1, len(cells), figsize=(REPORT_WIDTH, 3.9), sharey=True, sharex=True, squeeze=False)
        for ax, colour, (name, table) in zip(axes[0], PALETTE, cells.items(), strict=False):
            ax.scatter(table["spread"], table["sigma"], s=20, color=colour, alpha=0.75, linewidth=0)
            ax.plot([0, top], [0, top], ":", color=MUTED, linewidth=1)
            ax.set(title=name, xlabel="spread of human scores in the cell", xlim=(0, top), ylim=(0, top))
        axes[0, 0].set_ylabel("sigma of the level branch")
        axes[0, 0].text(0.97 * top, 0.9 * top, "equal", ha="right", color=MUTED)
    return figure


def controls(gains: pd.DataFrame) -> Any:
    """What the trained edges add to each outcome, against every control and reference, with 95 % intervals.

    gains    graph_controls.gains: outcome, against, delta, low, high
    """
    import matplotlib.pyplot as plt

    titles = {"type": "type accuracy", "neighbour": "type by nearest code", "level": "level error",
              "severity": "error of mean severity", "score": "SROCC of scores"}
    shown = [name for name in titles if (gains["outcome"] == name).any()]
    counts = [int((gains["outcome"] == name).sum()) for name in shown]
    with style():
        figure, axes = plt.subplots(len(shown), 1, figsize=(REPORT_WIDTH, 0.9 * len(shown) + 0.32 * sum(counts)),
                                    squeeze=False, gridspec_kw={"height_ratios": [c + 0.5 for c in counts]})
        for ax, name in zip(axes[:, 0], shown, strict=True):
            part = gains[gains["outcome"] == name][::-1]
            y = np.arange(len(part))
            ax.axvline(0, color=MUTED, linewidth=1, linestyle=":")
            ax.hlines(y, part["low"].fillna(part["delta"]), part["high"].fillna(part["delta"]), color=PALETTE[0])
            ax.plot(part["delta"], y, "o", color=PALETTE[0])
            reach = 1.15 * max(0.01, float(part[["delta", "low", "high"]].abs().max().max()))
            ax.set(xlim=(-reach, reach), ylim=(-0.6, len(part) - 0.4),
                   title=f"{titles[name]}: with the trained edges minus without, "
                         f"{'lower' if name in ('level', 'severity') else 'higher'} is better")
            ax.set_yticks(y, part["against"])
    return figure
