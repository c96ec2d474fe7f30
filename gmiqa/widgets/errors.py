"""Look through the errors: choose a method, a subset and a distortion type, and see the worst pictures."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from gmiqa.data import images
from gmiqa.widgets import interactive

ALL = "all"


def worst_rows(frame: pd.DataFrame, method: str, part: str = ALL, type: str = ALL, count: int = 8) -> pd.DataFrame:
    """The rows with the largest |predicted - human| of a method, worst first; columns predicted and error are added."""
    use = frame[frame.method == method]
    for column, wanted in (("part", part), ("type_title", type)):
        use = use if wanted == ALL else use[use[column] == wanted]
    error = (use.prediction - use.target).abs()
    return use.assign(error=error).sort_values("error", ascending=False, kind="stable").head(count)


def caption(row: Any) -> str:
    level = f" {row.level}" if row.level else ""
    return f"{row.type_title}{level}, {row.content}\nhuman {row.target:.2f}, predicted {row.prediction:.2f}"


def error_browser(frame: pd.DataFrame, picture: Callable[[int], Tensor], methods: Sequence[str], count: int = 8) -> Any:
    """A widget over predictions; where nobody can use it, the figure of the first method.

    frame      one row per method and test picture: method, part, type_title, level, content, picture (its number),
               target and prediction, both quality in [0, 1]
    picture    number -> uint8 (3,h,w)
    """
    from gmiqa.figures import evaluation as figures

    if not interactive():
        rows = list(worst_rows(frame, methods[0], count=count).itertuples())
        small = [images.limit(picture(int(row.picture)), 240) for row in rows]  # type: ignore[arg-type]
        shown = [np.moveaxis(one.numpy(), 0, 2) for one in small]
        return figures.worst(shown, [caption(row) for row in rows])

    import ipywidgets as ipw

    from gmiqa.widgets.parts import Status, data_url

    method = ipw.Dropdown(options=list(methods), description="Method", tooltip="whose errors")
    part = ipw.Dropdown(options=[ALL, *dict.fromkeys(frame.part)], description="Pictures", tooltip="subset of the test")
    kind = ipw.Dropdown(options=[ALL, *dict.fromkeys(frame.type_title)], description="Distortion", tooltip="its type")
    shown, status = ipw.HTML(), Status()

    def redraw(_: Any = None) -> None:
        cells = []
        for row in worst_rows(frame, method.value, part.value, kind.value, count).itertuples():
            text = caption(row)
            cells.append(f"<figure style='margin:0;width:220px'><img style='width:100%' alt='{html.escape(text)}' src='"
                         f"{data_url(picture(int(row.picture)), 320)}'><figcaption>"  # type: ignore[arg-type]
                         f"{html.escape(text).replace(chr(10), '<br>')}</figcaption></figure>")  # fmt: skip
        body = "".join(cells) or "no picture of this choice"
        shown.value = f"<div class='gmiqa' style='display:flex;flex-wrap:wrap;gap:14px'>{body}</div>"
        status.say(f"{len(cells)} worst pictures of {method.value}")

    for choice in (method, part, kind):
        choice.observe(status.guard(redraw), "value")
    status.guard(redraw)()
    return ipw.VBox([ipw.HBox([method, part, kind], layout=ipw.Layout(flex_flow="row wrap")), status, shown])
