"""One look for every figure: ``with style(): ...``. Colours stay apart for colour-blind readers and in grey."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, MUTED, GRID, PAPER = "#1b1f24", "#5b6470", "#e3e6ea", "#ffffff"

# Okabe & Ito (2008), "Color universal design", reordered so that the first ones differ most in lightness;
# yellow is left out, as it vanishes on white paper.
PALETTE = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#1b1f24", "#8c8c8c"]

# one colour per distortion group, in the order of distortions.GROUPS
GROUP_COLOURS = {
    "blur": "#0072b2",
    "colour": "#cc79a7",
    "compression": "#e69f00",
    "noise": "#1b1f24",
    "tone": "#009e73",
    "spatial": "#56b4e9",
    "sharpness": "#d55e00",
}

REPORT_WIDTH = 9.0  # inches: shown at about 900 px in the report


@contextmanager
def style(scale: float = 1.0) -> Iterator[None]:
    """matplotlib with this project's look inside the block; ``scale`` multiplies the size of text."""
    import matplotlib as mpl
    from cycler import cycler

    size = 10.5 * scale
    with mpl.rc_context({
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same picture on every machine
        "font.size": size, "axes.titlesize": size * 1.05, "axes.labelsize": size,
        "xtick.labelsize": size * 0.92, "ytick.labelsize": size * 0.92, "legend.fontsize": size * 0.92,
        "figure.titlesize": size * 1.2, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "xtick.color": MUTED,
        "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
        "axes.grid": False, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8,
        "axes.prop_cycle": cycler(color=PALETTE), "lines.linewidth": 1.8, "lines.markersize": 5,
        "legend.frameon": False, "image.cmap": "viridis", "image.interpolation": "nearest",
        "figure.figsize": (REPORT_WIDTH, 4.2), "figure.dpi": 100, "savefig.dpi": 160,
        "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "figure.constrained_layout.use": True,
        "svg.fonttype": "path", "svg.hashsalt": "gmiqa",
    }):
        yield


def save(figure: Any, folder: Path | str, name: str) -> tuple[Path, Path]:
    """``name.svg`` and ``name.png`` in ``folder``; the same figure gives the same bytes (no dates inside)."""
    import matplotlib as mpl

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "gmiqa"}):
        figure.savefig(svg, metadata={"Date": None}, bbox_inches="tight")
        figure.savefig(png, dpi=160, bbox_inches="tight", metadata={"Software": None})
    return svg, png
