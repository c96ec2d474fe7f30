"""report.html: one page, no network, from what the stages of a run registered in their run.json.

    build(Path("outputs/quick"))

The first screen has one sentence, one picture and three numbers. Below are the claims, then each stage's numbers,
figures and tables with a link to its notebook, what the run cost, its parameters and its environment. The page says so
where a stage is missing.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from gmiqa.report import executed as pages
from gmiqa.report.findings import (
    NUMBERS,
    PICTURES,
    Part,
    claims,
    collect,
    count_text,
    counted,
    interval_text,
    pick,
    records,
    sentence,
    value,
)
from gmiqa.runs import provenance
from gmiqa.runs.order import LAST
from gmiqa.runs.progress import duration
from gmiqa.runs.saved_table import number

SIGNS = {"holds": ("✓", "holds"), "does not hold": ("✗", "fails"), "no difference": ("=", "same"),
         "undecided": ("~", "open"), "not run here": ("–", "open")}


def build(run: Path, headline: str = "", notebooks: Path | None = None, last: dict[str, Any] | None = None) -> Path:
    """Write ``run/report.html`` (and a page for each executed notebook beside it) and return its path.

    ``headline`` replaces the sentence; ``last`` holds the tables that the report's own stage has registered so far.
    """
    parts = collect(run, notebooks)
    for part in parts:
        executed = part.folder / f"{part.name}.ipynb"
        made = executed.with_suffix(".html")
        if part.record and executed.exists() and not (
                made.exists() and made.stat().st_mtime >= executed.stat().st_mtime):
            pages.notebook_page(executed, made)
    shown = [part for part in parts if part.name != LAST]
    body = [_first_screen(run, shown, headline or sentence(shown)), "<main>", _contents(shown), _claims(shown)]
    body += [_stage(part) for part in shown]
    body += [_cost(shown, run / LAST, last or {}), _parameters(shown), _environment(shown), "</main>", _footer()]
    path = run / "report.html"
    provenance.write_atomically(path, pages.page(f"gmiqa: {run.name}", "\n".join(body)).encode())
    return path


def _first_screen(run: Path, parts: list[Part], text: str) -> str:
    done = [part.record for part in parts if part.record]
    when = max((record["finished"] for record in done), default="")[:10]
    seconds = sum(record["seconds"] for record in done)
    device = done[0].get("device_name", "") if done else ""
    took = f"{duration(seconds)} of notebooks" if done else ""
    eyebrow = " · ".join(t for t in (f"gmiqa, run “{run.name}”", when, took, device) if t)
    pictures = pick(parts, "figures", PICTURES, 1)
    image = ""
    if pictures:
        part, figure, _ = pictures[0]
        image = pages.picture(part.folder, figure, f' <a href="#{part.name}">More of this</a>')
    items = []
    for part, entry, words in pick(parts, "numbers", NUMBERS, 3):
        interval = interval_text(entry)
        count = f"n = {number(entry['n'])}" if entry["n"] is not None else "n not stated"
        unit = f" {escape(entry['unit'])}" if entry["unit"] else ""
        items.append(f'<div><dt><a href="#{part.name}">{escape(words)}</a></dt><dd>'
                     f'<span class="value">{escape(number(entry["value"]))}{unit}</span> <span class="range">'
                     f"{interval + ', ' if interval else ''}{count}</span></dd></div>")
    return (f'<header class="top"><p class="eyebrow">{escape(eyebrow)}</p><div class="hero"><h1>{escape(text)}</h1>'
            f'{image}<dl class="numbers">{"".join(items)}</dl></div></header>')


def _contents(parts: list[Part]) -> str:
    items = []
    for part in parts:
        counts = {kind: len(part.entries(f"{kind}s")) for kind in ("figure", "table")}
        state = "no result" if part.record is None else ", ".join(
            f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items() if n)
        items.append(f'<li><a href="#{part.name}">{part.name[:2]} {escape(part.title)}</a> '
                     f'<span class="small">{state}</span></li>')
    return f'<section><nav aria-label="Contents"><h2>What is here</h2><ol>{"".join(items)}</ol></nav></section>'


def _claims(parts: list[Part]) -> str:
    frame = claims(parts)
    if frame.empty:
        return '<section id="claims"><h2>Claims</h2><p>No stage of this run has registered a claim.</p></section>'
    anchors = {(part.name, entry["name"]): f"{part.name}-{entry['name']}" for part in parts
               for kind in ("figures", "tables", "numbers") for entry in part.entries(kind)}
    study, margins = "study" in frame, bool(frame["margin"].notna().any())
    families = frame.loc[frame["p_holm"].notna(), "family"].value_counts()
    rows = [_claim(row, anchors, study, margins, families) for row in records(frame)]
    head = "".join(f"<th{kind}>{text}</th>" for text, kind in (
        ("claim", ""), ("outcome", ""), ("our number, 95 % interval", ""), *([("margin", ' class="n"')] * margins),
        ("n", ""), ("whose", ""), *([("the study", "")] * study), ("evidence", "")))
    return (f'<section id="claims"><h2>Claims</h2><p>{escape(_capital(counted(list(frame.outcome))))}. '
            "“Undecided” means that the interval of the paired difference holds zero, that there is too little data "
            "for one, or fewer than three trainings; larger presets and the study decide it. “No difference” means "
            "none larger than the margin: the 90 % interval lies within it. Claims of one family are corrected "
            "together (Holm). n counts independent things.</p>"
            f'<div class="scroll"><table class="claims"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
            "</table></div></section>")


def _claim(row: dict[str, Any], anchors: dict[tuple[str, str], str], study: bool, margins: bool, families: Any) -> str:
    sign, kind = SIGNS[row["outcome"]]
    anchor = anchors.get((row["stage"], row["evidence"]), row["stage"])
    interval, holm = interval_text(row), ""
    if row["p_holm"] is not None and row["outcome"] != row["nominal"]:
        holm = (f'<br><span class="small">{row["nominal"]} alone; p = {row["p_holm"]:.2g} among '
                f'{families[row["family"]]} claims</span>')
    cells = [f'<td>{escape(row["claim"])}</td>', f'<td class="outcome {kind}">{sign} {row["outcome"]}{holm}</td>',
             f'<td data-label="ours">{escape(number(row["value"]))}'
             + (f' <span class="small range">[{interval}]</span>' if interval else "") + "</td>"]
    if margins:
        cells.append(f'<td class="n" data-label="margin">{number(row["margin"])}</td>')
    cells += [f'<td data-label="n =">{escape(count_text(row))}</td>',
              f'<td data-label="claimed by the">{"paper" if row["source"] == "paper" else "project"}</td>']
    if study:
        cells.append(f'<td data-label="the study">{escape(row["study"] or "")}</td>')
    where = escape(row["evidence"] or row["stage"]).replace("_", "_<wbr>")
    cells.append(f'<td data-label="see"><a href="#{anchor}">{where}</a></td>')
    return f'<tr>{"".join(cells)}</tr>'


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _stage(part: Part) -> str:
    head = f"<h2>{part.name[:2]} {escape(part.title)}</h2>"
    question = f"<p>{escape(part.question)}</p>" if part.question else ""
    if part.record is None:
        failed = part.folder / f"{part.name}.failed.ipynb"
        reason = (f'Its last attempt failed: <a href="{part.name}/{failed.name}">{failed.name}</a>.' if failed.exists()
                  else "It has not been run here.")
        return (f'<section id="{part.name}">{head}{question}<div class="gone"><p><b>No result in this run.</b> '
                f"{reason}</p><p>Run it with <code>gmiqa run PARAMS --only {part.name[:2]}</code>, "
                "then the report again.</p></div></section>")
    link = part.notebook()
    meta = [f'<a href="{link}">the executed notebook</a>' if link else "run by hand, notebook not kept",
            duration(part.record["seconds"]), f"{part.record['peak_memory'] / 2**20:,.0f} MB at most",
            f"seed {part.record['seed']}"]
    body = [f'<section id="{part.name}">{head}{question}<ul class="meta">{"".join(f"<li>{m}</li>" for m in meta)}</ul>']
    facts = [f'<li id="{part.name}-{e["name"]}"><b>{escape(value(e))}</b>'
             + (f' <span class="small">n = {number(e["n"])}</span>' if e["n"] is not None else "")
             + f" {escape(e['text'] or e['name'])}</li>" for e in part.entries("numbers")]
    body.append(f'<ul class="facts">{"".join(facts)}</ul>' if facts else "")
    for figure in part.entries("figures"):
        link_figure = f' <a href="{part.name}/{figure["svg"]}">SVG</a>' if link else ""
        body.append(f'<div id="{part.name}-{figure["name"]}">{pages.picture(part.folder, figure, link_figure)}</div>')
    body += [_table(part, entry) for entry in part.entries("tables")]
    return "".join(body) + "</section>"


def _table(part: Part, entry: dict[str, Any]) -> str:
    import pandas as pd
    source = f'<small><a href="{part.name}/{entry["csv"]}">{entry["csv"]}</a></small>'
    if entry.get("html"):
        rows, text = entry.get("rows", 0), (part.folder / entry["html"]).read_text(encoding="utf-8")
    else:
        frame = pd.read_csv(part.folder / entry["csv"], keep_default_na=False, na_values=["", "nan", "NaN"])
        rows, text = len(frame), pages.table(frame, entry.get("index", 0), entry["caption"])
    opened = f'<div id="{part.name}-{entry["name"]}">'
    if rows > 16:
        summary = f"{escape(entry['caption'])} ({rows} rows)"
        return f"{opened}<details><summary>{summary}</summary>{text}{source}</details></div>"
    return f"{opened}{text}{source}</div>"


def _cost(parts: list[Part], folder: Path, last: dict[str, Any]) -> str:
    """Time and memory of each stage, and what the report's own stage says of the modules."""
    import pandas as pd
    rows = [{"stage": p.name, "seconds": round(p.record["seconds"], 1),
             "processor (s)": p.record.get("cpu_seconds"), "memory (MB)": p.record["peak_memory"] // 2**20,
             "finished": p.record["finished"][:16].replace("T", " "), "commit": (p.record.get("commit") or "")[:10]
             + (" and changes" if p.record.get("dirty") else "")} for p in parts if p.record]
    if not rows:
        return ""
    report = Part(LAST, "", "", folder, last)
    shown = [entry for entry in report.entries("tables") if entry["name"] not in ("claims", "stages")]
    tables = "".join(_table(report, entry) for entry in shown)
    total = duration(sum(row["seconds"] for row in rows))
    return (f'<section id="cost"><h2>What this run cost</h2><p>{total} of notebooks, at most '
            f"{max(row['memory (MB)'] for row in rows):,} MB of memory.</p>"
            f"{pages.table(pd.DataFrame(rows), 1)}{tables}</section>")


def _parameters(parts: list[Part]) -> str:
    import pandas as pd
    merged: dict[tuple[str, str, str], list[str]] = {}
    for part in parts:
        for name, p in (part.record or {}).get("parameters", {}).items():
            shown = "–" if p["value"] in ("", []) else str(p["value"])
            merged.setdefault((name, shown, p["source"]), []).append(part.name[:2])
    if not merged:
        return ""
    every = len([part for part in parts if part.record])
    rows = [{"parameter": name, "value": text, "from": source, "stages": "all" if len(in_) == every else " ".join(in_)}
            for (name, text, source), in_ in merged.items()]
    rows.sort(key=lambda row: row["from"] == "default")
    changed = sum(row["from"] != "default" for row in rows)
    return (f'<section id="parameters"><h2>Parameters</h2><details><summary>{len(rows)} parameters, {changed} of them '
            f"not at their default</summary>{pages.table(pd.DataFrame(rows), 1)}</details></section>")


def _environment(parts: list[Part]) -> str:
    record = next((part.record for part in reversed(parts) if part.record), None)
    if record is None:
        return ""
    import pandas as pd
    changes = ", with changes not committed" if record.get("dirty") else ""
    commit = (record.get("commit") or "not a repository") + changes
    rows = {"device": f"{record.get('device')} ({record.get('device_name')})", "platform": record.get("platform"),
            "cores": record.get("cpus"), "python": record.get("python"), "commit": commit,
            **{k: v or "not installed" for k, v in record.get("versions", {}).items()}}
    frame = pd.DataFrame({"what": list(rows), "value": [str(v) for v in rows.values()]})
    return (f'<section id="environment"><h2>Environment</h2><details><summary>{escape(str(rows["device"]))}, Python '
            f'{escape(str(rows["python"]))}, torch {escape(str(rows.get("torch", "?")))}</summary>'
            f"{pages.table(frame, 1)}</details></section>")


def _footer() -> str:
    return ("<footer>Made by <code>90_report</code> from the run.json of each stage. Intervals are 95 % unless a "
            "caption says otherwise. Distances in a projection are not evidence; the numbers beside it are.</footer>")
