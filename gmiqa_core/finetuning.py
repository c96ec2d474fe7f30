"""Fine-tuning on scores, and prediction: pictures -> quality mu in [0,1], higher is better, and its spread sigma.

    finetune(model, dataset, split, steps=..., folder=...)      learn the scores of a data set
    predict(model, pictures)                                    DataFrame with columns mu and sigma

One rule for large pictures, here and in scoring: the longer side is brought down to `max_side` by area averaging,
never up; training and test see the same rule. A share of the steps trains the type and level branch on synthetic
graphs, so that a fine-tuned model still names distortion and severity.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa_core import images, training
from gmiqa_core.network import GMIQA, build
from gmiqa_core.settings import UserError

LOSSES = ("nll", "mse", "quality_aware")
BANK_EVERY = 25  # steps after which the bank's nodes are computed anew from the trained backbone


class Target(NamedTuple):
    """One training batch: images (n,3,H,W) in [0,1]; quality and spread (n,) in [0,1]; rows (n,) of the pictures."""

    images: Tensor
    quality: Tensor
    spread: Tensor
    rows: Tensor


@dataclass
class Pictures:
    """Scored pictures, decoded once and kept in memory as uint8.

    pictures   list of (3,H,W) uint8, longer side at most max_side
    quality    (n,) float in [0,1], higher is better
    spread     (n,) float: standard deviation of the score a picture of this kind gets; 0 where the score is its own
    """

    pictures: list[Tensor]
    quality: Tensor
    spread: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: Sequence[int] | np.ndarray) -> "Pictures":
        chosen = [int(i) for i in index]
        return Pictures([self.pictures[i] for i in chosen], self.quality[chosen], self.spread[chosen])

    @classmethod
    def read(cls, dataset: Any, rows: Sequence[int] | np.ndarray, max_side: int = 512) -> "Pictures":
        """Rows of a datasets.Dataset. A set's own spread is that of single opinions, not of the score: it stays out."""
        table = dataset.table.iloc[list(rows)]
        paths = [Path(dataset.root) / str(name) for name in table["image"]]
        quality = torch.tensor(table["quality"].to_numpy(np.float32))
        return cls(read_all(paths, max_side), quality, torch.zeros(len(quality)))

    @classmethod
    def of_batch(cls, batch: Any) -> "Pictures":
        """A synthetic.Batch: its scores are means of a (type, level) cell, its spread the deviation within the cell."""
        stored = (batch.images.detach().cpu() * 255).round().to(torch.uint8)
        return cls(list(stored), batch.quality.detach().cpu().float(), batch.spread.detach().cpu().float())

    def batch(self, seed: int, step: int, n: int, crop: int = 0) -> Target:
        """Batch `step` of shuffled epochs, a pure function of (seed, step): random crops of side `crop`, or with 0
        whole pictures, cut at random to the smallest height and width among them; mirrored half of the time."""
        n = min(n, len(self))
        epoch, place = divmod(step, len(self) // n)
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        index = order[place * n: (place + 1) * n]
        rng = np.random.default_rng((seed, epoch, place))
        chosen = [self.pictures[i] for i in index]
        height, width = (min([p.shape[d] for p in chosen] + [crop or 1 << 30]) for d in (1, 2))
        cut = torch.stack([_cut(p, height, width, rng) for p in chosen])
        return Target(cut, self.quality[index], self.spread[index], torch.from_numpy(index))


def _cut(picture: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    top = int(rng.integers(picture.shape[1] - height + 1))
    left = int(rng.integers(picture.shape[2] - width + 1))
    part = picture[:, top: top + height, left: left + width]
    return part.flip(2) if rng.random() < 0.5 else part


def read_all(sources: Sequence[Any], max_side: int | None) -> list[Tensor]:
    """Decode pictures in threads (the codecs release Python's lock) into (3,H,W) uint8."""
    def one(source: Any) -> Tensor:
        picture = images.from_any(source, max_side)
        return (picture * 255).round().to(torch.uint8) if picture.is_floating_point() else picture

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(one, sources))


def gaussian_nll(mu: Tensor, sigma: Tensor, quality: Tensor, spread: Tensor | float = 0.0) -> Tensor:
    """Mean of E_q [-log N(q; mu, sigma)] for scores q ~ N(quality, spread), up to a constant:
    ((quality - mu)^2 + spread^2) / (2 sigma^2) + log sigma."""
    return (((quality - mu) ** 2 + spread**2) / (2 * sigma**2) + sigma.log()).mean()


def score_loss(kind: str, mu: Tensor, sigma: Tensor, target: Target) -> Tensor:
    """nll: Gaussian likelihood; mse: the paper's, sigma stays untrained; quality_aware: MetaQAP's, likewise."""
    if kind == "nll":
        return gaussian_nll(mu, sigma, target.quality, target.spread)
    if kind == "mse":
        return (mu - target.quality).square().mean()
    from gmiqa_core.metaqap import quality_aware_loss

    return quality_aware_loss(mu, target.quality)


def with_graph(model: GMIQA, finetune_graph: str | None) -> GMIQA:
    """The model with another graph behind its score: itself if it has that one, else a copy."""
    if finetune_graph in (None, model.config["finetune_graph"]):
        return model
    other = build(**{**model.config, "finetune_graph": finetune_graph}).to(next(model.parameters()).device)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k != "bank"}, strict=False)
    other.start = model.start
    return other


@dataclass
class Objective:
    """Loss of one micro-batch: scores of the target set, or in a `share` of them L_type + lambda L_level on graphs."""

    draw: Callable[[int], Target]
    loss: str = "nll"
    synthetic: Callable[[Any, int, int], tuple[Tensor, Any]] | None = None
    share: float = 0.0
    accumulate: int = 1
    bank: Tensor | None = None
    extra_loss: Callable[[Any, Target, Tensor], Tensor] | None = None

    def __call__(self, model: GMIQA, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        if self.bank is not None and step % BANK_EVERY == 0:
            model.fill_bank(self.bank)
        k = step * self.accumulate + micro
        before = math.floor(k * self.share)  # synthetic micro-batches so far
        if self.synthetic is not None and math.floor((k + 1) * self.share) > before:
            loss, values = self.synthetic(model, before, 0)
            return loss, {f"synthetic_{name}": value for name, value in {"loss": loss, **values}.items()}
        start = time.perf_counter()
        target = self.draw(k - before)
        device = next(model.parameters()).device
        target = Target(*(part.to(device, non_blocking=True) for part in target))
        target = target._replace(images=images.to_float(target.images))
        waited = time.perf_counter() - start
        V = model.nodes(target.images)
        mu, sigma = model.score(V)
        loss = score_loss(self.loss, mu, sigma, target)
        values = {"score_loss": loss, "rmse": (mu - target.quality).square().mean().sqrt(), "sigma": sigma.mean(),
                  "data_seconds": waited}
        if self.extra_loss is not None:
            values["extra_loss"] = self.extra_loss(model, target, V)
            loss = loss + values["extra_loss"]
        return loss, values


def finetune(model: GMIQA, data: Any, split: Any = None, *, steps: int, folder: str | Path, batch: int = 16,
             lr_backbone: float = 3e-4, lr_head: float = 1e-3, loss: str = "nll", crop: int = 0, max_side: int = 512,
             finetune_graph: str | None = None, synthetic: Callable[..., Any] | None = None, share: float = 0.25,
             extra_loss: Callable[..., Tensor] | None = None, validation: Pictures | None = None, workers: int = 1,
             accumulate: int = 1, seed: int = 0, **loop: Any) -> tuple[GMIQA, training.History]:
    """Train on scores; return the trained model (in eval mode) and the history.

    data, split     a datasets.Dataset with a Split (its validation part chooses the weights), or Pictures, or a
                    synthetic Pool whose endless batches carry KADID-calibrated scores
    loss            nll, mse (the paper's) or quality_aware (MetaQAP's)
    crop            side of random training crops, 0 for whole pictures
    finetune_graph  singleton, bank or batch; None keeps the model's own
    synthetic       objective of graph pre-training (pretraining.graph_objective), run in a `share` of the micro-batches
    extra_loss      extra_loss(model, target, V) -> loss, added to the score's loss
    loop            everything else goes to training.train: precision, clip, ema, weight_decay, patience, report, ...
    """
    if loss not in LOSSES:
        raise UserError(f"finetune loss = {loss!r}: expected one of {', '.join(LOSSES)}")
    if workers > 1:
        named = dict(locals())
        model_out, history = training.launch(workers, finetune, **{k: v for k, v in named.items() if k not in
                                             ("workers", "loop")}, **loop)
        return model_out.to(next(model.parameters()).device), history
    model = with_graph(model, finetune_graph)
    if split is not None:
        validation = Pictures.read(data, split.validation, max_side) if len(split.validation) else validation
        data = Pictures.read(data, split.train, max_side)
    draw = _Draw(data, seed, batch, crop)
    bank = None
    if model.config["finetune_graph"] == "bank":
        bank = images.to_float(draw(0, model.config["bank_size"]).images).to(next(model.parameters()).device)
    objective = Objective(draw, loss, synthetic, share if synthetic is not None else 0.0, accumulate, bank, extra_loss)
    heads = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": list(model.backbone.parameters()), "lr": lr_backbone}, {"params": heads, "lr": lr_head}]
    if validation is not None:
        loop = {"evaluate": _Validation(validation, bank, batch), "select": "best", **loop}
    identity = {"batch": batch, "lr_backbone": lr_backbone, "loss": loss, "crop": crop, "max_side": max_side,
                "share": objective.share, "finetune_graph": model.config["finetune_graph"],
                "pictures": len(data) if isinstance(data, Pictures) else 0}
    history = training.train(model, objective, steps=steps, lr=lr_head, parameter_groups=groups, folder=folder,
                             accumulate=accumulate, seed=seed, identity=identity, **{"label": "fine-tuning", **loop})
    if bank is not None:
        model.fill_bank(bank)
    return model, history


@dataclass
class _Draw:
    """Training batch k of Pictures or of a synthetic Pool."""

    data: Any
    seed: int
    batch: int
    crop: int

    def __call__(self, k: int, n: int | None = None) -> Target:
        if isinstance(self.data, Pictures):
            return self.data.batch(self.seed, k, n or self.batch, self.crop)
        b = self.data.batch(k, n or self.batch)
        return Target(b.images, b.quality, b.spread, torch.arange(len(b.quality), device=b.quality.device))


@dataclass
class _Validation:
    """SROCC and RMSE on pictures held out of the training part."""

    pictures: Pictures
    bank: Tensor | None
    batch: int

    def __call__(self, model: GMIQA) -> dict[str, float]:
        from scipy.stats import spearmanr

        if self.bank is not None:
            model.fill_bank(self.bank)
        frame = predict(model, self.pictures.pictures, max_side=None, batch=self.batch)
        quality, spread = self.pictures.quality.numpy(), self.pictures.spread.numpy()
        mu, sigma = frame["mu"].to_numpy(), frame["sigma"].to_numpy()
        nll = np.mean(((quality - mu) ** 2 + spread**2) / (2 * sigma**2) + np.log(sigma))
        return {"score": float(np.nan_to_num(spearmanr(mu, quality).statistic, nan=-1.0)),
                "rmse": float(np.sqrt(np.mean((mu - quality) ** 2))), "nll": float(nll)}


@torch.no_grad()
def predict(model: GMIQA, pictures: Sequence[Any], max_side: int | None = 512, batch: int = 16, crops: int = 0,
            crop: int = 224, flip: bool = False, seed: int = 0) -> pd.DataFrame:
    """Scores of pictures (paths, PIL images, arrays or tensors), in their order: DataFrame with mu and sigma.

    Whole pictures go through the pyramid; pictures of one size share a batch, which changes nothing but the time.
    crops, crop   average over that many random crops of that side (the repo preset: 25 of 224) in place of the whole
    flip          average over the picture and its mirror image
    The average of several views is the mean and the deviation of the mixture of their Gaussians.
    """
    training_mode = model.training
    model.eval()
    device = next(model.parameters()).device
    mu, sigma = np.zeros(len(pictures)), np.zeros(len(pictures))
    for index, loaded in _equal_sizes(pictures, max_side, batch):
        views = [loaded]
        if crops:
            height, width = min(crop, loaded.shape[2]), min(crop, loaded.shape[3])
            views = [torch.stack([_cut(p, height, width, np.random.default_rng((seed, i, c)))
                                  for i, p in zip(index, loaded, strict=True)]) for c in range(crops)]
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
