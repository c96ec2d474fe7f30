"""The claims that the study decides: what is compared, in which unit, with which margin and family, and the answer.

Each was written down before the first result (docs/study.md); a claim that a notebook registers has the same text here,
so that a run's report can show what the study found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from gmiqa.evaluate import Comparison, compare, paired
from gmiqa.evaluate.claims import BETTER
from gmiqa.evaluate.comparison import LEAST_RUNS
from gmiqa.experiments import adaptation, graph_controls
from gmiqa.experiments import study_gmiqa as gmiqa
from gmiqa.experiments import study_metaqap as metaqap
from gmiqa.experiments.ablation_rows import CELLS, CLAIMS, FACTORS, rows, with_and_without
from gmiqa.experiments.graph_controls import OWN

Answer = Callable[[pd.DataFrame, float], "Comparison | None"]
CONTENTS, GROUPS, PAIRS = "contents", "groups of contents", "pairs of type and seed"
SECOND_SEEDS = {"ablations": 24, "adaptation": 12, "metaqap": 24, "human": 24}  # planned for the second round
TEN = adaptation.AT[-1]


@dataclass(frozen=True)
class Question:
    """A claim of the `paper` or of `ours`, judged on the results of an experiment.

    short     the same in a few words, for a figure
    metric    what is compared, in words; unit: what n counts; runs: planned seeds
    wanted    what the first must be for the claim to hold
    answer    (table of the experiment, margin) -> the comparison; None where the table does not hold its runs yet
    """

    claim: str
    short: str
    source: str
    family: str
    experiment: str
    metric: str
    unit: str
    margin: float
    runs: int
    answer: Answer
    wanted: str = BETTER

    def in_favour(self, value: float) -> float:
        """A difference with its sign turned so that more than 0 speaks for the claim."""
        falls = self.metric.startswith(("error", "log RMSE"))
        return value if (self.wanted == BETTER) != falls else -value


# -- how a table answers


def _by_seed(table: pd.DataFrame, *columns: str) -> list[np.ndarray] | None:
    """(seeds, n) of each column, of the seeds that have all of them; None for too few."""
    if not set(columns) <= set(table):
        return None
    whole = table[list(columns)].dropna()
    if whole.index.get_level_values("seed").nunique() < LEAST_RUNS:
        return None
    return [whole[name].unstack("seed").to_numpy().T for name in columns]


def _pictures(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Target and content of the test pictures, which all seeds share."""
    index = table.index.droplevel("seed").unique().sort_values()
    return index.get_level_values("target").to_numpy(float), index.get_level_values("content").to_numpy()


def _srocc(a: str, b: str, table: pd.DataFrame, margin: float) -> Comparison | None:
    """SROCC of one column of predictions against that of another, paired over seeds and contents."""
    values = _by_seed(table, a, b)
    if values is None:
        return None
    target, content = _pictures(table)
    return compare(values[0], values[1], target, "srocc", content, margin=margin, over=CONTENTS)


def _factor(factor: str, table: pd.DataFrame, margin: float) -> Comparison | None:
    """Rows of the factorial that have a part against those that lack it, paired by seed and by the other parts."""
    values = _by_seed(table, *CELLS)
    if values is None:
        return None
    by_row = dict(zip(CELLS, values, strict=True))
    target, content = _pictures(table)
    first, second = (np.stack([by_row[name] for name in names]) for names in with_and_without(factor))
    return compare(first, second, target, "srocc", content, margin=margin, over=CONTENTS)


def _adapted(a: str, b: str, table: pd.DataFrame, margin: float) -> Comparison | None:
    """Log RMSE after ten steps, averaged over numbers of labels; types and seeds are both random."""
    if not {a, b} <= set(table):
        return None
    at = np.log(table.xs(TEN, level="step")[[a, b]].dropna())
    gaps = (at[a] - at[b]).groupby(["type", "seed"]).mean().unstack("type").dropna()
    if len(gaps) < LEAST_RUNS:
        return None
    return replace(paired(gaps.to_numpy(), "rmse", PAIRS, margin=margin), runs=len(gaps))


def _graph(outcome: str, a: tuple[str, str], b: tuple[str, str], table: pd.DataFrame, margin: float
           ) -> Comparison | None:
    """An outcome of (losses, arm) against another, over seeds and units."""
    if not {a[0], b[0]} <= set(table):
        return None
    part = table[table.index.get_level_values("outcome") == outcome].droplevel("outcome")
    if not {a[1], b[1]} <= set(part.index.get_level_values("arm")):
        return None
    first, second = (part[losses].dropna().xs(arm, level="arm") for losses, arm in (a, b))
    gaps = (first - second).dropna().unstack("unit")
    if len(gaps) < LEAST_RUNS:
        return None
    metric = "rmse" if outcome == "sigma" else graph_controls.METRIC[outcome]
    answer = paired(gaps.to_numpy(), metric, CONTENTS if outcome == "sigma" else GROUPS, margin=margin)
    return replace(answer, n=gaps.shape[1], runs=len(gaps))


# -- the claims

SROCC, LOG_RMSE = "SROCC", "log RMSE"
_OUTCOME = {"type": "type accuracy", "level": "error of severity", "severity": "error of severity", "score": SROCC}


def _meta() -> list[Question]:
    question = partial(Question, family="meta-learning", experiment="adaptation", metric=LOG_RMSE, unit=PAIRS,
                       margin=0.05, runs=5)
    return [question("Meta-training adapts to unseen distortion types better than plain training with equal computing",
                     "meta-learning over plain training", "paper", answer=partial(_adapted, "maml", "plain")),
            question("A meta-trained network adapts to unseen types better than the mean of their labels does",
                     "meta-learning over the label mean", "ours", answer=partial(_adapted, "maml", adaptation.FLOOR)),
            question("Meta-training adapts to unseen types better than a plain network's head alone",
                     "meta-learning over a plain head", "ours", answer=partial(_adapted, "maml", "plain, head alone")),
            question("Meta-training adapts to unseen types better than ridge regression on a plain network's features",
                     "meta-learning over ridge", "ours", answer=partial(_adapted, "maml", "plain, ridge"))]


_GRAPH_SHORT = ("type: edges over no edges", "severity: graph over alone",
                "mean severity: graph over alone", "score: own edge over its mean")


def _graphs() -> list[Question]:
    question = partial(Question, experiment="graphs", runs=5)
    ours = [question(f"{claim} (N = 16, our losses)", short, "ours", family="graph", metric=_OUTCOME[outcome],
                     unit=GROUPS, margin=graph_controls.MARGIN[outcome],
                     answer=partial(_graph, outcome, ("ours", OWN), ("ours", against)))
            for ((outcome, against), claim), short in zip(graph_controls.CLAIMS.items(), _GRAPH_SHORT, strict=True)]
    whose = {"ours": "our losses", "paper": "the paper's losses", "paper_unit": "the paper's losses, unit codes"}
    codes = [question(f"Graph pre-training with {words} makes type codes discriminative", f"type codes: {words}",
                      "paper" if "paper" in words else "ours", family="codes", metric="accuracy of nearest code",
                      unit=GROUPS, margin=graph_controls.MARGIN["neighbour"],
                      answer=partial(_graph, "neighbour", (losses, OWN), (gmiqa.START, OWN)))
             for losses, words in whose.items()]
    sigma = question("Sigma is nearer to the spread of human scores with KL than with the paper's sampled MSE",
                     "sigma: KL over sampled MSE", "ours", family="sigma", metric="error of sigma", unit=CONTENTS,
                     margin=0.01, answer=partial(_graph, "sigma", ("ours", gmiqa.KL), ("ours", gmiqa.SAMPLED)))
    return [*ours, *codes, sigma]


_ROW_SHORT = {"DGR": "+ DGR, in the paper's order", "SC": "+ SC, in the paper's order",
              "Meta": "+ Meta, in the paper's order", "full": "+ SPP, in the paper's order",
              "plain_Meta": "Meta over plain training",
              "plain_DGR": "graph pre-training over plain", "whole": "whole pictures over crops",
              "V_only": "edges over nodes alone", "V_MLP": "edges over an MLP"}


def _ablations() -> list[Question]:
    question = partial(Question, family="ablation", experiment="ablations", metric=SROCC, unit=CONTENTS, margin=0.02,
                       runs=8)
    against = {row.name: row.against for row in rows(CLAIMS)}
    effects = [question(f"{factor} improves accuracy, over the whole factorial of SC, Meta and DGR",
                        f"{factor}, over the factorial", "ours", answer=partial(_factor, factor)) for factor in FACTORS]
    return effects + [question(claim, _ROW_SHORT[row], source, answer=partial(_srocc, row, against[row]), wanted=wanted)
                      for row, (claim, source, wanted) in CLAIMS.items()]


def _human() -> list[Question]:
    """The claims about MetaQAP on people's scores of photographs, where scenes are the contents."""
    experiments = {"metaqap": "human", "stack": "human_stack"}
    return [replace(q, claim=f"{q.claim}, on human scores", short=f"{q.short}, human", family="MetaQAP, human scores",
                    experiment=experiments[q.experiment], unit="scenes") for q in _metaqap()]


def _metaqap() -> list[Question]:
    question = partial(Question, family="MetaQAP", experiment="metaqap", metric=SROCC, unit=CONTENTS, margin=0.02)
    stack = partial(question, experiment="stack", runs=3)
    aware, random, squared = metaqap.ARMS[0], "random", ", squared error"
    return [question("Quality-aware pre-training raises SROCC over the same start without it",
                     "QA pre-training over none", "paper", runs=8, answer=partial(_srocc, aware, random)),
            question("Quality-aware pre-training is worth more than as many steps on the target alone",
                     "QA pre-training over equal steps", "ours", runs=8,
                     answer=partial(_srocc, aware, "random, steps of both")),
            question("The quality-aware loss raises SROCC over the squared error", "QA loss over squared error",
                     "paper", runs=8, answer=partial(_srocc, aware, aware + squared)),
            question("The quality-aware loss raises SROCC over the squared error from a random start",
                     "QA loss, random start", "ours", runs=8, answer=partial(_srocc, random, random + squared)),
            stack("The stack raises SROCC over its best member", "stack over its best member", "paper",
                  answer=partial(_srocc, metaqap.STACK, metaqap.BEST)),
            stack("The stack raises SROCC over the mean of its members", "stack over the members' mean", "ours",
                  answer=partial(_srocc, metaqap.STACK, metaqap.MEAN))]


def _rivals() -> list[Question]:
    text, title = "GMIQA is better than hand-crafted features with a support vector machine", "KADID-calibrated scores"
    return [Question(f"{text} ({name}, {title})", f"GMIQA over {name}", "paper", "hand-crafted", "rivals", SROCC,
                     CONTENTS, 0.02, 3, partial(_against, column))
            for column, name in zip(gmiqa.RIVALS, ("BRISQUE + SVR", "extended NSS + SVR"), strict=True)]


def _against(column: str, table: pd.DataFrame, margin: float) -> Comparison | None:
    """GMIQA against a method that draws nothing, so that it is the same for every seed."""
    if column not in table:
        return None
    known = table[column].dropna().droplevel("seed")
    repeated = known.reindex(table.index.droplevel("seed")).to_numpy()
    return _srocc(gmiqa.GMIQA, column, table.assign(**{column: repeated}), margin)


QUESTIONS: tuple[Question, ...] = (*_meta(), *_graphs(), *_ablations(), *_metaqap(), *_human(), *_rivals())


def answers(tables: dict[str, pd.DataFrame]) -> list[tuple[Question, Any]]:
    """Every question with its answer; None where its experiment has too few runs yet."""
    return [(q, q.answer(tables[q.experiment], q.margin) if q.experiment in tables else None) for q in QUESTIONS]
