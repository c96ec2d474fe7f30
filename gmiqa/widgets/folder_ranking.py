"""A folder ranked from worst to best, while somebody watches and can stop it."""

from __future__ import annotations

import html
import threading
from pathlib import Path
from typing import Any

from torch import Tensor

from gmiqa.score import Score, Scorer
from gmiqa.widgets import interactive
from gmiqa_core.errors import UserError

MOST = 500  # pictures ranked in a page; the command has no limit
ROWS = 40  # pictures shown, of the worst and of the best


def folder_ranking(scorer: Scorer, pictures: dict[str, Tensor], folder: str = "") -> Any:
    """pictures: name -> uint8 (3,H,W), ranked first; folder: the path in the box."""
    if not interactive():
        from gmiqa.figures.scoring import ranking_figure

        return ranking_figure(list(pictures), list(pictures.values()), list(scorer.score_many(pictures.values())))

    import ipywidgets as ipw

    from gmiqa.score.folder import find
    from gmiqa.widgets.parts import Status

    path = ipw.Text(
        folder, description="Folder", placeholder="/pictures; empty for the embedded ones",
        tooltip="a folder on the machine that runs this notebook", layout=ipw.Layout(width="30em"),
    )  # fmt: skip
    deeper = ipw.Checkbox(False, description="and the folders inside", indent=False)
    deeper.layout.width = "auto"
    start = ipw.Button(description="Rank", button_style="primary", tooltip="score every picture and sort")
    stop = ipw.Button(description="Stop", disabled=True, tooltip="keep what is ranked so far")
    bar = ipw.IntProgress(description="Scored", layout=ipw.Layout(visibility="hidden"))
    status, table = Status(), ipw.HTML()
    stopped = threading.Event()

    def work(sources: dict[str, Any], cut: bool) -> None:
        rows: list[tuple[str, Any, Score]] = []
        try:
            for (name, source), score in zip(sources.items(), scorer.score_many(sources.values()), strict=False):
                rows.append((name, source, score))
                bar.value = len(rows)
                if stopped.is_set():
                    break
            table.value = ranking_table(rows)
            bad = sum(bool(score.error) for *_, score in rows)
            words = f"{len(rows) - bad} pictures ranked" + (f", {bad} could not be read" if bad else "")
            more = f"; only the first {MOST} were taken (gmiqa score ranks any number)" if cut else ""
            status.say(words + ("; stopped" if stopped.is_set() else "") + more)
        finally:
            start.disabled, stop.disabled, bar.layout.visibility = False, True, "hidden"

    def on_start(_: Any = None) -> None:
        sources, cut = _sources(path.value.strip().strip("'\""), pictures, deeper.value, find)
        stopped.clear()
        bar.value, bar.max, bar.layout.visibility = 0, len(sources), "visible"
        start.disabled, stop.disabled = True, False
        status.say(f"scoring {len(sources)} pictures …")
        threading.Thread(target=status.guard(work), args=(sources, cut), daemon=True).start()

    start.on_click(status.guard(on_start))
    stop.on_click(lambda _: stopped.set())
    on_start()
    row = ipw.HBox([path, deeper, start, stop, bar], layout=ipw.Layout(flex_flow="row wrap", align_items="center"))
    return ipw.VBox([row, status, table])


def _sources(folder: str, pictures: dict[str, Tensor], recursive: bool, find: Any) -> tuple[dict[str, Any], bool]:
    """What to rank, by name, and whether the folder holds more than MOST."""
    if not folder:
        return dict(pictures), False
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"no folder {folder}: expected the path of a folder on the machine that runs this notebook")
    sources: dict[str, Any] = {}
    for source in find([root], recursive):
        if len(sources) == MOST:
            return sources, True
        name = str(Path(source).relative_to(root)).encode("utf-8", "backslashreplace").decode()
        sources[name] = source
    if not sources:
        raise UserError(f"no pictures in {folder}" + ("" if recursive else "; try including the folders inside"))
    return sources, False


def ranking_table(rows: list[tuple[str, Any, Score]]) -> str:
    """(name, picture, score) -> an HTML table from worst to best; unreadable ones last, with their reason."""
    from gmiqa.data import images
    from gmiqa.widgets.parts import data_url

    good = sorted((row for row in rows if not row[2].error), key=lambda row: row[2].quality)
    left_out = max(0, len(good) - ROWS)
    cells = []
    for rank, (name, source, score) in enumerate(good, 1):
        if left_out and rank == ROWS // 2 + 1:
            cells.append(f"<tr><td></td><td class='soft' colspan='4'>{left_out} more in between</td></tr>")
        if left_out and ROWS // 2 < rank <= len(good) - ROWS // 2:
            continue
        url = data_url(images.from_any(source, 160), 160)
        cells.append(
            f"<tr><td class='n'>{rank}</td><td><img alt='' src='{url}'></td><th scope='row'>{html.escape(name)}</th>"
            f"<td class='n'>{score.quality:.0f} ± {score.sigma:.0f}</td>"
            f"<td>{html.escape(score.guess)}</td></tr>"
        )
    for name, _, score in rows:
        if score.error:
            cells.append(
                f"<tr><td></td><td></td><th scope='row'>{html.escape(name)}</th><td colspan='2'>not read: "
                f"{html.escape(score.error)}</td></tr>"
            )
    columns = ("worst first", "", "picture", "quality, 0 to 100", "most probable distortion")
    head = "".join(f"<th scope='col'>{column}</th>" for column in columns)
    return f"<div class='gmiqa'><table><tr>{head}</tr>{''.join(cells)}</table></div>"
