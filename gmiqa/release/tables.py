"""What a scoring model says about the test pictures, as tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gmiqa import evaluate
from gmiqa.score.result import Z90


def tables(pictures: pd.DataFrame, mu: np.ndarray, sigma: np.ndarray, none: np.ndarray) -> dict[str, pd.DataFrame]:
    """metrics with intervals, per subset and overall; sigma against errors; who is called `none of these`.

    pictures    rows of the data set's table, one for each entry of the arrays
    mu, sigma   quality in 0..1 and its calibrated spread
    none        whether the picture is called `none of these`
    """
    frame = pictures.reset_index(drop=True).assign(predicted=mu, sigma=sigma, none=none)
    truth = frame["quality"].to_numpy(float)
    groups = frame["group"].where(frame["group"].astype(bool), frame["id"]).to_numpy()
    error = (frame["predicted"] - truth).abs()
    unnamed = frame.groupby("subset")["none"].agg(["mean", "size"]).reset_index()
    return {"metrics": _metrics(frame, truth, groups), "sigma": _sigma(frame["sigma"], error), "predictions": frame,
            "unnamed": unnamed.set_axis(["subset", "called none of these", "n"], axis=1),
            "coverage": pd.DataFrame([{"90 % interval holds": (error <= Z90 * frame["sigma"]).mean(),
                                       "n": len(frame)}])}


def _metrics(frame: pd.DataFrame, truth: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    rows = []
    for subset in ("all", *sorted(set(frame["subset"]))):
        keep = np.ones(len(frame), bool) if subset == "all" else (frame["subset"] == subset).to_numpy()
        for metric, row in evaluate.metrics(frame["predicted"][keep], truth[keep], groups[keep]).iterrows():
            rows.append({"subset": subset, "metric": metric, **row.to_dict()})
    return pd.DataFrame(rows)


def _sigma(sigma: pd.Series, error: pd.Series) -> pd.DataFrame:
    """Mean sigma and mean error, on 0..100, of the four quarters of pictures by sigma."""
    labels = ["lowest quarter", "second", "third", "highest quarter"]
    quarter = pd.qcut(sigma.rank(method="first"), 4, labels=labels).rename("sigma part")  # ranks have no ties
    return pd.DataFrame({"mean sigma": 100 * sigma.groupby(quarter, observed=True).mean(),
                         "mean absolute error": 100 * error.groupby(quarter, observed=True).mean(),
                         "n": sigma.groupby(quarter, observed=True).size()})
