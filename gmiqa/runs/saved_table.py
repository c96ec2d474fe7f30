"""A table of a stage on disk, and as a notebook shows it."""

from __future__ import annotations

import math
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from gmiqa.runs import provenance
from gmiqa.runs.kernel import flat_name


def save_table(table: Any, folder: Path, name: str, caption: str) -> tuple[list[Path], dict[str, Any], Any]:
    """The files it became, its entry in the record, and what a notebook displays.

    A DataFrame becomes name.csv, with its index unless that only counts rows. A table of ``evaluate.tables`` saves
    itself in all its formats, and keeps its marks for the best and the second.
    """
    import pandas as pd
    entry: dict[str, Any] = {"name": name, "caption": caption, "csv": f"{name}.csv"}
    if hasattr(table, "texts"):
        folder.mkdir(parents=True, exist_ok=True)
        filled = table.frame.notna().any()
        marked = table.texts("<b>{}</b>", "<u>{}</u>").loc[:, filled if filled.any() else slice(None)]
        text = marked.rename_axis(None).to_html(escape=False, border=0, classes="marked")
        html = folder / f"{name}.html"
        above = f'<p class="caption">{escape(caption)}</p>'
        html.write_text(f'{above}<div class="scroll">{text}</div>', encoding="utf-8")
        entry |= {"html": html.name, "rows": len(table.frame)}
        return [*table.save(folder, name), html], entry, marked.rename_axis(None).style.set_caption(caption)
    keep = not isinstance(table.index, pd.RangeIndex)
    flat = table.set_axis([flat_name(c) for c in table.columns], axis=1)
    provenance.write_atomically(folder / f"{name}.csv", flat.to_csv(index=keep).encode())
    entry |= {"index": table.index.nlevels if keep else 0}
    if max(table.index.nlevels, table.columns.nlevels) == 1:  # one row of headings, not two
        table = table.rename_axis(index=None, columns=table.index.name)
    shown = table.style.format(number, na_rep="").set_caption(caption)
    return [folder / f"{name}.csv"], entry, shown if keep else shown.hide(axis="index")


def number(value: Any) -> str:
    """A value as a reader wants it: three decimals below ten, fewer above, and a true minus sign."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    text = _thousands(int(value)) if isinstance(value, Integral) else _digits(float(value))
    return text.replace("-", "\u2212")


def _digits(value: float) -> str:
    if 10 <= abs(value) < 1e15 and value == int(value):
        return _thousands(int(value))
    if value == 0:
        return "0"
    if abs(value) < 5e-4 or abs(value) >= 1e6:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _thousands(value: int) -> str:
    return f"{value:,}".replace(",", "\u2009")
