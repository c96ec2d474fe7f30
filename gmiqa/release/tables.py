"""What the released files say about the test pictures, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gmiqa import evaluate
from gmiqa.score.result import Z90, Score, distortion_name

METHODS = {"released stack": "quality_predicted", "network alone": "network", "regression alone": "regression"}


def tables(pictures: pd.DataFrame, scores: list[Score], network: np.ndarray, ensemble: Any) -> dict[str, pd.DataFrame]:
    """metrics with intervals, per subset and overall; sigma against errors; who is called `none of these`; the stack
    against the regression alone.

    pictures    rows of the data set's table, one for each of `scores`
    network     (n,) the network's own scores of these pictures, in 0..1
    """
    frame = pictures.reset_index(drop=True)
    frame["quality_predicted"] = [score.quality / 100 for score in scores]
    frame["sigma"] = [score.sigma / 100 for score in scores]
    frame["distortion"] = [score.distortion for score in scores]
    frame["network"] = network
    w = ensemble.tensors["weights"].double().numpy()
    frame["regression"] = (frame["quality_predicted"] - w[0] - w[1] * frame["network"]) / w[2]
    truth = frame["quality"].to_numpy(float)
    groups = frame["group"].where(frame["group"].astype(bool), frame["id"]).to_numpy()
    error = (frame["quality_predicted"] - truth).abs()
    unnamed = (frame["distortion"] == distortion_name(0)).groupby(frame["subset"]).agg(["mean", "size"]).reset_index()
    paired = evaluate.compare(frame["quality_predicted"], frame["regression"], truth, groups=groups)
    return {"metrics": _metrics(frame, truth, groups), "sigma": _sigma(frame["sigma"], error), "predictions": frame,
            "unnamed": unnamed.set_axis(["subset", "called none of these", "n"], axis=1),
            "paired": pd.DataFrame([{"comparison": paired.sentence("the released stack", "the regression alone"),
                                     "90 % interval holds": (error <= Z90 * frame["sigma"]).mean()}])}


def _metrics(frame: pd.DataFrame, truth: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    rows = []
    for method, column in METHODS.items():
        for subset in ("all", *sorted(set(frame["subset"]))):
            keep = np.ones(len(frame), bool) if subset == "all" else (frame["subset"] == subset).to_numpy()
            for metric, row in evaluate.metrics(frame[column][keep], truth[keep], groups[keep]).iterrows():
                rows.append({"method": method, "subset": subset, "metric": metric, **row.to_dict()})
    return pd.DataFrame(rows)


def _sigma(sigma: pd.Series, error: pd.Series) -> pd.DataFrame:
    """Mean sigma and mean error, on 0..100, of the four quarters of pictures by sigma."""
    labels = ["lowest quarter", "second", "third", "highest quarter"]
    quarter = pd.qcut(sigma.rank(method="first"), 4, labels=labels).rename("sigma part")  # ranks have no ties
    return pd.DataFrame({"mean sigma": 100 * sigma.groupby(quarter, observed=True).mean(),
                         "mean absolute error": 100 * error.groupby(quarter, observed=True).mean(),
                         "n": sigma.groupby(quarter, observed=True).size()})
