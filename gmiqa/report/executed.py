"""Pages that need no network: the shell with its look, tables, pictures as data, executed notebooks as HTML."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from html import escape
from pathlib import Path
from typing import Any

from gmiqa.report import formulas
from gmiqa.runs.progress import MARK
from gmiqa.runs.provenance import repository_root
from gmiqa.runs.saved_table import number

PARAMETERS = {"parameters", "injected-parameters"}  # the tags of papermill's cells
OVERTAKEN = re.compile(rf"{MARK}.* so far,|.*  step (\d+)/(?!\1 )\d+  ")  # lines of Progress and of a training
LARGE = 250_000  # bytes above which a picture in a page is compressed
OPEN_FOR_PRINT = ("addEventListener('beforeprint',()=>document.querySelectorAll('details').forEach(d=>d.open=true))")


def page(title: str, body: str) -> str:
    """A complete page, which holds everything that it shows."""
    look = (Path(__file__).with_name("look.css")).read_text(encoding="utf-8")
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{look}</style>\n</head>\n<body>\n{body}\n<script>{OPEN_FOR_PRINT}</script>\n</body>\n</html>\n")


def picture(folder: Path, figure: dict[str, Any], link: str = "") -> str:
    """A registered figure with its caption: the SVG if it is small, else the PNG, recompressed if it is large."""
    svg, png = folder / figure["svg"], folder / figure["png"]
    width = round(int.from_bytes(png.read_bytes()[16:20], "big") / 1.6)
    image = (f'<img src="{as_data(svg if svg.stat().st_size < LARGE else png)}" width="{width}" '
             f'alt="{escape(figure["alt"], quote=True)}" loading="lazy">')
    return (f'<figure><div class="sheet">{image}</div><figcaption>{escape(figure["caption"])}{link}'
            f"</figcaption></figure>")


def as_data(path: Path) -> str:
    """``data:image/...;base64,...``"""
    content, kind = path.read_bytes(), {".svg": "svg+xml"}.get(path.suffix, path.suffix[1:])
    if kind == "png":
        content, kind = smaller(content)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def smaller(png: bytes) -> tuple[bytes, str]:
    """A PNG as it is, or as WebP if it is large and that makes it smaller, as with photographs."""
    if len(png) < LARGE:
        return png, "png"
    from PIL import Image
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "WEBP", quality=82, method=4)
    return (buffer.getvalue(), "webp") if buffer.tell() < len(png) else (png, "png")


def table(frame: Any, index: int = 0, caption: str = "", kind: str = "") -> str:
    """A DataFrame whose first ``index`` columns are row headings; numbers are aligned to the right."""
    import pandas as pd
    numeric = [pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_bool_dtype(frame[c]) for c in frame]
    mark = [' class="n"' if is_number else "" for is_number in numeric]
    names = ["" if str(c).startswith("Unnamed:") else escape(str(c)) for c in frame.columns]
    head = "".join(f'<th scope="col"{m}>{c}</th>' for c, m in zip(names, mark, strict=True))
    rows = []
    for row in frame.itertuples(index=False, name=None):
        cells = []
        for k, (value, m) in enumerate(zip(row, mark, strict=True)):
            text = escape(number(value)) if not (isinstance(value, float) and math.isnan(value)) else ""
            cells.append(f'<th scope="row"{m}>{text}</th>' if k < index else f"<td{m}>{text}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    above = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return (f'{above}<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>")


def first_words(notebook: Path) -> tuple[str, str]:
    """The title and the question of a notebook, from its first markdown cell."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "".join(next((c["source"] for c in cells if c["cell_type"] == "markdown"), ""))
    title = re.search(r"^# (.+)$", text, re.M)
    question = re.search(r"\*\*Question[.:]?\*\*[.:]?\s*(.+?)(?:\n\s*\n|\Z)", text, re.S)
    plain = re.sub(r"[*`]", "", " ".join(question[1].split())) if question else ""
    return (title[1].strip() if title else notebook.stem), plain


def notebook_page(notebook: Path, to: Path) -> Path:
    """An executed notebook as a page in the report's look, widgets left out, pictures recompressed.

    The cells that set parameters are left out as well: the first cell shows all of them, with their sources. Of a
    training's progress only the end is left.
    """
    import nbformat
    from nbconvert import HTMLExporter  # imported late: it takes a second

    shown = formulas.drawn(nbformat.read(notebook, 4))
    shown.cells = [cell for cell in shown.cells if not PARAMETERS & set(cell.metadata.get("tags", []))]
    for cell in shown.cells:
        if cell.cell_type == "code":
            cell.outputs = calm(cell.outputs)
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(shown)
    body = re.sub(r'data:image/png;base64,([A-Za-z0-9+/=\s]+)', _recompressed, body)
    body = re.sub(r'<script type="application/vnd\.jupyter\.widget.*?</script>', "", body, flags=re.S)
    body = body.replace(f"{repository_root()}/", "")
    title, _ = first_words(notebook)
    to.write_text(page(title, f'<main class="notebook">{body}</main>'), encoding="utf-8")
    return to


def calm(outputs: list[Any]) -> list[Any]:
    """The outputs of a cell without lines of progress that a later one overtook; printed pieces in a row become one."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            text = "".join(line for line in output.text.splitlines(True) if not OVERTAKEN.match(line))
            last = kept[-1] if kept else None
            if last is not None and last.output_type == "stream" and last.name == output.name:
                last.text += text
                continue
            output.text = text
        if output.output_type != "stream" or output.text.strip():
            kept.append(output)
    return kept


def _recompressed(match: re.Match[str]) -> str:
    content, kind = smaller(base64.b64decode(match[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
