"""What the study found, in words: docs/findings.md and a page of the gallery, made of the rows of findings.csv."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from gmiqa.evaluate.claims import DECIDED, FAILS, HOLDS, NOT_RUN, SAME, UNDECIDED, deciding
from gmiqa.report import executed as pages
from gmiqa.report.findings import records
from gmiqa.report.study import MOST, cost, findings, likeness, outcome_text, reached, repeated, signed
from gmiqa.runs.provenance import write_atomically
from gmiqa.runs.study import Results

TITLES = {HOLDS: "What holds", FAILS: "What does not hold", SAME: "No difference larger than the margin",
          UNDECIDED: "Undecided"}
WAITING = "waiting"
WORDS = {HOLDS: ("holds", "hold"), FAILS: ("does not hold", "do not hold"),
         SAME: ("shows no difference larger than its margin", "show no difference larger than their margin"),
         UNDECIDED: ("is undecided so far", "are undecided so far"), WAITING: ("waits for runs", "wait for runs"),
         NOT_RUN: ("needs its authors' pictures", "need their authors' pictures")}


def again(frame: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    """What became of the claims that were run once more."""
    first = {row["claim"]: row["before"] or outcome_text(row) for row in records(frame.dropna(subset="value"))}
    return [f"{row['claim']}. At first: {first.get(row['claim'], 'not judged')}. Again: {outcome_text(row)}."
            for row in records(second)]


def sentence(row: dict[str, Any]) -> str:
    """The finding of one claim in one line of Markdown."""
    if row["value"] is None:
        return f"{row['claim']}. Fewer than three seeds have been run so far, which decide nothing."
    text = f"{row['claim']}. {row['metric'][0].upper()}{row['metric'][1:]} {signed(row)}"
    of = "" if row["runs"] == row["planned"] else f" of {int(row['planned'])} planned"
    text += f", {int(row['n'])} {row['unit']}, {int(row['runs'])}{of} seeds{SECONDLY if row['before'] else ''}."
    if row["outcome"] == UNDECIDED and row["nominal"] in DECIDED:
        text += f" By itself it would be decided ({row['nominal']}); after Holm's correction it is not."
    if row["outcome"] == UNDECIDED:
        text += f" {_more(row)}"
    elif row["outcome"] != SAME and abs(row["value"]) < row["margin"]:
        text += " So small a difference would not matter."
    text += f" At first: {row['before']}." if row["before"] else ""
    elsewhere = row.get("again") if not row["before"] else None
    return text + (f" Run again, it ended as {elsewhere}." if elsewhere not in (None, row["outcome"]) else "")


def _more(row: dict[str, Any]) -> str:
    """How many runs or contents would decide a claim after Holm's correction, if its difference stayed what it is."""
    parts = [f"{int(row[name])} {word}" for name, word in (("runs_needed", "seeds"), ("contents_needed", row["unit"]))
             if row[name] is not None]
    if not parts:
        return f"Not even {MOST} seeds would decide a difference of this size."
    return f"If the difference stayed what it is, {' or '.join(parts)} would decide it."


def summary(frame: pd.DataFrame) -> str:
    """How many claims ended how."""
    waiting = frame["outcome"].where((frame["outcome"] != UNDECIDED) | frame["value"].notna(), WAITING)
    counts = [(waiting.eq(word).sum(), one, more) for word, (one, more) in WORDS.items()]
    texts = [f"{count} {one if count == 1 else more}" for count, one, more in counts if count]
    return f"Of {len(frame)} claims, {', '.join(texts[:-1])}{' and ' if texts[1:] else ''}{texts[-1]}."


def write(results: Results, page: Path, gallery: Path) -> pd.DataFrame:
    """findings.csv and findings.html in `gallery`, figures in the results' folder, and `page`, in Markdown."""
    frame = findings(results)
    write_atomically(gallery / "findings.csv", frame.drop(columns="short").to_csv(index=False).encode())
    pictures, second = _figures(frame, results.folder), repeated(results)
    frame["again"] = frame["claim"].map(second.set_index("claim")["outcome"])
    twice = Section("Run again", TWICE.format(alike=likeness(results)), None, again(frame, second))
    parts = sections(frame, pictures, twice, [*reached(results), *cost(results)])
    write_atomically(page, _markdown(summary(frame), parts, page.parent).encode())
    write_atomically(gallery / "findings.html", _html(summary(frame), parts).encode())
    return frame


def _figures(frame: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """Outcome -> a figure of its claims."""
    import matplotlib.pyplot as plt

    from gmiqa.figures.evaluation import in_margins
    from gmiqa.figures.style import save

    made = {}
    for outcome in TITLES:
        rows = frame[(frame["outcome"] == outcome) & frame["value"].notna()]
        if len(rows):
            _, low, high = deciding(outcome)
            figure = in_margins(rows.assign(low=rows[low], high=rows[high]))
            svg, png = save(figure, folder, outcome.replace(" ", "_"))
            svg.unlink()
            plt.close(figure)
            made[outcome] = png
    return made


INTRO = (
    "This page is written by `gmiqa findings` from the tables in `outputs/findings`. What was asked, with its "
    "metric, margin and number of runs, was [written down before the first result](study.md); what was changed later, "
    "and why, stands there too. Scores are KADID-calibrated unless a claim says that they are people's own. The "
    "networks are small and trained for minutes, and the test pictures show contents that no training saw.")
READ = (
    "A difference is given so that more than 0 speaks for the claim. Figures give it in margins, so that claims of "
    "different metrics fit on one axis; in the grey band a difference is too small to matter. Intervals are of 95 %; "
    "under \"no difference\" they are of 90 %, which is what two one-sided tests at 5 % ask for.")
SURE = (
    "Intervals allow for seeds and test contents (types, in adaptation) as two samples. The training pictures, and the "
    "folds of types, are the same for all seeds of a round, so they are not allowed for. Within a family, p values are "
    "corrected by Holm's method, those of differences and those of \"no difference\" each by themselves; {lost}.")
REPEAT = (
    "`findings.csv` in the gallery has every number, and for each claim a command that repeats its experiment in "
    "another folder; `gmiqa findings --of` that folder then prints the outcome. [The study](study.md#how-it-is-run) "
    "says what LEARN, TEST and SCORED are. `gmiqa study` trains the seeds that are not there yet.")
TWICE = (
    "The same commands, from the page alone, on another kind of processor. It rounds otherwise, and a training makes a "
    "large difference of a small one: the same seed becomes another network there. But starts, draws and pictures are "
    "the same, and within an arm the SROCC of the seeds correlates at {alike:.2f} with that of the first time. So this "
    "tells less than new seeds do. Holm's correction is over the claims that were run again.")
AWAY = (
    "These claims need their authors' pictures. FOLDER holds those, KADID10K the data set of that name, and PRISTINE "
    "undistorted pictures.")
TITLE, IN_MARGINS = "What holds of two published methods", "differences with intervals, in margins"
SECONDLY = " of the second round"
ROUNDS = (
    "Some claims that the first round of experiments left undecided were asked again in a second, with other seeds; "
    "their answers come from that round alone. Contents are more there and partly the same, scenes with human scores "
    "and types are the same. Each round errs in 5 % of all cases, so both together may err in 10 %.")
SMALL = "What holds, or fails, in networks of this size need not do so after a hundred times as many steps."


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, words, a figure, a list."""

    title: str
    text: str = ""
    picture: Path | None = None
    items: Sequence[str] = ()


def sections(frame: pd.DataFrame, pictures: dict[str, Path], twice: Section, reach: list[str]) -> list[Section]:
    """What the page says after its summary."""
    by_outcome = {outcome: records(frame[frame["outcome"] == outcome]) for outcome in (*TITLES, NOT_RUN)}
    parts = [Section(title, "", pictures.get(outcome), _items(by_outcome[outcome]))
             for outcome, title in TITLES.items() if by_outcome[outcome]]
    parts += [twice] if twice.items else []
    away = [f"{row['claim']}: `{row['command']}`" for row in by_outcome[NOT_RUN]]
    rounds = [ROUNDS] if frame["round"].eq(2).any() else []
    sure = [READ, SURE.format(lost=_lost(frame)), *rounds, *reach, SMALL, REPEAT]
    return [*parts, Section("How sure", "", None, sure),
            Section("Not run here", AWAY, None, away)]


def _items(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each claim; those without results share one."""
    waiting = [row["short"] for row in rows if row["value"] is None]
    texts = [sentence(row) for row in rows if row["value"] is not None]
    return texts + ([f"Without three seeds so far, and so not judged: {'; '.join(waiting)}."] if waiting else [])


def _lost(frame: pd.DataFrame) -> str:
    count = int((frame["nominal"].isin(DECIDED) & (frame["outcome"] == UNDECIDED)).sum())
    return {0: "no claim changed its outcome by that", 1: "one claim became undecided by that"}.get(
        count, f"{count} claims became undecided by that")


def _markdown(summary: str, parts: list[Section], beside: Path) -> str:
    lines = [f"# {TITLE}", "", summary, "", INTRO, ""]
    for part in parts:
        lines += [f"## {part.title}", "", *([part.text, ""] if part.text else [])]
        if part.picture:
            path = Path(os.path.relpath(part.picture, beside)).as_posix()
            lines += [f"![{part.title}: {IN_MARGINS}]({path})", ""]
        lines += [*(f"- {text}" for text in part.items), *([""] if part.items else [])]
    return "\n".join(lines).rstrip() + "\n"


def _html(summary: str, parts: list[Section]) -> str:
    made = [f'<header class="top"><h1>{TITLE}</h1><p>{escape(summary)}</p><p>{_spans(INTRO)}</p></header><main>']
    for part in parts:
        text = f"<p>{_spans(part.text)}</p>" if part.text else ""
        image = "" if part.picture is None else (
            f'<figure><div class="sheet"><img src="{pages.as_data(part.picture)}" width="900" '
            f'alt="{part.title}: {IN_MARGINS}"></div></figure>')
        items = "".join(f"<li>{_spans(item)}</li>" for item in part.items)
        made.append(f"<section><h2>{part.title}</h2>{text}{image}{f'<ul>{items}</ul>' if items else ''}</section>")
    return pages.page("gmiqa: what holds", "".join(made) + "</main>")


def _spans(text: str) -> str:
    """A line of Markdown as HTML: code, and the words of a link, since a page travels alone."""
    return re.sub("`(.+?)`", r"<code>\1</code>", re.sub(r"\[(.+?)\]\(.+?\)", r"\1", escape(text)))
