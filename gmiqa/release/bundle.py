"""From a finished run to the model that users score with: the ensemble, the local quality network, the calibration of
sigma and of type probabilities, and the metrics of all this.

The ensemble's weights and sigma are fitted on the validation part of the run's data set, on which neither the network
nor the regression was trained; the temperature of type probabilities, on distorted contents left out of training. The
test part is opened once, for the metrics.
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

from gmiqa.baselines.svr import FeatureSVR
from gmiqa.data import datasets, images, synthetic
from gmiqa.data.distortions import calibration
from gmiqa.release import fit_local_quality, fit_types
from gmiqa.release.tables import tables
from gmiqa.score import Scorer
from gmiqa.score.ensemble import FeatureEnsemble
from gmiqa.settings import load as load_settings
from gmiqa_core import checkpoints, prediction
from gmiqa_core.errors import UserError

STAGE = "40_fine_tuning"
SIDE = 512  # longer side to which a picture is brought first of all
# For the regression, chosen by 4-fold cross-validation over scene groups of BIQ2021's development training part.
C, GAMMA = 6.0, 0.15
DISTORTED_WEIGHT = 0.2  # weight of a distorted pristine picture beside a scored photograph


@dataclass(frozen=True)
class Sizes:
    """How much each part is trained on: distorted pictures for the regression, distorted pictures for the type and
    level branches, and steps of the local quality network's first phase."""

    regression: int = 1800
    types: int = 6000
    local_quality: int = 3000


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
    """The parameters of a run's fine-tuning, from its run.json."""
    record = run / STAGE / "run.json"
    if not record.is_file():
        raise UserError(f"{run} holds no finished {STAGE}: run `gmiqa run params/bundled.yaml` first")
    values = json.loads(record.read_text())["parameters"]
    return load_settings(overrides={name: entry["value"] for name, entry in values.items()}, stage=STAGE)


def release(run: Path, folder: Path, cache: Path | None = None, target: str = "",
            sizes: Sizes = Sizes()) -> dict[str, pd.DataFrame]:  # noqa: B008 - frozen
    """Write folder/model.safetensors, second_opinion.safetensors and places.safetensors from a finished run; return its
    tables. Trainings that were stopped continue in `run`.

    cache     folder that keeps hand-crafted features
    target    name of the data set, for a folder with a CSV
    """
    p = parameters(run)
    if p.dataset == "synthetic":
        raise UserError(f"{run} was tuned on pseudo-scores, but a model for users needs human scores (dataset=...)")
    model, _ = checkpoints.load(run / STAGE / "finetuned.safetensors")
    dataset = datasets.from_parameters(p)
    parts = Parts(dataset, datasets.split(dataset, p.split))
    contents = synthetic.split_references(synthetic.references(p.data), p.seed)
    ensemble, sigma_scale = fit_ensemble(model, parts, contents[0], p, sizes.regression, cache)
    local_quality, temperature, types = fit_network(run, model, parts, contents, p, sizes)
    meta = {
        "target": f"mean opinion of {target or dataset.title}'s viewers", "max_side": SIDE, "network_side": p.max_side,
        "second_opinion": "second_opinion.safetensors", "places": "places.safetensors", "temperature": temperature,
        "sigma_scale": sigma_scale, "quality_percentiles": percentiles(parts),
        "data": {"pictures": len(parts.split.train), "validation": len(parts.split.validation),
                 "split": parts.split.name},
        "recipe": "params/bundled.yaml", "seed": p.seed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    local_quality.save(folder / meta["places"])
    ensemble.save(folder / meta["second_opinion"])
    checkpoints.save(model, folder / "model.safetensors", torch.float16, **meta)
    paths = parts.paths(parts.split.test)
    scores = list(Scorer(folder / "model.safetensors", "cpu").score_many(paths))
    network = prediction.predict(model, images.Decoded(paths, p.max_side)).mu
    return {"types": types, **tables(dataset.table.iloc[parts.split.test], scores, network, ensemble)}


def percentiles(parts: Parts) -> list[float]:
    """Percentiles 0 to 100 of the scores of training and validation."""
    quality = parts.quality(np.concatenate([parts.split.train, parts.split.validation]))
    return [round(float(q), 4) for q in np.percentile(quality, range(101))]


def fit_ensemble(model: Any, parts: Parts, contents: list[Any], p: Any, count: int,
                 cache: Path | None) -> tuple[FeatureEnsemble, float]:
    """The ensemble of the network and a regression on hand-crafted features; and the factor that brings the network's
    sigma to the ensemble's errors on the validation part."""
    train, validation = parts.split.train, parts.split.validation
    svr = FeatureSVR("extended_dct", C=C, gamma=GAMMA, cache=cache, max_side=SIDE, seed=p.seed)
    fit_with_severity(svr, parts.paths(train), parts.quality(train), contents, p.seed, count)
    paths, quality = parts.paths(validation), parts.quality(validation)
    network = prediction.predict(model, images.Decoded(paths, p.max_side))
    regression = svr.predict(paths)
    ensemble = FeatureEnsemble.fit(svr, network.mu, regression, quality)
    residual = (ensemble.stack(network.mu, regression) - quality) / network.sigma
    return ensemble, float(np.sqrt(np.mean(residual**2)))


def fit_with_severity(svr: FeatureSVR, pictures: list[Any], quality: np.ndarray, contents: list[Any], seed: int,
                      count: int) -> None:
    """Fit on scored photographs, then again on these and on `count` distorted pictures. Photographs alone teach a
    regression nothing about most distortions: it would rank a blocky picture above its original."""
    svr.fit(pictures, quality)
    more, scores = distorted(svr, contents, seed, count)
    svr.weights = np.r_[np.ones(len(quality)), np.full(len(scores), DISTORTED_WEIGHT)]
    svr.fit([*pictures, *more], np.r_[quality, scores])


def distorted(svr: FeatureSVR, contents: list[Any], seed: int, count: int) -> tuple[list[Tensor], np.ndarray]:
    """Distorted pristine pictures and their scores: what `svr` predicts for the pristine one, times the share of the
    quality that such a distortion leaves in the eyes of KADID-10k's viewers."""
    clean = [batch.images[0] for batch in synthetic.test_batches(contents, types=[0], seed=seed)]
    base = svr.predict(clean)
    pool = synthetic.Pool(contents, types=range(26), crop=None, reuse=1, draws=60, seed=seed)
    drawn = [pool.batch(step, 60) for step in range(count // 60)]
    undistorted = calibration.quality(np.zeros(1, int), np.zeros(1, int))[0]
    scores = [base[batch.content.numpy()] * batch.quality.numpy() / undistorted for batch in drawn]
    return [picture for batch in drawn for picture in batch.images], np.concatenate(scores)


def fit_network(run: Path, model: Any, parts: Parts, contents: tuple[list[Any], list[Any], list[Any]], p: Any,
                sizes: Sizes) -> tuple[Any, float, pd.DataFrame]:
    """The local quality network; then the model's type and level branches, in place, on whole pictures; the temperature
    of its type probabilities, and their table. Photographs of the better half of scores stand for undistorted ones."""
    paths, quality = parts.paths(parts.split.train), parts.quality(parts.split.train)
    order = np.random.default_rng(p.seed).permutation(len(paths))
    good = [paths[k] for k in order if quality[k] >= np.median(quality)]
    pictures = fit_local_quality.Pictures([content.image for content in contents[0]], good, paths)
    local_quality = fit_local_quality.fit(model, pictures, p.max_side, p.seed, sizes.local_quality,
                                          run / "local_quality")
    fit_types.refit(model, contents[0], good[: sizes.types // 8], p.max_side, p.seed, sizes.types, run / "types")
    return local_quality, *fit_types.calibrate(model, contents[2][:24], p.max_side, p.seed)
