"""Settings -> pictures: the pristine references of a run, and the scored pictures of its target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gmiqa.data import datasets, synthetic
from gmiqa.data.distortions import TYPES, type_id
from gmiqa.data.pictures import Pictures, drawn, synthetic_target
from gmiqa.data.synthetic import Reference
from gmiqa_core.network import GMIQA
from gmiqa_core.prediction import predict


@dataclass(frozen=True)
class References:
    """Pristine pictures, split before anything else: no two parts share one."""

    train: list[Reference]
    validation: list[Reference]
    test: list[Reference]


def references(p: Any) -> References:
    """The pristine pictures of `data`, in three parts; with `test_data` in two, and those of that folder to test on."""
    contents = synthetic.references(p.data)
    if not p.test_data:
        return References(*synthetic.split_references(contents, p.seed))
    learn, choose, _ = synthetic.split_references(contents, p.seed, (0.8, 0.2, 0.0))
    return References(learn, choose, synthetic.references(p.test_data))


def held_out_types(p: Any) -> list[int]:
    """Types that pre-training does not see."""
    return [type_id(name) for name in p.held_out]


def trained_types(p: Any) -> list[int]:
    """Types of pre-training."""
    held_out = held_out_types(p)
    return [t.id for t in TYPES if t.id not in held_out]


@dataclass(frozen=True)
class TargetSet:
    """Scored pictures to learn from, to choose the step with (None: the last step counts) and to test on."""

    train: Pictures
    validation: Pictures | None
    test: Pictures
    title: str
    axis: str
    dataset: datasets.Dataset | None = None

    @property
    def synthetic(self) -> bool:
        return self.dataset is None


def target(p: Any, pristine: References, test_pictures: int = 0) -> TargetSet:
    """The target: a data set as its authors ship it, or KADID-calibrated scores on the pristine references.

    test_pictures   so many of its pictures to test on, drawn evenly; 0 for all
    """
    if p.dataset == "synthetic":
        train, test = synthetic_target(
            pristine.validation[:12], pristine.test[: p.finetune_contents], held_out_types(p) or trained_types(p),
            p.finetune_labels, p.max_side, p.seed, test_pictures)
        return TargetSet(train, None, test, "synthetic, KADID-calibrated scores", "KADID-calibrated score")
    dataset = datasets.from_parameters(p)
    split = datasets.split(dataset, p.split)
    tested = split.test[drawn(len(split.test), test_pictures, p.seed)] if test_pictures else split.test
    learn, choose, test = (Pictures.read(dataset, rows, p.max_side)
                           for rows in (split.train, split.validation, tested))
    return TargetSet(learn, choose if len(choose) else None, test, f"{dataset.title}, split {split.name}",
                     f"human score of {dataset.title}, in [0,1]", dataset)


def metaqap_target(p: Any, pristine: References) -> TargetSet:
    """The target of MetaQAP's base networks, longer side at most `qap_side`; the stack needs no validation part."""
    if p.dataset == "synthetic":
        types = [type_id(name) for name in p.qap_types]
        parts = pristine.validation, pristine.test
        train, test = (Pictures.of_cells(part, types, p.qap_side, p.seed) for part in parts)
        return TargetSet(train, None, test, f"pseudo-scores of {len(types)} distortion types", "pseudo-score")
    dataset = datasets.from_parameters(p)
    split = datasets.split(dataset, p.split)
    train, test = (Pictures.read(dataset, rows, p.qap_side)
                   for rows in (np.concatenate([split.train, split.validation]), split.test))
    return TargetSet(train, None, test, f"human scores of {dataset.title}", "human score", dataset)


@dataclass(frozen=True)
class Validation:
    """SROCC, RMSE and likelihood on pictures held out of the training part, seen as the tests see theirs."""

    pictures: Pictures
    batch: int
    seen: dict[str, Any] = field(default_factory=dict)

    def __call__(self, model: GMIQA) -> dict[str, float]:
        from scipy.stats import spearmanr

        scores = predict(model, self.pictures.pictures, batch=self.batch, **self.seen)
        quality, spread = self.pictures.quality.numpy(), self.pictures.spread.numpy()
        error = quality - scores.mu
        nll = np.mean((error**2 + spread**2) / (2 * scores.sigma**2) + np.log(scores.sigma))
        return {"score": float(np.nan_to_num(spearmanr(scores.mu, quality).statistic, nan=-1.0)),
                "rmse": float(np.sqrt(np.mean(error**2))), "nll": float(nll)}
