"""The contact sheet: best and worst pictures of a run as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import os

from gmiqa.data import pixels
from gmiqa.score.folder import Row
from gmiqa_core.errors import UserError
from gmiqa_core.files import write_atomically

THUMBNAIL = 320  # pixels of the longer side

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6875; --paper: #fbfaf8; --card: #ffffff; --line: #e3e0da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --soft: #a3adb8; --paper: #14181d; --card: #1d232a; --line: #2f3842; }
}
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .8rem; }
p { color: var(--soft); margin: .3rem 0; max-width: 48rem; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; padding: 0; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
figure img, .none { display: block; width: 100%; height: 10rem; object-fit: contain; background: #80808022; }
.none { display: grid; place-items: center; color: var(--soft); }
figcaption { padding: .6rem .8rem .8rem; font-size: .85rem; color: var(--soft); }
figcaption b { font-size: 1.15rem; color: var(--ink); } figcaption code { overflow-wrap: anywhere; }
"""


def contact_sheet(best: list[Row], worst: list[Row], scored: int, unreadable: int, target: str) -> str:
    """HTML of the worst and best rows, with small copies of their pictures inside."""
    note = f"{scored:,} pictures scored" + (f", {unreadable:,} could not be read" if unreadable else "")
    groups = [("Worst first", worst), ("Best first", best)]
    body = "".join(f"<h2>{title}</h2><div class='sheet'>{''.join(map(_figure, rows))}</div>" for title, rows in groups)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Best and worst pictures</title>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><style>{STYLE}</style></head><body>"
        f"<h1>Best and worst pictures</h1><p>{note}. Quality runs from 0 to 100, higher is better; it predicts "
        f"{html.escape(target)}. ± is one standard deviation.</p>{body}</body></html>\n"
    )


def write_sheet(path: str | os.PathLike[str], text: str) -> None:
    """Write the sheet; it appears whole or not at all."""
    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UserError(f"cannot write the contact sheet {path}: {error.strerror or error}") from error


def _figure(row: Row) -> str:
    path = html.escape(row["path"])
    words = f"quality {float(row['quality']):.1f} of 100, {row['distortion']}"
    try:
        data = base64.b64encode(pixels.encode(pixels.read(row["path"], THUMBNAIL), "jpeg", quality=80)).decode()
        picture = f"<img alt='{path}: {words}' loading='lazy' src='data:image/jpeg;base64,{data}'>"
    except UserError:  # it has been moved, or the table could only write its name in escapes
        picture = "<div class='none'>no preview</div>"
    return (
        f"<figure>{picture}<figcaption><b>{float(row['quality']):.1f}</b> ± {float(row['sigma']):.1f}<br>"
        f"{row['distortion']} ({float(row['probability']):.0%})<br><code>{path}</code></figcaption></figure>"
    )
