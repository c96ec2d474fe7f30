"""A map of codes whose points show their pictures on hover and on keyboard focus; in print, some of them do."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
from torch import Tensor

from gmiqa.data.distortions import GROUPS, TYPES
from gmiqa.figures.style import GROUP_COLOURS
from gmiqa.widgets import interactive

WIDE, HIGH = 860, 560  # px of the map on the page
STYLE = """<style>
.gmiqa-map { position: relative; border: 1px solid #d5d9de; } .gmiqa-map.grey .dim { background: #d5d9de !important; }
.gmiqa-map .pt { position: absolute; border-radius: 50%; transform: translate(-50%, -50%); outline-offset: 2px; }
.gmiqa-map .tip { display: none; position: absolute; left: 10px; top: 10px; background: #fff; border: 1px solid #5b6470;
  padding: 4px; font: 12px/1.3 system-ui, sans-serif; color: #1b1f24; width: 104px; pointer-events: none; }
.gmiqa-map .pt:hover, .gmiqa-map .pt:focus { z-index: 9; } .gmiqa-map .pt:hover .tip, .gmiqa-map .pt:focus .tip
  { display: block; }
.gmiqa-map .right .tip { left: auto; right: 10px; } .gmiqa-map .low .tip { top: auto; bottom: 10px; }
</style>"""


def spread_out(Y: np.ndarray, count: int, least: float = 0.12) -> np.ndarray:
    """Row numbers of up to `count` points, each at least `least` of the map's extent away from the others."""
    Y = (Y - Y.min(0)) / np.maximum(np.ptp(Y, axis=0), 1e-9)
    chosen = [int(Y[:, 0].argmin())]
    nearest = ((Y - Y[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count and nearest.max() > least**2:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((Y - Y[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)


def hover_map(
    maps: dict[str, np.ndarray], images: Tensor, types: np.ndarray, levels: np.ndarray, names: list[str]
) -> Any:
    """A widget; where nobody can use it, a figure of the first map with some of its pictures.

    maps     title -> points (n,2)
    images   (n,3,h,w) in [0,1]; names: (n,) of their contents
    """
    group_of = {i: group for group, ids in GROUPS.items() for i in ids}
    if not interactive():
        from gmiqa.figures import embeddings as figures

        Y = next(iter(maps.values()))
        chosen = spread_out(Y, 26)
        titles = [f"{TYPES[int(types[i]) - 1].title.split(' (')[0]} {levels[i]}" for i in chosen]
        colours = [GROUP_COLOURS[group_of[int(types[i])]] for i in chosen]
        return figures.pictures(Y, chosen, images[chosen].permute(0, 2, 3, 1).numpy(), titles, colours)

    import ipywidgets as ipw

    from gmiqa.widgets.parts import Status, data_url

    thumbs = [data_url(image, 96) for image in images]
    which = ipw.Dropdown(options=list(maps), description="Map", tooltip="what is shown")
    group = ipw.Dropdown(options=["all", *GROUPS], description="Group", tooltip="the others turn grey")
    shown, status = ipw.HTML(), Status()

    def redraw(_: Any = None) -> None:
        Y = maps[which.value]
        place = (Y - Y.min(0)) / np.maximum(np.ptp(Y, axis=0), 1e-9)
        points = []
        for i, (x, y) in enumerate(place):
            family = group_of[int(types[i])]
            label = f"{TYPES[int(types[i]) - 1].title}, level {levels[i]}, {names[i]}"
            size = 5 + 1.6 * levels[i]
            marks = {"right": x > 0.8, "low": y < 0.25, "dim": group.value not in ("all", family)}
            left, top = 12 + x * (WIDE - 24), 12 + (1 - y) * (HIGH - 24)
            points.append(
                f"<div class='pt {' '.join(mark for mark, on in marks.items() if on)}' tabindex='0' role='img' "
                f"aria-label='{html.escape(label)}' style='left:{left:.1f}px;top:{top:.1f}px;width:{size:.1f}px;"
                f"height:{size:.1f}px;background:{GROUP_COLOURS[family]}'>"
                f"<span class='tip'><img width='96' alt='' src='{thumbs[i]}'><br>{html.escape(label)}</span></div>"
            )
        size_of = f"width:{WIDE}px;height:{HIGH}px"
        shown.value = f"{STYLE}<div class='gmiqa-map grey' style='{size_of}'>{''.join(points)}</div>"
        status.say(f"{which.value}: {len(Y)} pictures; point at one, or press Tab, to see it")

    for choice in (which, group):
        choice.observe(status.guard(redraw), "value")
    status.guard(redraw)()
    key = " ".join(f"<span style='color:{c}'>&#9679;</span>&nbsp;{g}" for g, c in GROUP_COLOURS.items())
    return ipw.VBox([ipw.HBox([which, group]), status, shown, ipw.HTML(f"{key}; larger points are higher levels")])
