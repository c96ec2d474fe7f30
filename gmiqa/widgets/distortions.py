"""Choose type, level and picture, and see the original beside its distorted version and what people thought of it."""

from __future__ import annotations

import html
from typing import Any

from torch import Tensor

from gmiqa.data import images
from gmiqa.data.distortions import LEVELS, TYPES, calibration, distort, stretch_range, type_id
from gmiqa.data.distortions.reference_metric import haarpsi
from gmiqa.data.synthetic import bring_to_size
from gmiqa.widgets import interactive


def distortion_viewer(pictures: dict[str, Tensor], type: str | int = "jpeg", seed: int = 0) -> Any:
    """pictures: name -> uint8 (3,H,W), the first is shown first; type: the distortion to begin with."""
    chosen = TYPES[type_id(type) - 1]
    if not interactive():
        from gmiqa.figures.distortions import levels_figure

        name, picture = next(iter(pictures.items()))
        x = images.to_float(bring_to_size(picture))
        levels = distort(x.expand(len(LEVELS), -1, -1, -1), chosen.id, LEVELS, seed)
        return levels_figure(x, levels, haarpsi(levels, stretch_range(x[None])), chosen.id, name)

    import ipywidgets as ipw

    from gmiqa.widgets.parts import Chooser, Status, figure

    names = {f"{t.group}: {t.title}": t.id for t in sorted(TYPES, key=lambda t: (t.group, t.id))}
    kind = ipw.Dropdown(options=names, value=chosen.id, description="Distortion", tooltip="one of KADID-10k's 25 types")
    level = ipw.IntSlider(3, 1, 5, description="Level", tooltip="arrow keys work", continuous_update=False)
    before, after, status = ipw.HTML(), ipw.HTML(), Status()
    state: dict[str, Any] = {}

    def redraw(_: Any = None) -> None:
        x, entry, v = state["picture"][None], TYPES[kind.value - 1], level.value
        y = distort(x, entry.id, v, seed)
        metric = float(haarpsi(y, stretch_range(x)))
        human = float(calibration.QUALITY[entry.id - 1, v - 1])
        spread = float(calibration.SPREAD[entry.id - 1, v - 1])
        words = f"{entry.title}, level {v} ({entry.parameter} {entry.levels[v - 1]:g})"
        numbers = f"people {human:.2f} ± {spread:.2f} (KADID-10k, this cell), HaarPSI of this picture {metric:.2f}"
        note = f". Note: {entry.note}" if entry.note else ""
        after.value = figure(y[0], f"{state['name']}, {words}", html.escape(f"{words}: {numbers}{note}"), side=460)

    def on_picture(name: str, picture: Tensor) -> None:
        state.update(name=name, picture=images.to_float(bring_to_size(picture, least=16)))
        before.value = figure(state["picture"], f"{name} as it is", html.escape(f"{name}, as it is"), side=460)
        redraw()

    kind.observe(status.guard(redraw), "value")
    level.observe(status.guard(redraw), "value")
    chooser = Chooser(pictures, on_picture)
    chooser.start()
    controls = ipw.HBox([kind, level], layout=ipw.Layout(flex_flow="row wrap"))
    row = ipw.HBox([before, after], layout=ipw.Layout(flex_flow="row wrap", grid_gap="24px"))
    return ipw.VBox([chooser, controls, status, row])
