"""Prediction: pictures -> quality mu in [0,1], higher is better, and its spread sigma."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.data.images import read_all
from gmiqa.data.pictures import cut
from gmiqa_core.network import GMIQA


@torch.no_grad()
def predict(model: GMIQA, pictures: Sequence[Any], max_side: int | None = 512, batch: int = 8, crops: int = 0,
            crop: int = 224, flip: bool = False, turn: bool = False, seed: int = 0) -> pd.DataFrame:
    """Scores of pictures (paths, PIL images, arrays or tensors), in their order: DataFrame with mu and sigma.

    Whole pictures go through the pyramid; pictures of one size share a batch, which changes nothing but the time.
    crops, crop   average over that many random crops of that side (the repo preset: 25 of 224) in place of the whole
    flip          average over the picture and its mirror image
    turn          each crop stands a quarter turn further than the one before
    The average of several views is the mean and the deviation of the mixture of their Gaussians.
    """
    training_mode = model.training
    model.eval()
    device = next(model.parameters()).device
    mu, sigma = np.zeros(len(pictures)), np.zeros(len(pictures))
    for index, loaded in _equal_sizes(pictures, max_side, batch):
        views = [torch.stack([crop_of(p, k, crop, turn, (seed, i)) for i, p in zip(index, loaded, strict=True)])
                 for k in range(crops)] or [loaded]
        if flip:
            views += [view.flip(3) for view in views]
        outputs = [model(images.to_float(view.to(device))) for view in views]
        means = torch.stack([m.double() for m, _ in outputs])
        variances = torch.stack([s.double() ** 2 for _, s in outputs])
        mean = means.mean(0)
        mu[index] = mean.cpu()
        sigma[index] = (variances.mean(0) + (means - mean).square().mean(0)).sqrt().cpu()
    model.train(training_mode)
    return pd.DataFrame({"mu": mu, "sigma": sigma})


def as_tuned(facts: dict[str, Any]) -> dict[str, Any]:
    """The options of `predict` under which a checkpoint was tested, of what was saved with it: how it is to be used."""
    crop = int(facts.get("crop") or 0)
    return {"crops": int(facts.get("views") or 0) if crop else 0, "crop": crop, "turn": bool(facts.get("turn"))}


def crop_of(picture: Tensor, k: int, crop: int, turn: bool = False, seed: tuple[int, ...] = (0, 0)) -> Tensor:
    """Random crop number k of a picture (3,H,W), a pure function of seed and k; with `turn` it stands k quarters on."""
    height, width = (min(crop, side) for side in picture.shape[1:])
    part = cut(picture, height, width, np.random.default_rng((*seed, k)))
    return torch.rot90(part, k, (1, 2)) if turn else part


def side_effect(model: GMIQA, pictures: Sequence[Any], sides: Sequence[int], batch: int = 8) -> pd.DataFrame:
    """What the rule for large pictures does to scores: DataFrame picture, max_side, mu, sigma. A side beyond the
    picture's own leaves it as it is."""
    return pd.concat([predict(model, pictures, side, batch).assign(max_side=side, picture=range(len(pictures)))
                      for side in sides], ignore_index=True)


def _equal_sizes(pictures: Sequence[Any], max_side: int | None, batch: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Batches (positions, uint8 (n,3,H,W)) of pictures that share a size; at most a few batches are in memory."""
    waiting: dict[torch.Size, list[tuple[int, Tensor]]] = {}
    for start in range(0, len(pictures), 4 * batch):
        for i, picture in enumerate(read_all(pictures[start: start + 4 * batch], max_side), start):
            group = waiting.setdefault(picture.shape, [])
            group.append((i, picture))
            if len(group) == batch:
                yield np.array([i for i, _ in group]), torch.stack([p for _, p in waiting.pop(picture.shape)])
        if sum(map(len, waiting.values())) > 8 * batch:
            yield from _rest(waiting)
    yield from _rest(waiting)


def _rest(waiting: dict[torch.Size, list[tuple[int, Tensor]]]) -> Iterator[tuple[np.ndarray, Tensor]]:
    while waiting:
        _, group = waiting.popitem()
        yield np.array([i for i, _ in group]), torch.stack([p for _, p in group])
