"""What notebook 80 compares: weights of the loss, starts of a base network, members of the stack."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gmiqa_core import images
from gmiqa_core.finetuning import Pictures
from gmiqa_core.metaqap.networks import QualityNetwork, finetune, predict, pretrain
from gmiqa_core.metaqap.stacking import Fitted, Member
from gmiqa_core.synthetic import Content, test_batches


def synthetic_pictures(contents: Sequence[Content], types: Sequence[int], side: int, seed: int = 0) -> Pictures:
    """Every level of `types` on every content with its pseudo-score, longer side at most `side`."""
    made = Pictures.join(map(Pictures.of_batch, test_batches(contents, types=types, seed=seed)))
    return replace(made, pictures=[images.limit(picture, side) for picture in made.pictures])


@dataclass(frozen=True)
class Recipe:
    """How every network of a comparison is trained: the same pictures, steps and batches for all."""

    pictures: Pictures
    folder: Path
    steps: int
    batch: int
    crop: int
    lr: float
    weights: tuple[float, float] = (0.5, 0.5)
    temperature: float = 0.1
    loop: dict[str, Any] | None = None

    def tuned(self, start: QualityNetwork, rows: np.ndarray, name: str, seed: int = 0) -> QualityNetwork:
        """A copy of `start` fine-tuned on these rows; its files are kept under `name`, and continue a killed run."""
        model = copy.deepcopy(start)
        finetune(model, self.pictures[rows], steps=self.steps, folder=self.folder / name, batch=self.batch,
                 crop=self.crop, lr=self.lr, weights=self.weights, temperature=self.temperature, seed=seed,
                 **(self.loop or {}))
        return model

    def predictions(self, start: QualityNetwork, test: Pictures, name: str, seeds: Sequence[int]) -> np.ndarray:
        """(seeds, n) predictions of the test pictures by networks tuned on all training pictures."""
        everything = np.arange(len(self.pictures))
        return np.stack([predict(self.tuned(start, everything, f"{name}_{seed}", seed), test.pictures)
                         for seed in seeds])


def starts(backbone: str, pool: Any, *, steps: int, folder: Path, batch: int, lr: float, seed: int = 0,
           **loop: Any) -> tuple[dict[str, QualityNetwork], dict[str, str]]:
    """The same backbone from random weights, after quality-aware pre-training, and from ImageNet where it can be had;
    and the reason for each that cannot."""
    import torch

    from gmiqa_core.settings import UserError

    torch.manual_seed(seed)
    models = {"random": QualityNetwork(backbone)}
    missing: dict[str, str] = {}
    models["quality-aware"] = copy.deepcopy(models["random"])
    pretrain(models["quality-aware"], pool, steps=steps, folder=folder / f"pretrain_{backbone}", batch=batch, lr=lr,
             seed=seed, **loop)
    try:
        models["ImageNet"] = QualityNetwork(backbone, "imagenet")
    except UserError as error:
        missing["ImageNet"] = str(error)
    return models, missing


def network_member(name: str, start: QualityNetwork, recipe: Recipe) -> Member:
    """A base network as a member of the stack."""

    def fit(rows: np.ndarray, tag: str) -> Fitted:
        model = recipe.tuned(start, rows, f"{name}_{tag}".replace(" ", "_"))
        return lambda wanted: predict(model, [recipe.pictures.pictures[i] for i in wanted])

    return Member(name, fit)


def estimator_member(name: str, make: Callable[[], Any], pictures: Pictures) -> Member:
    """Anything with fit(pictures, quality) and predict(pictures), such as baselines.make("nss_svr"), as a member."""

    def fit(rows: np.ndarray, tag: str) -> Fitted:
        estimator = make().fit([pictures.pictures[i] for i in rows], pictures.quality[rows].numpy())
        return lambda wanted: np.asarray(estimator.predict([pictures.pictures[i] for i in wanted]))

    return Member(name, fit)


def fixed_member(name: str, predictions: np.ndarray) -> Member:
    """A model that was trained elsewhere, on none of these pictures: its predictions by row."""
    return Member(name, lambda rows, tag: lambda wanted: predictions[wanted])
