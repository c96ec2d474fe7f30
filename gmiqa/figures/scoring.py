"""Figures of scores: one picture and its map, a distortion over its levels, a ranking."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.figures.style import GROUP_COLOURS, INK, MUTED, PALETTE, style

if TYPE_CHECKING:
    from gmiqa.score import QualityMap, Score



def overlay(picture: Tensor, quality_map: QualityMap) -> Tensor:
    """The picture in grey, its bad places in vermilion: uint8 (3,H,W) -> uint8 (3,H,W)."""
    from gmiqa.score import quality_map as maps

    return torch.from_numpy(maps.overlay(picture.cpu().numpy(), quality_map))


def score_figure(name: str, picture: Tensor, score: Score, quality_map: QualityMap) -> Any:
    """The picture, where it is bad, and the score with its interval on the scale."""
    import matplotlib.pyplot as plt

    with style():
        figure = plt.figure(figsize=(9.0, 4.6))
        left, right, low = figure.subplot_mosaic([["a", "b"], ["c", "c"]], height_ratios=[4, 1]).values()
        _picture(left, picture, f"{name}: {score.quality:.0f} of 100")
        _picture(right, overlay(picture, quality_map), "Where it is worst (orange)")
        x, y = quality_map.worst
        scale = picture.shape[2] / quality_map.width
        right.plot(x * scale, y * scale, "o", mfc="none", mec="white", mew=2, ms=18, clip_on=False,
                   scalex=False, scaley=False)  # whole at the border, and the picture keeps its size
        _scale(low, [score], [""])
        low.set_xlabel(f"quality, 0 to 100, with 90 % interval; most probable distortion: {score.guess}")
    return figure


def explorer_figure(title: str, pictures: list[Tensor], scores: list[Score], group: str) -> Any:
    """A type's levels side by side, above the curve of their scores; level 0 is the picture as it is."""
    import matplotlib.pyplot as plt

    with style():
        figure = plt.figure(figsize=(9.0, 4.4))
        columns = "abcdef"[: len(pictures)]
        axes = figure.subplot_mosaic([list(columns), ["z"] * len(columns)], height_ratios=[2, 3])
        for level, (letter, picture, score) in enumerate(zip(columns, pictures, scores, strict=True)):
            _picture(
                axes[letter], picture, f"level {level}: {score.quality:.0f}" if level else f"as is: {score.quality:.0f}"
            )
        levels = np.arange(len(scores))
        quality, low, high = (np.array([getattr(s, key) for s in scores]) for key in ("quality", "low", "high"))
        colour = GROUP_COLOURS[group]
        axes["z"].fill_between(levels, low, high, color=colour, alpha=0.15, lw=0, label="90 % interval")
        axes["z"].plot(levels, quality, "o-", color=colour, label="predicted quality")
        axes["z"].set(title=title, xlabel="level", ylabel="quality, 0 to 100", ylim=(0, 100), xticks=levels)
        axes["z"].set_xticklabels(["as is", *levels[1:]])
        axes["z"].legend(ncols=2, loc="upper right")
    return figure


def pair_figure(names: list[str], pictures: list[Tensor], scores: list[Score], verdict: str) -> Any:
    """Two pictures and their intervals on one scale."""
    import matplotlib.pyplot as plt

    with style():
        figure = plt.figure(figsize=(9.0, 4.6))
        left, right, low = figure.subplot_mosaic([["a", "b"], ["c", "c"]], height_ratios=[3, 1]).values()
        for axis, letter, name, picture in zip((left, right), "AB", names, pictures, strict=True):
            _picture(axis, picture, f"{letter}: {name}")
        _scale(low, scores, ["A", "B"])
        low.set_xlabel(f"quality, 0 to 100, with 90 % interval. {verdict}")
    return figure


def ranking_figure(names: list[str], pictures: list[Tensor], scores: list[Score], columns: int = 7) -> Any:
    """Pictures from worst to best with their scores."""
    import matplotlib.pyplot as plt

    order = sorted(range(len(scores)), key=lambda i: scores[i].quality)
    rows = -(-len(order) // columns)
    with style(0.85):
        figure, axes = plt.subplots(rows, columns, figsize=(9.0, 1.95 * rows), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, i in zip(axes.flat, order, strict=False):
            _picture(axis, _square(pictures[i]), f"{scores[i].quality:.0f} ± {scores[i].sigma:.0f}")
            name = "\n".join(textwrap.wrap(names[i], 18)[:3])
            axis.text(0, -0.05, name, transform=axis.transAxes, va="top", fontsize=7.5, color=MUTED)
    return figure


def _square(picture: Tensor) -> Tensor:
    """The middle of a picture, so that all pictures in a grid have one size."""
    side = min(picture.shape[1:])
    top, left = (picture.shape[1] - side) // 2, (picture.shape[2] - side) // 2
    return picture[:, top : top + side, left : left + side]


def _picture(axis: Any, picture: Tensor, title: str) -> None:
    from gmiqa.data import images

    axis.imshow(images.limit(picture, 480).permute(1, 2, 0).numpy())
    axis.set_title(title, loc="left")
    axis.axis("off")


def _scale(axis: Any, scores: list[Score], labels: list[str]) -> None:
    for row, (score, colour) in enumerate(zip(scores, PALETTE, strict=False)):
        axis.plot([score.low, score.high], [-row, -row], color=colour, lw=8, alpha=0.35, solid_capstyle="butt")
        axis.plot(score.quality, -row, "|", color=colour, ms=18, mew=3)
        axis.text(score.high + 1, -row, f"{score.quality:.0f}", va="center", color=INK)
    axis.set(xlim=(0, 100), ylim=(0.4 - len(scores), 0.6), yticks=[-i for i in range(len(labels))], yticklabels=labels)
    axis.spines["left"].set_visible(False)
    axis.tick_params(left=False)
