"""Maps of the network's codes: colour is the group of the distortion, shape and size are its level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmiqa.data.distortions import GROUPS, TYPES
from gmiqa.experiments.embeddings import MEASURES
from gmiqa.figures.style import GROUP_COLOURS, INK, MUTED, PALETTE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL_MARKERS = ("o", "^", "s", "D", "X")  # levels 1 to 5, growing, so that they can be told apart in a grey print, too
GREY = "#d5d9de"


def _size(level: int) -> float:
    return 9 + 5 * level


def _bare(ax: Axes, title: str = "") -> None:
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(GREY)
    ax.set_aspect("equal", adjustable="datalim")


def _points(ax: Axes, Y: np.ndarray, levels: np.ndarray, colours: Any, use: np.ndarray | None = None) -> None:
    colours = np.asarray(colours)
    for level, marker in enumerate(LEVEL_MARKERS, 1):
        rows = (levels == level) & (True if use is None else use)
        look: dict[str, Any] = {"s": _size(level), "marker": marker, "linewidths": 0.3, "edgecolors": "white"}
        ax.scatter(Y[rows, 0], Y[rows, 1], c=colours[rows], zorder=3, **look)


def _colours(types: np.ndarray) -> np.ndarray:
    by_type = {i: GROUP_COLOURS[group] for group, ids in GROUPS.items() for i in ids}
    return np.array([by_type[int(t)] for t in types])


def _legends(figure: Figure, groups: bool = True, levels: bool = True) -> None:
    """Below the figure: groups in the first row, levels in the second."""
    from matplotlib.lines import Line2D

    blank = Line2D([], [], ls="", label=" ")
    first = [Line2D([], [], ls="", marker="o", ms=6, color=c, label=g) for g, c in GROUP_COLOURS.items()]
    second = [Line2D([], [], ls="", marker=m, ms=3.2 + 0.7 * level, color=MUTED, label=f"level {level}")
              for level, m in enumerate(LEVEL_MARKERS, 1)]  # fmt: skip
    if groups and levels:  # a legend fills its columns one by one
        second += [blank] * (len(first) - len(second))
        handles = [handle for pair in zip(first, second, strict=True) for handle in pair]
    else:
        handles = first if groups else second
    figure.legend(handles=handles, loc="outside lower center", ncols=7, handletextpad=0.2, columnspacing=1.4)


def maps(panels: dict[str, np.ndarray], types: np.ndarray, levels: np.ndarray) -> Figure:
    """Maps (n,2) side by side: title -> points. Colour by group, marker by level."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, len(panels), figsize=(9, 9 / len(panels) * 0.92 + 0.7), squeeze=False)
        for ax, (title, Y) in zip(axes[0], panels.items(), strict=True):
            _points(ax, Y, levels, _colours(types))
            _bare(ax, title)
        _legends(figure)
    return figure


def common_axes(panels: dict[str, np.ndarray], types: np.ndarray, levels: np.ndarray) -> Figure:
    """Like `maps`, with the same limits in every panel, so that one sees what has moved."""
    figure = maps(panels, types, levels)
    Y = np.concatenate(list(panels.values()))
    middle, half = (Y.max(0) + Y.min(0)) / 2, (Y.max(0) - Y.min(0)).max() / 2 * 1.05
    for ax in figure.axes:
        ax.set_aspect("equal", adjustable="box")
        ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    return figure


def groups(Y: np.ndarray, types: np.ndarray, levels: np.ndarray) -> Figure:
    """One small map per group of types: its types in colours, everything else grey."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    with style(0.88):
        figure, axes = plt.subplots(2, 4, figsize=(9, 6.4))
        for ax, (group, ids) in zip(axes.flat, GROUPS.items(), strict=False):
            inside = np.isin(types, ids)
            ax.scatter(Y[~inside, 0], Y[~inside, 1], s=4, c=GREY, linewidths=0, zorder=1)
            colour = {i: PALETTE[k % len(PALETTE)] for k, i in enumerate(ids)}
            _points(ax, Y, levels, np.array([colour.get(int(t), GREY) for t in types]), inside)
            _bare(ax, group)
            names = [Line2D([], [], ls="", marker="o", ms=5, color=colour[i], label=_short(i)) for i in ids]
            ax.legend(handles=names, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=1, handletextpad=0.1,
                      labelspacing=0.15, fontsize=8)  # fmt: skip
        axes.flat[-1].set_axis_off()
        _legends(figure, groups=False)
    return figure


def _short(type_id: int) -> str:
    name, _, more = TYPES[type_id - 1].title.partition(" (")
    return f"{type_id} {name} ({more}" if 0 < len(more) < 7 else f"{type_id} {name}"


def values(Y: np.ndarray, levels: np.ndarray, columns: dict[str, np.ndarray]) -> Figure:
    """The same points once per column, coloured by its values (title -> (n,)); dark is low."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, len(columns), figsize=(9, 9 / len(columns) * 0.88 + 0.4), squeeze=False)
        for ax, (title, column) in zip(axes[0], columns.items(), strict=True):
            for level, marker in enumerate(LEVEL_MARKERS, 1):
                rows = levels == level
                look: dict[str, Any] = {"s": _size(level), "marker": marker, "cmap": "cividis", "linewidths": 0}
                dots = ax.scatter(Y[rows, 0], Y[rows, 1], c=column[rows], vmin=column.min(), vmax=column.max(), **look)
            _bare(ax, title)
            figure.colorbar(dots, ax=ax, location="bottom", shrink=0.8, pad=0.02, aspect=30)
        _legends(figure, groups=False)
    return figure


def strip(panels: dict[tuple[int, int], np.ndarray], types: np.ndarray) -> Figure:
    """Small maps for (neighbours, seed): what stays over both belongs to the codes, the rest belongs to the map."""
    import matplotlib.pyplot as plt

    rows, columns = (sorted({key[k] for key in panels}) for k in (0, 1))
    with style(0.9):
        figure, axes = plt.subplots(len(rows), len(columns), figsize=(9, 2.9 * len(rows) + 0.3), squeeze=False)
        for (neighbours, seed), Y in panels.items():
            ax = axes[rows.index(neighbours)][columns.index(seed)]
            ax.scatter(Y[:, 0], Y[:, 1], s=5, c=_colours(types), linewidths=0)
            _bare(ax, f"{neighbours} neighbours, seed {seed}")
        _legends(figure, levels=False)
    return figure


def numbers(table: pd.DataFrame) -> Figure:
    """Measures in the original space: one panel each, codes as rows, intervals, chance as a dashed line.

    table: columns measure, codes, value, low, high, chance.
    """
    import matplotlib.pyplot as plt

    names: Sequence[str] = [m for m in MEASURES if m in set(table.measure)]
    codes = list(dict.fromkeys(table.codes))
    with style():
        figure, axes = plt.subplots(1, len(names), figsize=(9, 1.4 + 0.42 * len(codes)), sharey=True, squeeze=False)
        for ax, name in zip(axes[0], names, strict=True):
            part = table[table.measure == name].set_index("codes").loc[codes]
            y = np.arange(len(codes))[::-1]
            ax.axvline(part.chance.iloc[0], color=MUTED, ls="--", lw=1)
            ax.hlines(y, part.low, part.high, color=PALETTE[0], lw=2)
            ax.plot(part.value, y, "o", color=INK, ms=5)
            ax.set(yticks=y, yticklabels=codes, ylim=(-0.6, len(codes) - 0.4))
            ax.set_title(MEASURES[name], fontsize=10)
            ax.grid(axis="x")
        figure.supxlabel("value with 95 % interval; dashed: chance", fontsize=10)
    return figure


def pictures(Y: np.ndarray, chosen: np.ndarray, images: np.ndarray, titles: list[str], colours: list[str]) -> Figure:
    """All points in grey; the `chosen` ones with their pictures (k,h,w,3), framed in the colour of their group."""
    import matplotlib.pyplot as plt
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    with style():
        figure, ax = plt.subplots(figsize=(9, 6.2))
        ax.scatter(Y[:, 0], Y[:, 1], s=7, c=GREY, linewidths=0)
        for row, image, title, colour in zip(chosen, images, titles, colours, strict=True):
            box = OffsetImage(image, zoom=46 / max(image.shape[:2]))
            frame = {"edgecolor": colour, "linewidth": 2, "boxstyle": "square,pad=0.05"}
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.75}
            ax.add_artist(AnnotationBbox(box, tuple(Y[row]), bboxprops=frame))
            ax.annotate(title, tuple(Y[row]), xytext=(0, -27), textcoords="offset points", ha="center", va="top",
                        fontsize=7.5, zorder=9, bbox=paper)  # fmt: skip
        ax.margins(0.07)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure
