"""Prediction: pictures -> quality mu in [0,1], higher is better, and its spread sigma."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa_core.batch import random_window, to_float
from gmiqa_core.network import GMIQA
from gmiqa_core.shapes import by_shape


@dataclass(frozen=True)
class Scores:
    """mu and sigma of some pictures, (n,) each, in their order."""

    mu: np.ndarray
    sigma: np.ndarray


@torch.no_grad()
def predict(model: GMIQA, pictures: Sequence[Tensor], batch: int = 8, crops: int = 0, crop: int = 224,
            turn: bool = False, seed: int = 0) -> Scores:
    """Scores of uint8 pictures (3,H,W). A sequence may decode its files on access, as few are held at a time.

    Whole pictures go through the pyramid; pictures of one size share a batch, which changes nothing but the time.
    crops, crop   average over that many random crops of that side (the repo preset: 25 of 224) in place of the whole
    turn          each crop is turned a quarter turn further than the one before
    Several crops are averaged as a mixture: the result is the mean and deviation of the mixture of their Gaussians.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    mu, sigma = np.zeros(len(pictures)), np.zeros(len(pictures))
    for index, stacked in by_shape(pictures, batch):
        shown = [torch.stack([crop_of(p, k, crop, turn, (seed, i)) for i, p in zip(index, stacked, strict=True)])
                 for k in range(crops)] or [stacked]
        outputs = [model(to_float(images.to(device))) for images in shown]
        means = torch.stack([m.double() for m, _ in outputs])
        variances = torch.stack([s.double() ** 2 for _, s in outputs])
        mean = means.mean(0)
        mu[index] = mean.cpu()
        sigma[index] = (variances.mean(0) + (means - mean).square().mean(0)).sqrt().cpu()
    model.train(was_training)
    return Scores(mu, sigma)


def as_tuned(facts: dict[str, Any]) -> dict[str, Any]:
    """The options of `predict` with which a checkpoint was tested, from the facts saved with it: use it with these."""
    crop = int(facts.get("crop") or 0)
    return {"crops": int(facts.get("views") or 0) if crop else 0, "crop": crop, "turn": bool(facts.get("turn"))}


def crop_of(picture: Tensor, k: int, crop: int, turn: bool = False, seed: tuple[int, ...] = (0, 0)) -> Tensor:
    """Random crop k of a picture (3,H,W), a pure function of seed and k; with `turn`, turned by k quarter turns."""
    height, width = (min(crop, side) for side in picture.shape[1:])
    part = random_window(picture, height, width, np.random.default_rng((*seed, k)))
    return torch.rot90(part, k, (1, 2)) if turn else part
