"""outputs/gallery: what a visitor of the repository sees, made from one finished run on the embedded pictures."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html import escape
from pathlib import Path

from gmiqa.report import executed as pages
from gmiqa.report.findings import Part, collect
from gmiqa.runs import provenance
from gmiqa_core.errors import UserError

LIMIT = 10 * 2**20  # bytes, all of it
WIDTH = 1000  # of a picture, in pixels
STUDY = ("findings.csv", "findings.html")
# The gallery may show only pictures that anyone may publish: the embedded ones.
EMBEDDED = {"data": "embedded", "test_data": "", "dataset": "synthetic", "pictures": ""}


def make(run: Path, to: Path) -> tuple[int, int]:
    """Write a page and a picture of every notebook, an index and the report; return the bytes and the number."""
    parts = collect(run)
    for part in parts:
        if part.record is None or not (part.folder / f"{part.name}.ipynb").exists():
            raise UserError(f"{part.name} is not finished in {run}; finish it with gmiqa run first")
        for name, wanted in EMBEDDED.items():
            used = part.record["parameters"].get(name, {"value": wanted})["value"]
            if used != wanted:
                raise UserError(f"{part.name} ran with {name}={used}; the gallery shows embedded pictures only")
    fresh = to.with_name(".gallery")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    items = []
    for part in parts:
        pages.notebook_page(part.folder / f"{part.name}.ipynb", fresh / f"{part.name}.html")
        shown, figure = _picture(part, fresh), ""
        if shown:
            alt = escape(part.entries("figures")[0]["alt"], quote=True)
            figure = f'<figure><div class="sheet"><img src="{shown.name}" alt="{alt}"></div></figure>'
        items.append(f'<section><h2><a href="{part.name}.html">{part.name[:2]} {escape(part.title)}</a></h2>'
                     f'<p>{escape(part.question)}</p>{figure}</section>')
    study = (' A larger study says <a href="findings.html">what holds of two published methods</a>.'
             if (to / "findings.html").is_file() else "")
    body = ('<header class="top"><h1>Every notebook, executed</h1><p>Made from one run on the embedded pictures; '
            f'<a href="report.html">its report</a>.{study}</p></header><main>{"".join(items)}</main>')
    (fresh / "index.html").write_text(pages.page("gmiqa: gallery", body), encoding="utf-8")
    report = (run / "report.html").read_text(encoding="utf-8")
    for part in parts:  # the gallery is flat, and holds neither CSV nor SVG files
        report = report.replace(f'href="{part.name}/{part.name}.html"', f'href="{part.name}.html"')
        report = re.sub(rf' ?<a href="{part.name}/[^"]+\.(csv|svg)">[^<]*</a>', "", report)
    (fresh / "report.html").write_text(report, encoding="utf-8")
    for page in fresh.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"data:image/(?:png|webp);base64,([A-Za-z0-9+/=]+)", _lighter, text), encoding="utf-8")
    _keep(to, fresh)
    size = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
    if size > LIMIT:
        raise UserError(f"the gallery would take {size / 2**20:.1f} MB, more than {LIMIT / 2**20:.0f}: see {fresh}")
    shutil.rmtree(to, ignore_errors=True)
    fresh.rename(to)
    return size, len(parts)


def _keep(old: Path, fresh: Path) -> None:
    """What the study found, which no run remakes."""
    for name in STUDY:
        if (old / name).is_file():
            shutil.copy2(old / name, fresh / name)


def _lighter(match: re.Match[str]) -> str:
    """An embedded picture as the gallery has it, if that is smaller."""
    made = base64.b64encode(_webp(io.BytesIO(base64.b64decode(match[1])))).decode()
    return f"data:image/webp;base64,{made}" if len(made) < len(match[1]) else match[0]


def _webp(source: Path | io.BytesIO, width: int = WIDTH) -> bytes:
    """A picture of at most this width as WebP."""
    from PIL import Image

    with Image.open(source) as opened:
        image = opened.convert("RGB")
    image.thumbnail((width, 4 * width))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()


def _picture(part: Part, to: Path) -> Path | None:
    """The stage's first figure at page width."""
    figures = part.entries("figures")
    if not figures:
        return None
    path = to / f"{part.name}.webp"
    provenance.write_atomically(path, _webp(part.folder / figures[0]["png"]))
    return path
