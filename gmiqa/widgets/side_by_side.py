"""Two pictures side by side: which one is better, and is the difference larger than the model's uncertainty?"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from gmiqa.score import Score, Scorer
from gmiqa.score.result import Z90
from gmiqa.widgets import interactive


def verdict(a: Score, b: Score) -> str:
    """A sentence with one of three outcomes: the 90 % interval of the difference, errors taken as independent."""
    delta, spread = a.quality - b.quality, math.hypot(a.sigma, b.sigma)
    interval = f"A minus B is {delta:+.1f}, 90 % interval {delta - Z90 * spread:+.1f} to {delta + Z90 * spread:+.1f}"
    if abs(delta) <= Z90 * spread:
        return f"Undecided: {interval}."
    return f"{'A' if delta > 0 else 'B'} is better: {interval}."


def side_by_side(scorer: Scorer, pictures: dict[str, Tensor]) -> Any:
    """pictures: name -> uint8 (3,H,W); the first and the second are shown first, a single one beside itself."""
    names = list(pictures)
    if not interactive():
        from gmiqa.figures.scoring import pair_figure

        pair = (names * 2)[:2]
        scores = [scorer.score(pictures[name]) for name in pair]
        return pair_figure(pair, [pictures[name] for name in pair], scores, verdict(*scores))

    import ipywidgets as ipw

    from gmiqa.widgets.parts import Chooser, Status, card, figure

    status = Status()
    scores_of: dict[str, Score] = {}
    columns = []
    for letter, order in (("A", names), ("B", names[1:] + names[:1])):
        shown, told = ipw.HTML(), ipw.HTML()

        def on_picture(name: str, picture: Tensor, letter=letter, shown=shown, told=told) -> None:
            scores_of[letter] = scorer.score(picture)
            shown.value = figure(picture, f"picture {letter}, {name}", side=420)
            told.value = card(scores_of[letter], f"{letter}: {name}")
            if len(scores_of) == 2:
                status.say(verdict(scores_of["A"], scores_of["B"]))

        chooser = Chooser({name: pictures[name] for name in order}, on_picture, f"Picture {letter}")
        chooser.start()
        columns.append(ipw.VBox([chooser, shown, told], layout=ipw.Layout(flex="1 1 22em", max_width="34em")))
    return ipw.VBox([status, ipw.HBox(columns, layout=ipw.Layout(flex_flow="row wrap", grid_gap="24px"))])
