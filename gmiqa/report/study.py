"""What the study found: its tables -> findings.csv, docs/findings.md, a page of the gallery.

Every sentence is made of the rows of findings.csv. Differences are turned so that more than 0 speaks for the claim.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.evaluate import paper_tables, srocc
from gmiqa.evaluate.claims import DECIDED, FAILS, HOLDS, NOT_RUN, SAME, UNDECIDED, judged, verdict
from gmiqa.evaluate.components import needed
from gmiqa.evaluate.reported import DATASETS
from gmiqa.experiments.questions import QUESTIONS, Question, answers
from gmiqa.report import executed as pages
from gmiqa.report.findings import records
from gmiqa.runs.provenance import write_atomically
from gmiqa.runs.study import Results

COLUMNS = ("claim", "short", "source", "family", "metric", "value", "low", "high", "margin", "n", "unit", "runs",
           "planned", "outcome", "p", "p_holm", "nominal", "runs_needed", "contents_needed", "command")
COMMAND = "gmiqa study params/study.yaml -p data=LEARN -p test_data=TEST --only {} --to outputs/again"
HUMAN = COMMAND.replace("params/study.yaml", "params/study.yaml params/folder.yaml") + (
    " -p dataset_path=SCORED -p csv=SCORED/scores.csv -p csv_group=group")
TITLES = {HOLDS: "What holds", FAILS: "What does not hold", SAME: "No difference larger than the margin",
          UNDECIDED: "Undecided"}
WAITING = "waiting"
WORDS = {HOLDS: ("holds", "hold"), FAILS: ("does not hold", "do not hold"),
         SAME: ("shows no difference larger than its margin", "show no difference larger than their margin"),
         UNDECIDED: ("is undecided so far", "are undecided so far"), WAITING: ("waits for runs", "wait for runs"),
         NOT_RUN: ("needs its authors' pictures", "need their authors' pictures")}
AGAIN = "again"  # folder of results that the same commands gave on another machine
MOST = 1000  # runs or contents beyond which "more" is no answer


def findings(results: Results) -> pd.DataFrame:
    """A row for each claim, after Holm's correction within its family: columns COLUMNS."""
    tables = {name: results.table(name) for name in {q.experiment for q in QUESTIONS}}
    rows = [_row(question, answer) for question, answer in answers(tables)]
    return pd.concat([judged(pd.DataFrame(rows)), pd.DataFrame(_elsewhere())], ignore_index=True)[list(COLUMNS)]


def _row(q: Question, answer: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"claim": q.claim, "short": q.short, "source": q.source, "family": q.family,
                           "metric": q.metric, "margin": q.margin, "unit": q.unit, "planned": q.runs,
                           "command": (HUMAN if q.experiment.startswith("human") else COMMAND).format(q.experiment),
                           "outcome": UNDECIDED, "p": np.nan}
    empty = dict.fromkeys(("value", "low", "high", "n", "runs", "runs_needed", "contents_needed"), np.nan)
    if answer is None:
        return row | empty
    low, high = sorted((q.in_favour(answer.low), q.in_favour(answer.high)))
    more = needed(answer.estimate, q.margin, MOST) if answer.outcome == UNDECIDED else (None, None)
    return row | {"value": q.in_favour(answer.delta), "low": low, "high": high, "n": answer.n, "runs": answer.runs,
                  "p": answer.p, "outcome": verdict(answer.outcome, q.wanted), "runs_needed": more[0],
                  "contents_needed": more[1]}


def _elsewhere() -> list[dict[str, Any]]:
    """The claims that need an authors' data set, each with its one command."""
    nothing = pd.DataFrame(columns=["method", "metric"])
    claims = [(claim.claim, method) for method in ("GMIQA", "MetaQAP")
              for claim in paper_tables.reached(method, nothing, "")]
    claims += [(paper_tables.single_distortions(None, name, "").claim, "GMIQA") for name in ("LIVE", "CSIQ")]
    loaders = {title: name for name, title in DATASETS.items()}
    rows = []
    for claim, method in claims:
        title = next(t for t in sorted(loaders, key=len, reverse=True) if t in claim)
        only = " --only 80" if method == "MetaQAP" else ""
        rows.append({"claim": claim, "source": "paper", "outcome": NOT_RUN,
                     "command": f"gmiqa run params/paper.yaml params/{loaders[title]}.yaml "
                                f"-p dataset_path=FOLDER{only}"})
    return rows


def reached(results: Results) -> list[str]:
    """What the arms of each experiment with predictions reach: how good networks of this size are."""
    lines = []
    for name, title in (("ablations", "rows of the ablation"), ("metaqap", "arms of MetaQAP"),
                        ("stack", "parts of the stack"), ("human", "arms of MetaQAP on human scores"),
                        ("human_stack", "parts of the stack on human scores"), ("rivals", "rivals, GMIQA among them,")):
        table = results.table(name)
        values = {arm: np.mean([srocc(part[arm], part.index.get_level_values("target")) for _, part in
                                table[[arm]].dropna().groupby("seed")]) for arm in table}
        if values:
            low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
            lines.append(f"The {len(values)} {title} reach an SROCC of {values[low]:.2f} ({low}) to {values[high]:.2f} "
                         f"({high}), averaged over seeds.")
    return lines


# -- in words


def repeated(results: Results) -> pd.DataFrame:
    """The claims whose experiment was run once more, from the results in the folder `again`."""
    return findings(Results(results.folder / AGAIN)).dropna(subset="value")


def again(frame: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    """What became of the claims that were run once more."""
    first = {row["claim"]: _short(row) for row in records(frame)}
    return [f"{row['claim']}. At first: {first[row['claim']]}. Again: {_short(row)}." for row in records(second)]


def _short(row: dict[str, Any]) -> str:
    alone = row["nominal"] if row["outcome"] == UNDECIDED and row["nominal"] in DECIDED else ""
    return (f"{row['outcome']}{f' (alone: {alone})' if alone else ''}, {_signed(row)}, {int(row['runs'])} seeds"
            if row["value"] is not None else "not judged")


def sentence(row: dict[str, Any]) -> str:
    """The finding of one claim in one line of Markdown."""
    if row["value"] is None:
        return f"{row['claim']}. Fewer than three seeds have been run so far, which decide nothing."
    text = f"{row['claim']}. {row['metric'][0].upper()}{row['metric'][1:]} {_signed(row)}"
    of = "" if row["runs"] == row["planned"] else f" of {int(row['planned'])} planned"
    text += f", {int(row['n'])} {row['unit']}, {int(row['runs'])}{of} seeds."
    if row["outcome"] == UNDECIDED and row["nominal"] in DECIDED:
        text += f" By itself it would be decided ({row['nominal']}); after Holm's correction it is not."
    elif row["outcome"] == UNDECIDED:
        text += f" {_more(row)}"
    return text + (f" Run again, it ended as {row['again']}." if row.get("again") not in (None, row["outcome"]) else "")


def _signed(row: dict[str, Any]) -> str:
    return f"{row['value']:+.3f} (95 % interval {row['low']:+.3f} to {row['high']:+.3f}, margin {row['margin']:g})"


def _more(row: dict[str, Any]) -> str:
    """How many runs or contents would decide a claim, if its difference stayed what it is."""
    parts = [f"{int(row[name])} {word}" for name, word in (("runs_needed", "seeds"), ("contents_needed", row["unit"]))
             if row[name] is not None]
    if not parts:
        return f"Neither {MOST} seeds nor {MOST} contents alone would decide a difference of this size."
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
    pictures = _figures(frame, results.folder)
    sure = " ".join([SURE.format(lost=_lost(frame)), *reached(results), SMALL])
    second = repeated(results)
    frame["again"], twice = frame["claim"].map(second.set_index("claim")["outcome"]), again(frame, second)
    write_atomically(page, _markdown(frame, pictures, page.parent, sure, twice).encode())
    write_atomically(gallery / "findings.html", _html(frame, pictures, sure, twice).encode())
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
            figure = in_margins(rows)
            svg, png = save(figure, folder, outcome.replace(" ", "_"))
            svg.unlink()
            plt.close(figure)
            made[outcome] = png
    return made


INTRO = (
    "This page is written by `gmiqa findings` from the tables in `outputs/gallery/study`. What was asked, with its "
    "metric, margin and number of runs, was [written down before the first result](study.md). Scores are "
    "KADID-calibrated unless a claim says that they are people's own. The networks are small and trained for minutes, "
    "and the test pictures show contents that no training saw.")
SURE = (
    "A difference is given so that more than 0 speaks for the claim. Figures give it in margins, so that claims of "
    "different metrics fit on one axis; in the grey band a difference is too small to matter. Intervals allow for "
    "seeds and contents as two samples. Within a family, p values are corrected by Holm's method; {lost}. "
    "`findings.csv` beside the gallery has every number, and for each claim a command that repeats its experiment in "
    "another folder (LEARN and TEST hold undistorted pictures, SCORED scored ones: see the page above); "
    "when it has ended, `gmiqa findings --of` that folder prints the outcome. The experiments continue where they "
    "stopped: `gmiqa study` trains the seeds that are not there yet.")
TWICE = (
    "The same commands, from the page alone, on another kind of processor. It rounds otherwise, and a training makes a "
    "large difference of a small one: the same seed becomes another network there. So this tells as much as new seeds "
    "do. Holm's correction is over the claims that were run again.")
SMALL = "What holds, or fails, in networks of this size need not do so after a hundred times as many steps."


def _markdown(frame: pd.DataFrame, pictures: dict[str, Path], beside: Path, sure: str, twice: list[str]) -> str:
    lines = ["# What holds of two published methods", "", summary(frame), "", INTRO, ""]
    for outcome, title in TITLES.items():
        rows = records(frame[frame["outcome"] == outcome])
        if not rows:
            continue
        lines += [f"## {title}", ""]
        if outcome in pictures:
            path = Path(os.path.relpath(pictures[outcome], beside)).as_posix()
            lines += [f"![{title}: differences with intervals, in margins]({path})", ""]
        lines += [f"- {text}" for text in _items(rows)] + [""]
    if twice:
        lines += ["## Run again", "", TWICE, "", *(f"- {text}" for text in twice), ""]
    lines += ["## How sure", "", sure, "", "## Not run here", "",
              "These claims need their authors' pictures. FOLDER is that folder.", "", "| claim | command |",
              "|---|---|"]
    lines += [f"| {row['claim']} | `{row['command']}` |" for row in records(frame[frame["outcome"] == NOT_RUN])]
    return "\n".join(lines) + "\n"


def _items(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each claim; those without results share one."""
    waiting = [row["short"] for row in rows if row["value"] is None]
    texts = [sentence(row) for row in rows if row["value"] is not None]
    return texts + ([f"Fewer than three seeds so far, which decide nothing: {'; '.join(waiting)}."] if waiting else [])


def _lost(frame: pd.DataFrame) -> str:
    count = int((frame["nominal"].isin(DECIDED) & (frame["outcome"] == UNDECIDED)).sum())
    return {0: "no claim changed its outcome by that", 1: "one claim became undecided by that"}.get(
        count, f"{count} claims became undecided by that")


def _html(frame: pd.DataFrame, pictures: dict[str, Path], sure: str, twice: list[str]) -> str:
    parts = [f'<header class="top"><h1>What holds of two published methods</h1><p>{escape(summary(frame))}</p></header>'
             "<main>"]
    for outcome, title in TITLES.items():
        rows = records(frame[frame["outcome"] == outcome])
        if rows:
            image = "" if outcome not in pictures else (
                f'<figure><div class="sheet"><img src="{pages.as_data(pictures[outcome])}" width="900" '
                f'alt="{title}: differences with intervals, in margins"></div></figure>')
            items = "".join(f"<li>{escape(text)}</li>" for text in _items(rows))
            parts.append(f"<section><h2>{title}</h2>{image}<ul>{items}</ul></section>")
    if twice:
        items = "".join(f"<li>{escape(text)}</li>" for text in twice)
        parts.append(f"<section><h2>Run again</h2><p>{TWICE}</p><ul>{items}</ul></section>")
    parts.append(f"<section><h2>How sure</h2><p>{escape(sure).replace('`', '')}</p></section></main>")
    return pages.page("gmiqa: what holds", "".join(parts))
