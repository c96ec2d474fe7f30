"""Parts that the widgets share: the way to choose a picture, the card of a score, the status line, inline figures.

Pictures are HTML figures because an Image widget has no text for people who cannot see it. Nothing fails silently:
every callback runs in `Status.guard`, which puts the reason into a line that screen readers announce.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import ipywidgets as ipw
from torch import Tensor

from gmiqa.data import images
from gmiqa.score import Score
from gmiqa_core.errors import UserError

# A server drops uploads above its limit without a word (10 MB unless it is raised, as `make lab` and `make demo` do).
UPLOAD_MB = int(os.environ.get("GMIQA_UPLOAD_MB", "9"))
SHOWN = 480  # pixels of the longer side of a picture on the page

STYLE = """<style>
.gmiqa { font: 15px/1.5 system-ui, sans-serif; color: var(--jp-ui-font-color1, #1b1f24); }
.gmiqa figure { margin: 0; } .gmiqa img { max-width: 100%; border-radius: 6px; display: block; }
.gmiqa figcaption, .gmiqa .soft, .gmiqa.soft { color: var(--jp-ui-font-color2, #5b6470); font-size: 13px; }
.gmiqa .big { font-size: 44px; line-height: 1; font-weight: 650; font-variant-numeric: tabular-nums; }
.gmiqa .scale { position: relative; height: 10px; border-radius: 5px; background: #8c8c8c33; margin: 12px 0 4px; }
.gmiqa .scale i { position: absolute; top: 0; bottom: 0; border-radius: 5px; background: #0072b266; }
.gmiqa .scale b { position: absolute; top: -4px; width: 4px; height: 18px; border-radius: 2px; background: #0072b2; }
.gmiqa .ends { display: flex; justify-content: space-between; }
.gmiqa .guess { display: flex; flex-wrap: wrap; justify-content: space-between; margin-bottom: 6px; }
.gmiqa .guess i { flex: 0 0 100%; } .gmiqa .guess i::before { content: ""; display: block; width: var(--p);
  height: 6px; border-radius: 3px; background: #e69f00; min-width: 2px; }
.gmiqa table { border-collapse: collapse; } .gmiqa td, .gmiqa th { padding: 4px 14px 4px 0; text-align: left; }
.gmiqa td.n { text-align: right; font-variant-numeric: tabular-nums; } .gmiqa td img { height: 56px; }
.gmiqa .said { padding: 6px 12px; border-left: 4px solid #009e73; background: #009e7314; border-radius: 4px; }
.gmiqa .said.wrong { border-color: #d55e00; background: #d55e0014; }
.gmiqa .said:empty { display: none; }
</style>"""

# The file dialogue of ipywidgets is an input outside the page, so its change event is met where the dialogue is opened.
# JupyterLab's one-key commands take the arrow keys away from lists and sliders without the attribute below.
GUARD = """<script>(() => {
  if (window.gmiqaGuard) return; window.gmiqaGuard = true;
  document.addEventListener("focusin", event => {
    if (event.target.closest && event.target.closest(".gmiqa-view"))
      event.target.setAttribute("data-lm-suppress-shortcuts", "true");
  });
  const click = HTMLInputElement.prototype.click;
  HTMLInputElement.prototype.click = function () {
    if (this.type === "file" && !this.gmiqa) {
      this.gmiqa = true;
      const chooser = document.activeElement.closest(".gmiqa-chooser");
      this.addEventListener("change", event => {
        const large = Array.from(this.files).find(file => file.size > %d * 1e6);
        if (!large || !chooser) return;
        event.stopImmediatePropagation();
        const line = chooser.querySelector(".said");
        line.textContent = large.name + " has " + (large.size / 1e6).toFixed(0) + " MB; uploads go up to %d MB here. " +
          "Type its path instead.";
        line.classList.add("wrong");
      }, true);
    }
    return click.call(this);
  };
})();</script>"""


def page_guard() -> Any:
    """To be displayed in the page: files above UPLOAD_MB are refused in words before they are sent, and the keyboard
    goes to the widget that has the focus."""
    from IPython.display import HTML

    return HTML(GUARD % (UPLOAD_MB, UPLOAD_MB))


class Status(ipw.HTML):
    """One line that says what happened, announced by screen readers."""

    def __init__(self) -> None:
        super().__init__()
        self._said = 0
        self.say("")

    def say(self, text: str, wrong: bool = False) -> None:
        """Show a text; `wrong` for errors."""
        self._said += 1  # makes every value new, so that it also replaces what the script in the page wrote
        line = (
            f"<div role='status' aria-live='polite' class='said{' wrong' if wrong else ''}'>{html.escape(text)}</div>"
        )
        self.value = f"{STYLE}<div class='gmiqa'>{line}</div><!-- {self._said} -->"

    def guard(self, function: Callable) -> Callable:
        """A callback whose errors end in this line."""

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except UserError as error:
                self.say(str(error), wrong=True)
            except Exception as error:  # whatever it is, the user of the page must learn of it
                self.say(f"Something unexpected went wrong: {type(error).__name__}: {error}", wrong=True)
            return None

        return guarded


class Chooser(ipw.VBox):
    """One of the given pictures, an upload, or a path; `on_picture(name, uint8 (3,H,W))` is called with each choice."""

    def __init__(
        self, pictures: dict[str, Tensor], on_picture: Callable[[str, Tensor], None], label: str = "Picture"
    ) -> None:
        self._pictures, self._on_picture = dict(pictures), on_picture
        self._given, self._listing = list(pictures), False
        self.status = Status()
        self.examples = ipw.Dropdown(options=list(pictures), description=label, tooltip="pictures that are at hand")
        self.upload = ipw.FileUpload(accept="image/*", description="Upload a picture", tooltip=f"up to {UPLOAD_MB} MB")
        self.upload.layout.width = "auto"
        self.path = ipw.Text(
            description="or path", placeholder="/pictures/photo.jpg, then Enter", continuous_update=False,
            tooltip="path of a picture on the machine that runs this notebook", layout=ipw.Layout(width="26em"),
        )  # fmt: skip
        note = ipw.HTML(f"<div class='gmiqa soft'>up to {UPLOAD_MB} MB; give larger files by their path</div>")
        self.examples.observe(self.status.guard(self._example), "value")
        self.upload.observe(self.status.guard(self._uploaded), "value")
        self.path.observe(self.status.guard(self._path), "value")
        row = ipw.HBox([self.examples, self.upload, note, self.path])
        row.layout = ipw.Layout(flex_flow="row wrap", align_items="center")
        super().__init__([row, self.status])
        self.add_class("gmiqa-chooser")

    def start(self) -> None:
        """Choose the first picture."""
        self.status.guard(self._example)(None)

    def _choose(self, name: str, picture: Tensor) -> None:
        """Add a user's own picture to the list, in place of the one added before."""
        self.status.say("")
        self._pictures = {key: self._pictures[key] for key in self._given} | {name: picture}
        self._listing = True
        try:
            self.examples.options = list(self._pictures)
            self.examples.value = name
        finally:
            self._listing = False
        self._on_picture(name, picture)

    def _example(self, _: Any) -> None:
        if not self._listing:
            self.status.say("")
            self._on_picture(self.examples.value, self._pictures[self.examples.value])

    def _uploaded(self, _: Any) -> None:
        for file in self.upload.value:
            content, name = bytes(file["content"]), str(file["name"])
            try:
                picture = images.read(content)
            except images.ImageError as error:
                raise images.ImageError(str(error).replace("the given bytes", name)) from None
            self._choose(name, picture)

    def _path(self, _: Any) -> None:
        if self.path.value.strip():
            path = Path(self.path.value.strip().strip("'\"")).expanduser()
            self._choose(path.name, images.read(path))


def data_url(picture: Tensor, side: int = SHOWN) -> str:
    """uint8 or float (3,H,W) -> a data: URL of a small JPEG."""
    small = images.limit(picture, side)
    return "data:image/jpeg;base64," + base64.b64encode(images.encode(small, "jpeg", quality=90)).decode()


def figure(picture: Tensor, alt: str, caption: str = "", side: int = SHOWN) -> str:
    """A picture with its text as an HTML figure; `caption` is HTML."""
    text = f"<figcaption>{caption}</figcaption>" if caption else ""
    image = f"<img alt='{html.escape(alt)}' src='{data_url(picture, side)}'>"
    return f"<div class='gmiqa'><figure>{image}{text}</figure></div>"


def card(score: Score, name: str = "") -> str:
    """A score as HTML: the number, its interval on the scale, what it is measured against, and the reason."""
    title = f"<div class='soft'>{html.escape(name)}, {score.width} × {score.height} pixels</div>" if name else ""
    rank = ""
    if score.percentile == score.percentile:  # not NaN
        rank = f", above {score.percentile:.0f}&nbsp;% of that data set's pictures"
    guesses = "".join(
        f"<div class='guess'><span>{html.escape(guess)}</span><span>{p:.0%}</span><i style='--p:{p:.0%}'></i></div>"
        for guess, p in score.distortions[:3]
    )
    return (
        f"<div class='gmiqa'>{title}<div class='big'>{score.quality:.0f}<span class='soft'> of 100</span></div>"
        f"<div class='scale' role='img' aria-label='quality {score.quality:.0f}, 90 % interval {score.low:.0f} to "
        f"{score.high:.0f}'><i style='left:{score.low:.1f}%;width:{score.high - score.low:.1f}%'></i>"
        f"<b style='left:calc({score.quality:.1f}% - 2px)'></b></div>"
        f"<div class='ends soft'><div>0 bad</div><div>90 %: {score.low:.0f} to {score.high:.0f}</div>"
        "<div>100 excellent</div></div>"
        f"<p class='soft'>Predicts {html.escape(score.target)}{rank}.</p>"
        f"<p><b>Most probable distortion</b> <span class='soft'>severity {score.severity:.2f} of 1</span></p>"
        f"{guesses}</div>"
    )
