"""Figures of the 25 distortions and of data sets: the grid of all cells, curves over the levels, scores and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from gmiqa.data.distortions import GROUPS, TYPES, calibration
from gmiqa.figures.style import GROUP_COLOURS, INK, MUTED, PALETTE, style

if TYPE_CHECKING:
    import pandas as pd

BY_GROUP = [TYPES[i - 1] for ids in GROUPS.values() for i in ids]


def _array(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).cpu().numpy()


def window(pictures: Tensor, side: int) -> Tensor:
    """The middle of (n,3,h,w), at most side by side pixels, unscaled: artefacts show as they are."""
    h, w = pictures.shape[-2:]
    side = min(side, h, w)
    top, left = (h - side) // 2, (w - side) // 2
    return pictures[..., top : top + side, left : left + side]


def contact_sheet(pictures: Sequence[Tensor]) -> Any:
    """25 x (5,3,s,s) in [0,1], types 1..25 by levels 1..5 -> all 125 cells by group, each with its human score."""
    import matplotlib.pyplot as plt

    width, gap, title, columns = 9.0, 0.04, 0.2, 2
    side = (width - 0.3) / (5 * columns) - gap
    rows = -(-len(TYPES) // columns)
    height = rows * (side + gap + title)
    with style(0.8):
        figure = plt.figure(figsize=(width, height), layout="none")
        for place, entry in enumerate(BY_GROUP):
            left = place // rows * (width / 2 + 0.1)
            top = height - place % rows * (side + gap + title)
            bar = (left / width, (top - 0.17) / height, 0.06 / width, 0.13 / height)
            figure.add_artist(plt.Rectangle(bar[:2], *bar[2:], color=GROUP_COLOURS[entry.group]))
            figure.text((left + 0.12) / width, (top - 0.15) / height, f"{entry.id} {entry.title}", fontweight="bold")
            for level in range(5):
                x = left + level * (side + gap)
                axis = figure.add_axes((x / width, (top - title - side) / height, side / width, side / height))
                axis.imshow(_array(pictures[entry.id - 1][level]))
                axis.set_axis_off()
                score = calibration.MEAN[entry.id - 1][level]
                axis.text(
                    0.97, 0.04, f"{score:.1f}", ha="right", va="bottom", transform=axis.transAxes, color="white",
                    fontsize=8, bbox={"boxstyle": "square,pad=0.15", "fc": INK, "ec": "none", "alpha": 0.75},
                )  # fmt: skip
    return figure


def _short(title: str) -> str:
    """A title without a long remark in brackets."""
    name, _, remark = title.partition(" (")
    return title if len(remark) < 8 else name


def level_curves(metric: Tensor, name: str = "HaarPSI") -> Any:
    """(25,5) full-reference metric of our output in [0,1], beside KADID-10k's human score of the same cells."""
    import matplotlib.pyplot as plt

    levels = np.arange(1, 6)
    with style(0.8):
        figure, axes = plt.subplots(5, 5, figsize=(9, 7.4), sharex=True, sharey=True)
        for axis, entry in zip(axes.flat, BY_GROUP, strict=True):
            quality = calibration.QUALITY[entry.id - 1].numpy()
            spread = calibration.SPREAD[entry.id - 1].numpy()
            colour = GROUP_COLOURS[entry.group]
            axis.fill_between(levels, quality - spread, quality + spread, color=colour, alpha=0.18, lw=0)
            axis.plot(levels, quality, "-o", color=colour, ms=3.5)
            axis.plot(levels, metric[entry.id - 1], "--s", color=INK, ms=3, lw=1.2, mfc="white")
            axis.set_title(f"{entry.id} {_short(entry.title)}", fontsize=8, fontweight="normal", pad=3)
            axis.set_xticks(levels)
            axis.set_ylim(0, 1.05)
            if entry.id in calibration.UNORDERED:
                axis.set_facecolor("#f3f4f6")
        axes[-1, 2].set_xlabel("level")
        axes[2, 0].set_ylabel("quality, 0 to 1")
        handles = [
            plt.Line2D([], [], color=MUTED, marker="o", label="human score (KADID-10k), band: 1 standard deviation"),
            plt.Line2D([], [], color=INK, ls="--", marker="s", mfc="white", label=f"{name} of our output"),
            plt.Rectangle((0, 0), 1, 1, fc="#f3f4f6", ec=MUTED, label="level is no severity"),
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def cells_scatter(metric: Tensor, rho: float, name: str = "HaarPSI") -> Any:
    """All 125 cells: metric of our output against human score, one colour and marker per group."""
    import matplotlib.pyplot as plt

    markers = dict(zip(GROUPS, "os^DvPX", strict=True))
    with style():
        figure, axis = plt.subplots(figsize=(6.4, 4.6))
        for group, ids in GROUPS.items():
            index = [i - 1 for i in ids]
            axis.plot(
                metric[index].flatten(), calibration.QUALITY[index].flatten(), markers[group], ls="none", ms=5.5,
                color=GROUP_COLOURS[group], mec="white", mew=0.5, label=group,
            )  # fmt: skip
        axis.set_xlim(right=1.02)
        axis.set_xlabel(f"{name} of our output, 0 to 1")
        axis.set_ylabel("human score (KADID-10k), 0 to 1")
        axis.set_title(f"125 cells, Spearman {rho:.3f}")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def unordered_levels(pictures: Sequence[Tensor], metric: Tensor) -> Any:
    """The types whose level is no severity, pictures k x (5,3,s,s): each level with parameter, human score, metric."""
    import matplotlib.pyplot as plt

    with style(0.9):
        figure, axes = plt.subplots(len(calibration.UNORDERED), 5, figsize=(9, 2.25 * len(calibration.UNORDERED)))
        for row, (id, images) in enumerate(zip(calibration.UNORDERED, pictures, strict=True)):
            entry = TYPES[id - 1]
            for level, (axis, image) in enumerate(zip(axes[row], images, strict=True)):
                axis.imshow(_array(image))
                axis.set_xticks([])
                axis.set_yticks([])
                axis.set_title(f"level {level + 1}: {entry.levels[level]:+g}", loc="center", fontweight="normal")
                human = float(calibration.QUALITY[id - 1, level])
                axis.set_xlabel(f"human {human:.2f}, metric {float(metric[id - 1, level]):.2f}", fontsize=8.5)
            axes[row, 0].set_ylabel(entry.title)
    return figure


def levels_figure(picture: Tensor, levels: Tensor, metric: Tensor, id: int, name: str) -> Any:
    """A picture (3,h,w) and its five levels (5,3,h,w) of one type, with parameter, human score and metric of each."""
    import matplotlib.pyplot as plt

    entry = TYPES[id - 1]
    with style(0.9):
        figure, axes = plt.subplots(2, 3, figsize=(9, 5.2))
        titles = ["as it is"] + [f"level {v}: {entry.parameter} {p:g}" for v, p in enumerate(entry.levels, 1)]
        for k, (axis, image, title) in enumerate(zip(axes.flat, [picture, *levels], titles, strict=True)):
            axis.imshow(_array(image))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(title, loc="center", fontweight="normal")
            if k:
                human = float(calibration.QUALITY[id - 1, k - 1])
                axis.set_xlabel(f"human {human:.2f}, HaarPSI {float(metric[k - 1]):.2f}")
        figure.suptitle(f"{entry.title} on {name}")
    return figure


def dataset_overview(table: pd.DataFrame, sizes: Sequence[tuple[int, int]]) -> Any:
    """Quality, its spread and picture sizes (width, height) of a data set's records; sizes may be of a sample."""
    import matplotlib.pyplot as plt

    with style():
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 3.1))
        left.hist(table["quality"], bins=np.linspace(0, 1, 26), color=PALETTE[0])
        left.set(xlabel="quality, 0 to 1", ylabel="pictures", title="Scores")
        if table["spread"].notna().any():
            middle.plot(table["quality"], table["spread"], ".", color=PALETTE[0], ms=4, alpha=0.5)
        else:
            middle.text(0.5, 0.5, "none given", ha="center", va="center", color=MUTED, transform=middle.transAxes)
        middle.set(xlabel="quality, 0 to 1", ylabel="standard deviation", title="Spread of opinions", ylim=(0, None))
        unique, counts = np.unique(np.array(sizes), axis=0, return_counts=True)
        right.scatter(unique[:, 0], unique[:, 1], s=20 + 180 * counts / counts.max(), color=PALETTE[1], alpha=0.7)
        limits = {"xlim": (0, 1.15 * unique[:, 0].max()), "ylim": (0, 1.15 * unique[:, 1].max())}
        right.set(xlabel="width, px", ylabel="height, px", title="Sizes (area: how many)", **limits)
    return figure


def examples(pictures: Sequence[Tensor], labels: Sequence[str]) -> Any:
    """Pictures side by side, uint8 (3,h,w), each under its label."""
    import matplotlib.pyplot as plt

    with style(0.9):
        figure, axes = plt.subplots(1, len(pictures), figsize=(9, 2.3), squeeze=False)
        for axis, picture, label in zip(axes[0], pictures, labels, strict=True):
            axis.imshow(_array(picture))
            axis.set_axis_off()
            axis.set_title(label, loc="center", fontweight="normal")
    return figure
