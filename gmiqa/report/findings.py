"""What a run found, read from the run.json of its stages: numbers, claims, and the sentence made of them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmiqa.report import executed as pages
from gmiqa.runs import provenance
from gmiqa.runs.order import LAST, NEEDS
from gmiqa.runs.plan import shown
from gmiqa.runs.saved_table import number

# What the first screen shows: the first of these that exist. Names are patterns; the words say what a number is.
PICTURES: tuple[tuple[str, str, str], ...] = (
    ("70_embeddings", "before_after", ""), ("70_embeddings", ".*", ""), ("50_evaluation", ".*", ""),
    ("40_fine_tuning", "predicted", ""), ("00_start_here", ".*", ""), ("20_meta_pretraining", ".*", ""),
    ("80_metaqap", ".*", ""), ("10_data_and_distortions", "level_curves", ""))
NUMBERS: tuple[tuple[str, str, str], ...] = (
    ("50_evaluation", "srocc_GMIQA", "Scores follow the quality of unseen pictures: rank correlation (SROCC)"),
    ("70_embeddings", "code_neighbour_type", "Nearest unseen picture has the same distortion, of 25"),
    ("20_meta_pretraining", "adapted_srocc", "SROCC on held-out distortions after adapting to a few labels"),
    ("40_fine_tuning", "srocc", "Scores follow the quality of test pictures: rank correlation (SROCC)"),
    ("80_metaqap", "stack_srocc", ""), ("30_distortion_graphs", "type_accuracy_.*", ""), ("50_evaluation", ".*", ""),
    ("60_ablations", ".*", ""), ("70_embeddings", ".*", ""), ("30_distortion_graphs", ".*", ""),
    ("20_meta_pretraining", ".*", ""), ("10_data_and_distortions", ".*", ""), ("00_start_here", ".*", ""))

# What is known of a claim: what stage.claim registers, and its outcome after Holm's correction over its family.
CLAIM = ("claim", "source", "outcome", "value", "low", "high", "margin", "n", "unit", "runs", "p", "p_holm", "family",
         "nominal", "evidence", "stage")
DIGITS = 4  # of the ends of an interval
STUDY = Path("outputs/gallery/findings.csv")  # claim, metric, value, low, high, margin, n, unit, runs, outcome, command


@dataclass
class Part:
    """One stage as the report sees it; ``record`` is None where it has no finished result."""

    name: str
    title: str
    question: str
    folder: Path
    record: dict[str, Any] | None

    def entries(self, kind: str) -> list[dict[str, Any]]:
        return self.record.get(kind, []) if self.record else []

    def notebook(self) -> str:
        """Relative path of its executed notebook, or of that one's page if there is one; empty if it ran by hand."""
        for ending in ("html", "ipynb"):
            if (self.folder / f"{self.name}.{ending}").exists():
                return f"{self.name}/{self.name}.{ending}"
        return ""


def collect(run: Path, notebooks: Path | None = None) -> list[Part]:
    """All stages of a run in order, finished or not."""
    notebooks = notebooks or provenance.repository_root() / "notebooks"
    parts = []
    for name in NEEDS:
        source = notebooks / f"{name}.ipynb"
        title, question = pages.first_words(source) if source.exists() else (name, "")
        parts.append(Part(name, title, question, run / name, provenance.record(run / name)))
    return parts


def pick(parts: list[Part], kind: str, wanted: tuple[tuple[str, str, str], ...], count: int
         ) -> list[tuple[Part, dict[str, Any], str]]:
    """The first ``count`` entries that exist, in the order of `wanted`: the stage, the entry, what to call it."""
    by_name = {part.name: part for part in parts}
    picked: list[tuple[Part, dict[str, Any], str]] = []
    for stage, pattern, words in wanted:
        matching = [e for e in by_name[stage].entries(kind) if re.fullmatch(pattern, e["name"])]
        if matching and len(picked) < count and all(matching[0] is not entry for _, entry, _ in picked):
            picked.append((by_name[stage], matching[0], words or matching[0].get("text") or matching[0]["name"]))
    return picked


def claims(parts: list[Part], study: Path | None = None) -> Any:
    """Every registered claim, judged within its family: DataFrame with the columns CLAIM.

    Where the study has a finding about one of them, a column ``study`` holds what it says of the same claim.
    """
    import pandas as pd

    from gmiqa.evaluate.claims import judged
    entries = [{**claim, "stage": part.name} for part in parts for claim in part.entries("claims")]
    frame = judged(pd.DataFrame(entries, columns=[c for c in CLAIM if c not in ("p_holm", "nominal")]))[list(CLAIM)]
    frame = frame.astype({**dict.fromkeys(("n", "runs"), "Int64"),
                          **dict.fromkeys(("low", "high", "margin", "p"), float)})
    of_study = studied(study or provenance.repository_root() / STUDY) or {}
    if set(of_study) & set(map(_key, frame["claim"])):
        frame.insert(list(CLAIM).index("evidence"), "study", [of_study.get(_key(c), "") for c in frame["claim"]])
    return frame


def brief(frame: Any) -> Any:
    """Claims as a table to read: each with what was found in one line, and what the study says where it does."""
    found = [evidence_text(row) if row["value"] is not None else "" for row in records(frame)]
    return frame[["claim", "source", "outcome"]].assign(**{"found here": found}, **(
        {"the study": frame["study"]} if "study" in frame else {}))


def studied(path: Path) -> dict[str, str] | None:
    """What the study says of each claim, by the claim's text; None if there is no file of it."""
    import pandas as pd

    from gmiqa.evaluate.claims import deciding
    if not path.is_file():
        return None
    texts: dict[str, list[str]] = {}
    for row in records(pd.read_csv(path)):
        metric = f"{row['metric']} " if row.get("metric") else ""
        (width, *ends), told = deciding(row["outcome"]), ""
        if ends != ["low", "high"] and row.get(ends[0]) is not None:
            low, high = (round(row[end], DIGITS) for end in ends)
            row, told = row | {"low": low, "high": high}, f" ({width} % interval)"
        if row["value"] is not None:
            texts.setdefault(_key(row["claim"]), []).append(f"{row['outcome']}: {metric}{evidence_text(row)}{told}")
    return {claim: "; ".join(lines) for claim, lines in texts.items()}


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a table, None where a cell is empty."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def evidence_text(row: dict[str, Any]) -> str:
    """A claim's value, interval, margin and count in one line."""
    interval, margin, count = interval_text(row), row.get("margin"), count_text(row)
    return ", ".join(text for text in (
        number(row["value"]) + (f" [{interval}]" if interval else ""),
        f"margin {number(margin)}" if margin is not None else "", f"n = {count}" if count else "") if text)


def count_text(row: dict[str, Any]) -> str:
    """``24 contents, 8 runs``"""
    if row["n"] is None:
        return ""
    runs = f", {int(row['runs'])} runs" if (row.get("runs") or 1) > 1 else ""
    return f"{number(int(row['n']))} {row.get('unit') or ''}".rstrip() + runs


def _key(claim: str) -> str:
    return " ".join(claim.casefold().split()).rstrip(".")


def counted(outcomes: list[str]) -> str:
    """``3 hold, 1 does not, 2 are undecided at this size and 4 were not run``, from the outcomes themselves."""
    words = {"holds": ("holds", "hold"), "does not hold": ("does not", "do not"),
             "no difference": ("shows no difference larger than its margin",
                               "show no difference larger than their margin"),
             "undecided": ("is undecided at this size", "are undecided at this size"),
             "not run here": ("was not run here", "were not run here")}
    texts = [f"{outcomes.count(o)} {words[o][outcomes.count(o) > 1]}" for o in words if outcomes.count(o)]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def sentence(parts: list[Part]) -> str:
    """What the run found and what it did not, in one sentence made of its own numbers."""
    headline = pick(parts, "numbers", NUMBERS, 1)
    outcomes = list(claims(parts)["outcome"])
    others = [part for part in parts if part.name != LAST]
    missing = [part.name for part in others if part.record is None]
    texts = []
    if headline:
        _, entry, words = headline[0]
        texts.append(f"{words.rstrip('.')} {value(entry)}"
                     + (f" (n = {number(entry['n'])})" if entry["n"] is not None else ""))
    if outcomes:
        texts.append(f"of {len(outcomes)} claims {counted(outcomes)}")
    if missing:
        texts.append(f"{len(missing)} of {len(others)} stages have no result")
    text = "; ".join(texts) or "no stage of this run has finished"
    return text[0].upper() + text[1:] + "."


def value(entry: dict[str, Any]) -> str:
    interval = interval_text(entry)
    return (f"{number(entry['value'])}{' ' + entry['unit'] if entry['unit'] else ''}"
            + (f" [{interval}]" if interval else ""))


def interval_text(entry: dict[str, Any]) -> str:
    if entry["low"] is None or entry["high"] is None:
        return ""
    return f"{number(entry['low'])} to {number(entry['high'])}"


def results(run: Path, file: Any = sys.stdout) -> None:
    """The numbers of all finished stages, and where the report is."""
    rows = []
    for name in NEEDS:
        for entry in (provenance.record(run / name) or {}).get("numbers", []):
            value, low, high = entry["value"], entry["low"], entry["high"]
            text = f"{value:.3f}" if isinstance(value, float) else str(value)
            text += f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
            text += f" {entry['unit']}" if entry["unit"] else ""
            rows.append((name, entry["name"], text, "" if entry["n"] is None else f"n = {entry['n']}"))
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(4)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(), file=file)
    report = run / "report.html"
    if report.exists():
        print(f"\nreport: {shown(report)}", file=file)
