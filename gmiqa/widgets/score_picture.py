"""Upload or choose a picture, and see its score with its interval, the likely distortion, and where it is bad."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gmiqa.score import Scorer
from gmiqa.widgets import interactive


def score_picture(scorer: Scorer, pictures: dict[str, Tensor]) -> Any:
    """pictures: name -> uint8 (3,H,W), offered beside upload and path."""
    from gmiqa.figures.scoring import overlay, score_figure

    if not interactive():
        name, picture = next(iter(pictures.items()))
        score = scorer.score(picture, with_map=True)
        assert score.map is not None
        return score_figure(name, picture, score, score.map)

    import ipywidgets as ipw

    from gmiqa.data import images
    from gmiqa.widgets.parts import SHOWN, Chooser, card, figure

    shown, told, where = ipw.HTML(), ipw.HTML(), ipw.HTML()
    told.layout.width = "22em"
    shown.layout.max_width = where.layout.max_width = "390px"

    def on_picture(name: str, picture: Tensor) -> None:
        score = scorer.score(picture, with_map=True)
        shown.value, told.value, places = figure(picture, f"the picture {name}"), card(score, name), score.map
        assert places is not None
        x, y = places.worst
        low, high = places.values.min(), places.values.max()
        where.value = figure(
            overlay(images.limit(picture, SHOWN), places),
            f"quality map of {name}: lowest around {100 * x / places.width:.0f} % from the left and "
            f"{100 * y / places.height:.0f} % from the top",
            f"Quality by place: {high:.0f} (grey) down to {low:.0f} (orange)",
        )

    chooser = Chooser(pictures, on_picture)
    row = ipw.HBox([shown, told, where], layout=ipw.Layout(flex_flow="row wrap", grid_gap="24px"))
    chooser.start()
    return ipw.VBox([chooser, row])
