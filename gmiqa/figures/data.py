"""What the data look like: the contents of a run, and how the splits of a data set cut it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gmiqa.figures.style import INK, MUTED, PALETTE, REPORT_WIDTH, style

if TYPE_CHECKING:
    from gmiqa.data.datasets import Dataset
    from gmiqa.data.synthetic import Content

PARTS = {"train": PALETTE[4], "validation": INK, "test": PALETTE[1]}  # apart in grey, too


def contents(chosen: Sequence[Content], columns: int = 6, most: int = 24) -> Any:
    """The pristine pictures by kind, up to `most`, each with its name and size."""
    import matplotlib.pyplot as plt

    ordered = sorted(chosen, key=lambda content: (content.kind != "photograph", content.name))
    shown = [ordered[i] for i in np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int)]
    rows = -(-len(shown) // columns)
    with style():
        figure, axes = plt.subplots(rows, columns, figsize=(REPORT_WIDTH, 1.55 * rows + 0.3), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, content in zip(axes.flat, shown, strict=False):
            height, width = content.image.shape[1:]
            axis.imshow(content.image.permute(1, 2, 0).numpy(), interpolation="antialiased")
            axis.set_title(
                f"{content.name}\n{content.kind}, {width} x {height}", fontsize=7.5, weight="normal", loc="center"
            )
        if len(shown) < len(ordered):
            figure.suptitle(f"{len(shown)} of {len(ordered)} contents", fontsize=10)
    return figure


def splits(dataset: Dataset, most: int = 300) -> Any:
    """One row per split; from left to right the split units by mean quality, coloured by the part that they are in."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    from gmiqa.data.datasets import STORED, DatasetError, split

    units = dataset.units().astype(str)
    names, member = np.unique(units, return_inverse=True)
    quality = np.bincount(member, dataset.table["quality"]) / np.bincount(member)
    order = np.argsort(quality, kind="stable")
    order = order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))]
    labels, rows, counts = [], [], []
    chosen: list[int | str] = [*STORED, "official"]
    for which in chosen:
        try:
            part = split(dataset, which)
        except DatasetError:
            continue
        code = np.zeros(len(names))
        for k, side in enumerate(PARTS):
            code[member[getattr(part, side)]] = k
        labels.append(str(which))
        rows.append(code[order])
        counts.append(" / ".join(f"{len(getattr(part, side)):,}" for side in PARTS))
    with style():
        figure, axis = plt.subplots(figsize=(REPORT_WIDTH, 0.27 * len(rows) + 1.25))
        axis.imshow(
            rows, aspect="auto", cmap=ListedColormap(list(PARTS.values())), vmin=0, vmax=2, interpolation="nearest"
        )
        for k in range(1, len(rows)):
            axis.axhline(k - 0.5, color="white", linewidth=2)
        axis.set_yticks(range(len(rows)), labels)
        axis.set_ylabel("split")
        axis.set_xticks([])
        few = f", {len(order)} of {len(names):,} shown" if len(order) < len(names) else ""
        axis.set_xlabel(f"{len(names):,} {dataset.unit}s{few}: lowest mean quality  →  highest")
        right = axis.secondary_yaxis("right")
        right.set_yticks(range(len(rows)), counts)
        right.set_ylabel("pictures: train / validation / test", color=MUTED)
        axis.legend(handles=[Patch(color=colour, label=side) for side, colour in PARTS.items()], ncols=3,
                    loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)  # fmt: skip
        for edge in axis.spines.values():
            edge.set_visible(False)
    return figure
