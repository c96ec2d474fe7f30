"""Pick a distortion, drag its level: the picture and its score follow, and a curve of the score over the levels."""

from __future__ import annotations

import html
import threading
from typing import Any

import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.data.distortions import TYPES, distort, type_id
from gmiqa.score import Score, Scorer
from gmiqa.widgets import interactive

SIDE = 512  # KADID-10k's levels belong to pictures of about this size
LEVELS = range(6)  # 0: the picture as it is
Step = tuple[Tensor, Score]


class Steps:
    """One picture's distorted versions and their scores, each computed once."""

    def __init__(self, scorer: Scorer, picture: Tensor, seed: int) -> None:
        self.scorer, self.picture, self.seed = scorer, images.limit(picture, SIDE), seed
        self._kept: dict[tuple[int, int], Step] = {}

    def __call__(self, type: int, level: int) -> Step:
        """-> (picture uint8 (3,H,W), its score)."""
        key = (type, level) if level else (0, 0)
        if key not in self._kept:
            picture = self.picture
            if level:
                x = distort(images.to_float(picture)[None], type, level, self.seed)[0]
                picture = (x * 255).round().to(torch.uint8)
            self._kept[key] = picture, self.scorer.score(picture)
        return self._kept[key]

    def known(self, type: int) -> dict[int, Score]:
        """Scores of the levels computed so far."""
        kept = {level: self._kept.get((type, level) if level else (0, 0)) for level in LEVELS}
        return {level: step[1] for level, step in kept.items() if step}


def distortion_explorer(scorer: Scorer, pictures: dict[str, Tensor], type: str = "jpeg", seed: int = 0) -> Any:
    """pictures: name -> uint8 (3,H,W); type: the distortion to begin with."""
    chosen = TYPES[type_id(type) - 1]
    if not interactive():
        from gmiqa.figures.scoring import explorer_figure

        name, picture = next(iter(pictures.items()))
        steps = Steps(scorer, picture, seed)
        shown, scores = zip(*(steps(chosen.id, level) for level in LEVELS), strict=True)
        return explorer_figure(f"{chosen.title} on {name}", list(shown), list(scores), chosen.group)

    import ipywidgets as ipw

    from gmiqa.widgets.parts import Chooser, Status, figure

    names = {f"{t.group}: {t.title}": t.id for t in sorted(TYPES, key=lambda t: (t.group, t.id))}
    kind = ipw.Dropdown(options=names, value=chosen.id, description="Distortion", tooltip="one of KADID-10k's 25 types")
    level = ipw.IntSlider(3, 0, 5, description="Level", tooltip="0 is the picture as it is; arrow keys work")
    shown, curve, status = ipw.HTML(), ipw.HTML(), Status()
    state: dict[str, Any] = {}

    def redraw(_: Any = None) -> None:
        steps, t, v = state["steps"], TYPES[kind.value - 1], level.value
        picture, score = steps(t.id, v)
        words = f"{t.title}, level {v}" if v else "as it is"
        caption = f"{html.escape(words)}: <b>{score.quality:.0f}</b> of 100; guess: {html.escape(score.guess)}"
        shown.value = figure(picture, f"{state['name']}, {words}: quality {score.quality:.0f} of 100", caption)
        curve.value = curve_svg(steps.known(t.id), v, t.title, t.parameter, t.levels)
        status.say("")

    def fill(_: Any = None) -> None:
        """Compute the rest of the curve after the step that somebody is looking at."""
        redraw()
        steps, t = state["steps"], TYPES[kind.value - 1]

        def work() -> None:
            for v in LEVELS:
                if state["steps"] is not steps or kind.value != t.id:
                    return
                steps(t.id, v)
                curve.value = curve_svg(steps.known(t.id), level.value, t.title, t.parameter, t.levels)

        threading.Thread(target=status.guard(work), daemon=True).start()

    def on_picture(name: str, picture: Tensor) -> None:
        state.update(name=name, steps=Steps(scorer, picture, seed))
        fill()

    kind.observe(status.guard(fill), "value")
    level.observe(status.guard(redraw), "value")
    chooser = Chooser(pictures, on_picture)
    chooser.start()
    controls = ipw.HBox([kind, level], layout=ipw.Layout(flex_flow="row wrap"))
    row = ipw.HBox([shown, curve], layout=ipw.Layout(flex_flow="row wrap", grid_gap="24px"))
    return ipw.VBox([chooser, controls, status, row])


def curve_svg(scores: dict[int, Score], at: int, title: str, parameter: str, values: tuple) -> str:
    """Score over level as an inline drawing: quick to redraw, and readable as text."""
    width, height, left, top, right, bottom = 420, 300, 44, 16, 12, 46
    inner = height - top - bottom

    def x(level: float) -> float:
        return left + 14 + level * (width - left - right - 28) / 5

    def y(quality: float) -> float:
        return top + inner * (1 - quality / 100)

    grid = "".join(
        f"<line x1='{left}' x2='{width - right}' y1='{y(q)}' y2='{y(q)}' stroke='#8c8c8c' stroke-opacity='.25'/>"
        f"<text x='{left - 8}' y='{y(q) + 4}' text-anchor='end'>{q}</text>"
        for q in (0, 25, 50, 75, 100)
    )
    ticks = "".join(f"<text x='{x(v)}' y='{height - 26}' text-anchor='middle'>{v or 'as is'}</text>" for v in LEVELS)
    known = sorted(scores.items())
    band = [f"{x(v):.1f},{y(s.high):.1f}" for v, s in known] + [
        f"{x(v):.1f},{y(s.low):.1f}" for v, s in reversed(known)
    ]
    line = " ".join(f"{x(v):.1f},{y(s.quality):.1f}" for v, s in known)
    dots = "".join(
        f"<circle cx='{x(v):.1f}' cy='{y(s.quality):.1f}' r='{7 if v == at else 4}' "
        f"fill='{'#d55e00' if v == at else '#0072b2'}'><title>level {v}: {s.quality:.1f}</title></circle>"
        for v, s in known
    )
    text = "; ".join(f"level {v}: {s.quality:.0f}" for v, s in known)
    note = f"{parameter}: {', '.join(f'{value:g}' for value in values)} at levels 1 to 5"
    return (
        f"<div class='gmiqa'><figure><svg role='img' aria-label='{html.escape(title)}, quality by level: {text}' "
        f"width='{width}' height='{height}' viewBox='0 0 {width} {height}' style='max-width:100%' "
        f"font-size='12' fill='currentColor'>{grid}{ticks}"
        f"<text x='{(left + width) / 2}' y='{height - 6}' text-anchor='middle'>level</text>"
        f"<polygon points='{' '.join(band)}' fill='#0072b2' opacity='.13'/>"
        f"<polyline points='{line}' fill='none' stroke='#0072b2' stroke-width='2'/>{dots}</svg>"
        f"<figcaption>Quality over level, band: 90 % interval. {html.escape(note)}</figcaption></figure></div>"
    )
