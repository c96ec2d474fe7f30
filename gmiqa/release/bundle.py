"""From a finished run to the model that users score with: a second opinion, a model of places, calibration, metrics.

The stack and sigma are fitted on the validation part of the run's data set, which neither the network's weights nor the
second opinion saw, the temperature of names on distorted contents left out of training; the test part is opened once,
for the metrics.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa import evaluate
from gmiqa.baselines.svr import FeatureSVR
from gmiqa.data import datasets, synthetic
from gmiqa.data.distortions import calibration
from gmiqa.data.pictures import Decoded
from gmiqa.score.result import distortion_name
from gmiqa.settings import load as load_settings
from gmiqa_core import checkpoints, prediction
from gmiqa_core.errors import UserError

STAGE = "40_fine_tuning"
SIDE = 512  # longer side that a picture is brought to before anything looks at it
# Of the second opinion, chosen by 4-fold cross-validation over scene groups of BIQ2021's development training part.
C, GAMMA = 6.0, 0.15
DISTORTED_WEIGHT = 0.2  # of a distorted pristine picture beside a scored photograph


@dataclass
class Parts:
    """Pictures of the run's data set: rows of its table for each part."""

    dataset: Any
    split: Any

    def paths(self, rows: np.ndarray) -> list[Path]:
        return [Path(self.dataset.root) / name for name in self.dataset.table["image"].iloc[rows]]

    def quality(self, rows: np.ndarray) -> np.ndarray:
        return self.dataset.table["quality"].to_numpy(float)[rows]


def parameters(run: Path) -> Any:
    """The parameters of a run's fine-tuning, as its run.json has them."""
    record = run / STAGE / "run.json"
    if not record.is_file():
        raise UserError(f"{run} holds no finished {STAGE}: run `gmiqa run params/bundled.yaml` first")
    values = json.loads(record.read_text())["parameters"]
    return load_settings(overrides={name: entry["value"] for name, entry in values.items()}, stage=STAGE)


def distorted(opinion: FeatureSVR, contents: list[Any], seed: int, count: int) -> tuple[list[Tensor], np.ndarray]:
    """Distorted pristine pictures and their scores: each keeps that share of what `opinion` says of its content that
    KADID-10k's viewers left to its distortion."""
    clean = [part.images[0] for part in synthetic.test_batches(contents, types=[0], seed=seed)]
    base = np.asarray(opinion.predict(clean))
    pool = synthetic.Pool(contents, types=range(26), crop=None, reuse=1, draws=60, seed=seed)
    drawn = [pool.batch(step, 60) for step in range(count // 60)]
    undistorted = calibration.quality(np.zeros(1, int), np.zeros(1, int))[0]
    scores = [base[part.content.numpy()] * part.quality.numpy() / undistorted for part in drawn]
    return [picture for part in drawn for picture in part.images], np.concatenate(scores)


def fit_with_severity(opinion: FeatureSVR, pictures: list[Any], quality: np.ndarray, contents: list[Any], seed: int,
                      count: int) -> None:
    """Fit on scored photographs, then again on these and on `count` distorted pictures. Photographs alone teach an
    opinion nothing about most distortions, and it would rank a blocky picture above its original."""
    opinion.fit(pictures, quality)
    more, scores = distorted(opinion, contents, seed, count)
    opinion.weights = np.r_[np.ones(len(quality)), np.full(len(scores), DISTORTED_WEIGHT)]
    opinion.fit([*pictures, *more], np.r_[quality, scores])


def release(run: Path, folder: Path, cache: Path | None = None, target: str = "",
            count: int = 1800, names_count: int = 6000, places_steps: int = 3000) -> dict[str, pd.DataFrame]:
    """Write folder/model.safetensors, second_opinion.safetensors and places.safetensors from a finished run; return its
    tables. `count` distorted pictures teach the second opinion about severity, `names_count` the branches that name
    them; the first phase of the model of places has `places_steps` steps, in run/places. Photographs that stand for
    what is in order, in names and there, are those of the better half of scores."""
    from gmiqa.release import fit_local_quality as spoiling
    from gmiqa.release import fit_types as naming
    from gmiqa.score import Scorer
    from gmiqa.score.ensemble import SecondOpinion

    p = parameters(run)
    if p.dataset == "synthetic":
        raise UserError(f"{run} was tuned on synthetic pseudo-scores: a model for users needs human ones (dataset=...)")
    model, _ = checkpoints.load(run / STAGE / "finetuned.safetensors")
    dataset = datasets.from_parameters(p)
    parts = Parts(dataset, datasets.split(dataset, p.split))
    split = parts.split
    learn, held = parts.paths(split.train), parts.paths(split.validation)
    said = prediction.predict(model, Decoded(held, p.max_side))
    contents = synthetic.split_contents(synthetic.contents(p.data), p.seed)
    opinion = FeatureSVR("extended_dct", C=C, gamma=GAMMA, cache=cache, max_side=SIDE, seed=p.seed)
    fit_with_severity(opinion, learn, parts.quality(split.train), contents[0], p.seed, count)
    spoken = np.asarray(opinion.predict(held))
    stack = SecondOpinion.of(opinion, said.mu, spoken, parts.quality(split.validation))
    residual = (stack.stack(said.mu, spoken) - parts.quality(split.validation)) / said.sigma
    quality = parts.quality(split.train)
    good = [learn[k] for k in np.random.default_rng(p.seed).permutation(len(learn)) if quality[k] >= np.median(quality)]
    found = spoiling.fit(model, [c.image for c in contents[0]], good, learn, p.max_side, p.seed, places_steps,
                         run / "places")
    naming.refit(model, contents[0], p.max_side, p.seed, names_count, good[: names_count // 8])
    temperature, types = naming.calibrate(model, contents[2][:24], p.max_side, p.seed)
    everything = np.concatenate([split.train, split.validation])
    meta = {
        "target": f"mean opinion of {target or dataset.title}'s viewers", "max_side": SIDE, "network_side": p.max_side,
        "second_opinion": "second_opinion.safetensors", "places": "places.safetensors", "temperature": temperature,
        "sigma_scale": float(np.sqrt(np.mean(residual**2))),
        "quality_percentiles": [round(float(q), 4) for q in np.percentile(parts.quality(everything), range(101))],
        "data": {"pictures": len(split.train), "validation": len(split.validation), "split": split.name},
        "recipe": "params/bundled.yaml", "seed": p.seed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / "places.safetensors")
    stack.save(folder / "second_opinion.safetensors")
    checkpoints.save(model, folder / "model.safetensors", torch.float16, **meta)
    scores = list(Scorer(folder / "model.safetensors", "cpu").score_many(parts.paths(split.test)))
    return {"types": types, **tables(parts, split.test, scores, model, stack, p)}


def tables(parts: Parts, rows: np.ndarray, scores: list[Any], model: Any, stack: Any,
           p: Any) -> dict[str, pd.DataFrame]:
    """What the released files say of test pictures: metrics with intervals, per subset and overall, and sigma."""
    frame = parts.dataset.table.iloc[rows].reset_index(drop=True)
    truth = frame["quality"].to_numpy(float)
    frame["quality_predicted"] = [s.quality / 100 for s in scores]
    frame["sigma"] = [s.sigma / 100 for s in scores]
    frame["network"] = prediction.predict(model, Decoded(parts.paths(rows), p.max_side)).mu
    w = stack.tensors["weights"].double().numpy()
    frame["statistics"] = (frame["quality_predicted"] - w[0] - w[1] * frame["network"]) / w[2]
    groups = frame["group"].where(frame["group"].astype(bool), frame["id"]).to_numpy()
    result = []
    for method, column in (("released stack", "quality_predicted"), ("network alone", "network"),
                           ("statistics alone", "statistics")):
        for subset in ("all", *sorted(set(frame["subset"]))):
            keep = np.ones(len(frame), bool) if subset == "all" else (frame["subset"] == subset).to_numpy()
            for metric, row in evaluate.metrics(frame[column][keep], truth[keep], groups[keep]).iterrows():
                result.append({"method": method, "subset": subset, "metric": metric, **row.to_dict()})
    frame["sigma part"] = pd.qcut(frame["sigma"], 4, labels=["lowest quarter", "second", "third", "highest quarter"])
    error = (frame["quality_predicted"] - truth).abs()
    sigma = pd.DataFrame({"mean sigma": 100 * frame.groupby("sigma part", observed=True)["sigma"].mean(),
                          "mean absolute error": 100 * error.groupby(frame["sigma part"], observed=True).mean(),
                          "n": frame.groupby("sigma part", observed=True).size()})
    inside = (error <= 1.6449 * frame["sigma"]).mean()
    sigma.attrs["coverage"] = float(inside)
    frame["distortion"] = [s.distortion for s in scores]
    called = (frame["distortion"] == distortion_name(0)).groupby(frame["subset"]).agg(["mean", "size"]).reset_index()
    best = evaluate.compare(frame["quality_predicted"], frame["statistics"], truth, groups=groups)
    return {"metrics": pd.DataFrame(result), "sigma": sigma, "predictions": frame,
            "unnamed": called.set_axis(["subset", "called none of these", "n"], axis=1),
            "paired": pd.DataFrame([{"comparison": best.sentence("the released stack", "statistics alone"),
                                     "90 % interval holds": inside}])}
