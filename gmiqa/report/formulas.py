"""TeX in a notebook's text becomes small pictures, so that its page shows formulas without a network."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import Any

FORMULA = re.compile(r"\$([^$\n]+)\$")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
SIZE = 13  # points


def drawn(notebook: Any) -> Any:
    """The same notebook, with the formulas of its text cells, and of text that its code displayed, set as pictures."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = in_text(cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/markdown" in data:
                data["text/markdown"] = in_text(data["text/markdown"])
    return notebook


def in_text(text: str) -> str:
    """Markdown whose formulas are pictures; what is code stays as it is."""
    return "".join(part if k % 2 else FORMULA.sub(lambda match: picture(match[1]), part)
                   for k, part in enumerate(CODE.split(text)))


def picture(tex: str) -> str:
    """An <img> that stands on the line, with its TeX as alternative text; or the TeX itself if it cannot be set."""
    from matplotlib import rc_context
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    svg = io.BytesIO()
    try:
        with rc_context({"mathtext.fontset": "stix", "svg.fonttype": "path", "svg.hashsalt": "gmiqa"}):
            depth = math_to_image(f"${tex}$", svg, prop=FontProperties(size=SIZE), format="svg")
    except ValueError:
        return f"<code>{escape(tex)}</code>"
    # One line of TeX must not break a line or a cell of Markdown.
    alt = escape(tex, quote=True).replace("|", "&#124;").replace("\\", "&#92;").replace("_", "&#95;")
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}"
    return f'<img class="formula" style="vertical-align:-{depth:.2f}pt" alt="{alt}" src="{source}">'
