"""What the study found: its tables -> one row for each claim. Differences are turned so that more than 0 speaks for it.

A second round, in the folder `second`, asks anew what the first left undecided, with other seeds and more of them; its
results alone answer then. The folder `again` holds what somebody found who ran a claim's command.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.evaluate import paper_tables, srocc
from gmiqa.evaluate.claims import (
    FAILS,
    HOLDS,
    LEVEL,
    NOT_RUN,
    SAME,
    UNDECIDED,
    deciding,
    judged,
    narrower,
    p_text,
    verdict,
)  # fmt: skip
from gmiqa.evaluate.components import needed
from gmiqa.evaluate.reported import DATASETS
from gmiqa.experiments.questions import QUESTIONS, SECOND_SEEDS, Question, answers
from gmiqa.runs.study import Results

COLUMNS = ("claim", "short", "source", "family", "metric", "value", "low", "high", "low_90", "high_90", "margin", "n",
           "unit", "runs",
           "planned", "outcome", "p", "p_holm", "nominal", "runs_needed", "contents_needed", "round", "before",
           "command")
COMMAND = "gmiqa study params/study.yaml -p data=LEARN -p test_data=TEST --only {}{} --to outputs/again"
HUMAN = COMMAND.replace("params/study.yaml", "params/study.yaml params/folder.yaml") + (
    " -p dataset_path=SCORED -p csv=SCORED/scores.csv -p csv_group=group")
AUTHORS = {
    "GMIQA": "gmiqa run params/paper.yaml params/pretrain_kadid10k.yaml params/{}.yaml -p pretrain_path=KADID10K "
             "-p dataset_path=FOLDER -p data=PRISTINE",
    "MetaQAP": "gmiqa run params/paper.yaml params/{}.yaml -p dataset_path=FOLDER -p data=PRISTINE --only 80"}
ROUND_TWO = (" -p seed=100 -p ablation_seeds={ablations} -p meta_seeds={adaptation} -p qap_seeds={metaqap} "
             "-p finetune_contents=124").format(**SECOND_SEEDS)
SECOND, AGAIN = "second", "again"  # folders beside the tables
WITH_PREDICTIONS = {
    "ablations": "rows of the ablation", "metaqap": "arms of MetaQAP", "stack": "parts of the stack",
    "human": "arms of MetaQAP on human scores", "human_stack": "parts of the stack on human scores",
    "rivals": "rivals, GMIQA among them,"}
MOST = 1000  # runs or contents beyond which "more" is no answer


def findings(results: Results) -> pd.DataFrame:
    """A row for each claim, after Holm's correction within its family: columns COLUMNS."""
    frame = _judged([_row(*pair) for pair in _answered(results)]).assign(round=1, before=None)
    frame = _asked_anew(frame, Results(results.folder / SECOND))
    frame = pd.concat([frame, pd.DataFrame(_elsewhere())], ignore_index=True)[list(COLUMNS)]
    return frame.astype({"round": "Int64"})


def repeated(results: Results) -> pd.DataFrame:
    """The claims whose experiment was run once more, from the results in the folder `again`."""
    return findings(Results(results.folder / AGAIN)).dropna(subset="value")


def _answered(results: Results) -> list[tuple[Question, Any]]:
    return answers({name: results.table(name) for name in {q.experiment for q in QUESTIONS}})


def _asked_anew(first: pd.DataFrame, second: Results) -> pd.DataFrame:
    """The rows, those of the second round in place of what the first left undecided; `before`: what that was."""
    undecided = first.set_index("claim").query("outcome == @UNDECIDED and value == value")
    rows = [_row(replace(q, runs=SECOND_SEEDS.get(q.experiment, q.runs)), answer, ROUND_TWO)
            for q, answer in _answered(second) if answer is not None and q.claim in undecided.index]
    if not rows:
        return first
    anew = _judged(rows).set_index("claim")
    anew = anew.assign(round=2, before=[outcome_text(undecided.loc[claim]) for claim in anew.index])
    return pd.concat([first.set_index("claim").drop(index=anew.index), anew]).loc[first["claim"]].reset_index()


def _judged(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows after Holm's correction, and what would decide the undecided after it."""
    frame = judged(pd.DataFrame(rows))
    for row in frame[(frame["outcome"] == UNDECIDED) & frame["p"].notna()].itertuples():
        family = frame[(frame["family"] == row.family) & frame["p"].notna()]
        left = [len(family) - family["outcome"].isin(kind).sum() for kind in ((HOLDS, FAILS), (SAME,))]
        runs, contents = needed(row.estimate, row.margin, MOST, ((1 - LEVEL) / left[0], (1 - LEVEL) / left[1]))
        # where n counts no columns of the table there are no more of them, as with types of distortion
        more = contents if row.estimate.parts and row.estimate.parts.C == row.n else None
        frame.loc[row.Index, ["runs_needed", "contents_needed"]] = runs, more
    return frame


def _row(q: Question, answer: Any, more: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {"claim": q.claim, "short": q.short, "source": q.source, "family": q.family,
                           "metric": q.metric, "margin": q.margin, "unit": q.unit, "planned": q.runs,
                           "command": _command(q.experiment, more),
                           "outcome": UNDECIDED, "p": np.nan}
    row |= dict.fromkeys(("value", "low", "high", "low_90", "high_90", "n", "runs", "runs_needed", "contents_needed"),
                         np.nan) | {"estimate": None}
    if answer is None:
        return row
    low, high = sorted((q.in_favour(answer.low), q.in_favour(answer.high)))
    low_90, high_90 = narrower(low, high, answer.df)
    return row | {"value": q.in_favour(answer.delta), "low": low, "high": high, "low_90": low_90, "high_90": high_90,
                  "n": answer.n, "runs": answer.runs, "p": answer.p, "outcome": verdict(answer.outcome, q.wanted),
                  "estimate": answer.estimate}


def _command(experiment: str, more: str) -> str:
    """What repeats an experiment in another folder."""
    return (HUMAN if experiment.startswith("human") else COMMAND).format(experiment, more)


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
        rows.append({"claim": claim, "source": "paper", "outcome": NOT_RUN,
                     "command": AUTHORS[method].format(loaders[title])})
    return rows


def reached(results: Results) -> list[str]:
    """What the arms of each experiment with predictions reach: how good networks of this size are."""
    lines = []
    for name, title in WITH_PREDICTIONS.items():
        table = results.table(name)
        values = {arm: _of_seeds(table[arm]).mean() for arm in table}
        if values:
            low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
            lines.append(f"The {len(values)} {title} reach an SROCC of {values[low]:.2f} ({low}) to {values[high]:.2f} "
                         f"({high}), averaged over seeds.")
    if labels := results.record().get("rivals", {}).get("parameters"):
        lines.append(f"Support vector machines on features learn from {labels['evaluate_labels']} labelled pictures, "
                     f"and GMIQA beside them from {labels['finetune_labels']} others, after its pre-trainings.")
    return lines


def cost(results: Results) -> list[str]:
    """What more seeds of the ablations would take, in the words that explain why they were not spent."""
    second = Results(results.folder / SECOND)
    rows, made = len(second.table("ablations").columns), second.record().get("ablations", {}).get("made", [])
    if not made:
        return []
    minutes = rows * sum(part["seconds"] for part in made) / sum(part["units"] for part in made) / 60
    return [f"A seed of the ablations' {rows} rows takes {minutes:.0f} minutes of one core. A hundred seeds, as some "
            f"claims ask for, would take {100 * minutes / 60:.0f} hours. They were not spent."]


def likeness(results: Results) -> float:
    """How the SROCC of seeds correlates with that of the same seeds when they were run again, within the arms."""
    pairs = []
    for name in WITH_PREDICTIONS:
        first, second = results.table(name), Results(results.folder / AGAIN).table(name)
        for arm in first.columns.intersection(second.columns):
            both = pd.DataFrame([_of_seeds(first[arm]), _of_seeds(second[arm])]).dropna(axis=1)
            pairs.append(both.sub(both.mean(axis=1), axis=0).to_numpy())
    return float(np.corrcoef(np.hstack(pairs))[0, 1]) if pairs else np.nan


def _of_seeds(predictions: pd.Series) -> pd.Series:
    """The SROCC of each seed."""
    return predictions.dropna().groupby("seed").apply(lambda of: srocc(of, of.index.get_level_values("target")))


def outcome_text(row: Any) -> str:
    """An outcome with its difference and seeds in a few words."""
    alone = f" (alone: {row['nominal']})" if row["nominal"] != row["outcome"] else ""
    return f"{row['outcome']}{alone}, {signed(row)}, {int(row['runs'])} seeds"


def signed(row: Any) -> str:
    """A difference with the interval that decides it, its margin, and p after Holm's correction where that decided."""
    width, low, high = deciding(row["outcome"])
    p = row["p"] if pd.isna(row["p_holm"]) else row["p_holm"]
    decided = f", {p_text(p)}" if row["outcome"] != UNDECIDED else ""
    return (f"{row['value']:+.3f} ({width} % interval {row[low]:+.3f} to {row[high]:+.3f}, margin {row['margin']:g}"
            f"{decided})")
