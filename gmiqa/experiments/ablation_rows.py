"""The rows of the ablation: what each switches, what it is held against, and which claims it bears on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gmiqa.evaluate.reported import ABLATION_GAIN
from gmiqa_core.errors import UserError, did_you_mean

FOLDER = Path(__file__).resolve().parents[2] / "params" / "ablations"
FACTORS = ("SC", "Meta", "DGR")


@dataclass(frozen=True)
class Row:
    """One row: name, overlay params/ablations/<file>.yaml, title, part of the table, row to compare with."""

    name: str
    file: str
    title: str
    part: str
    against: str = ""


ROWS = (
    Row("BL", "bl", "BL: plain ResNet", "in order"),
    Row("DGR", "bl_dgr", "+ DGR: graph pre-training", "in order", "BL"),
    Row("SC", "bl_dgr_sc", "+ SC: self-calibrated blocks", "in order", "DGR"),
    Row("Meta", "bl_dgr_sc_meta", "+ Meta: meta pre-training", "in order", "SC"),
    Row("full", "full", "+ SPP: spatial pyramid (full)", "in order", "Meta"),
    Row("no_DGR", "no_dgr", "full without DGR", "left out", "full"),
    Row("no_SC", "no_sc", "full without SC", "left out", "full"),
    Row("no_Meta", "no_meta", "full without Meta", "left out", "full"),
    Row("SC_only", "sc_only", "full without Meta and DGR", "left out", "full"),
    Row("Meta_only", "meta_only", "full without SC and DGR", "left out", "full"),
    Row("DGR_only", "dgr_only", "full without SC and Meta", "left out", "full"),
    Row("none", "none", "full without all three", "left out", "full"),
    Row("plain_Meta", "plain_meta", "plain training in place of Meta", "equal compute", "full"),
    Row("plain_DGR", "plain_dgr", "plain training in place of DGR", "equal compute", "full"),
    Row("whole", "whole", "full, on whole pictures", "pictures", "full"),
    Row("V_only", "v_only", "V only, no graph", "graph", "full"),
    Row("V_MLP", "v_mlp", "V + MLP of equal size", "graph", "full"),
    Row("depth_1", "edge_depth_1", "edge GCN of 1 layer", "graph", "full"),
    Row("depth_5", "edge_depth_5", "edge GCN of 5 layers", "graph", "full"),
)
_GAINS = " and ".join(f"{gain} % on {name}" for name, gain in ABLATION_GAIN.items())
# Row -> its claim, whose it is, and what the row must be against its reference for the claim to hold.
CLAIMS = {
    "DGR": (f"Graph pre-training improves BL (the paper: SROCC + {_GAINS})", "paper", "better"),
    "SC": ("Self-calibrated blocks improve accuracy further", "paper", "better"),
    "Meta": ("Meta pre-training improves accuracy further", "paper", "better"),
    "full": ("The spatial pyramid improves accuracy further", "paper", "better"),
    "plain_Meta": ("Meta pre-training is worth more than as much plain training", "ours", "worse"),
    "plain_DGR": ("Graph pre-training is worth more than as much plain training", "ours", "worse"),
    "whole": ("Whole pictures are scored better than crops", "ours", "better"),
    "V_only": ("The edges help the score beyond the nodes alone", "ours", "worse"),
    "V_MLP": ("The edge GCN helps beyond an MLP of equal size", "ours", "worse"),
}
# The factorial: which of SC, Meta and DGR each of its eight rows has.
CELLS = {"none": "", "SC_only": "SC", "Meta_only": "Meta", "DGR_only": "DGR", "no_DGR": "SC Meta", "no_Meta": "SC DGR",
         "no_SC": "Meta DGR", "full": "SC Meta DGR"}


def with_and_without(factor: str) -> tuple[list[str], list[str]]:
    """The rows of the factorial that have a part, and those that lack it and are otherwise the same, in one order."""
    lacking = [name for name, has in CELLS.items() if factor not in has.split()]
    having = [next(m for m, has in CELLS.items() if set(has.split()) == {*CELLS[name].split(), factor})
              for name in lacking]
    return having, lacking


def rows(names: Iterable[str] = ()) -> list[Row]:
    """The rows of these names in the order of the table; without names all of them."""
    known = {row.name: row for row in ROWS}
    wanted = set(names) or set(known)
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"ablation_rows: there is no row '{name}'{hint}; the rows are {', '.join(known)}")
    return [row for row in ROWS if row.name in wanted]
