"""Fine-tuning: the losses on scores, the objective of one micro-batch, and the call that trains."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.data.pictures import Pictures, Target
from gmiqa_core import distributed, training
from gmiqa_core.distillation import Distillation
from gmiqa_core.errors import UserError
from gmiqa_core.losses import quality_aware_loss
from gmiqa_core.network import GMIQA, build
from gmiqa_core.prediction import predict

LOSSES = ("nll", "mse", "quality_aware")
BANK_EVERY = 25  # steps after which the bank's nodes are computed anew from the trained backbone


def gaussian_nll(mu: Tensor, sigma: Tensor, quality: Tensor, spread: Tensor | float = 0.0) -> Tensor:
    """Mean of E_q [-log N(q; mu, sigma)] for scores q ~ N(quality, spread), up to a constant:
    ((quality - mu)^2 + spread^2) / (2 sigma^2) + log sigma."""
    return (((quality - mu) ** 2 + spread**2) / (2 * sigma**2) + sigma.log()).mean()


def score_loss(kind: str, mu: Tensor, sigma: Tensor, target: Target, scale: float = 1.0) -> Tensor:
    """nll: Gaussian likelihood; mse: the paper's, sigma stays untrained; quality_aware: MetaQAP's, likewise, in units
    of `scale`, the standard deviation of the training scores."""
    if kind == "nll":
        return gaussian_nll(mu, sigma, target.quality, target.spread)
    if kind == "mse":
        return (mu - target.quality).square().mean()
    return quality_aware_loss(mu, target.quality, scale=scale)


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
    scale: float = 1.0
    bank: Tensor | None = None
    teacher: Distillation | None = None

    def __call__(self, model: GMIQA, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        if self.bank is not None and step % BANK_EVERY == 0:
            model.fill_bank(self.bank)
        k = step * self.accumulate + micro
        before = math.floor(k * self.share)  # synthetic micro-batches so far
        if self.synthetic is not None and math.floor((k + 1) * self.share) > before:
            loss, values = self.synthetic(model, before, 0)
            values = {f"synthetic_{name}": value for name, value in {"loss": loss, **values}.items()}
            return self._taught(model, loss, values)
        start = time.perf_counter()
        target = self.draw(k - before)
        device = next(model.parameters()).device
        target = Target(*(part.to(device, non_blocking=True) for part in target))
        target = target._replace(images=images.to_float(target.images))
        waited = time.perf_counter() - start
        mu, sigma = model(target.images)
        loss = score_loss(self.loss, mu, sigma, target, self.scale)
        values = {"score_loss": loss, "rmse": (mu - target.quality).square().mean().sqrt(), "sigma": sigma.mean(),
                  "data_seconds": waited}
        return self._taught(model, loss, values)

    def _taught(self, model: GMIQA, loss: Tensor, values: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        if self.teacher is None:
            return loss, values
        miss = self.teacher(model)
        return loss + self.teacher.weight * miss, {**values, "imitation": miss}


def finetune(model: GMIQA, data: Any, split: Any = None, *, steps: int, folder: str | Path, batch: int = 16,
             lr_backbone: float = 3e-4, lr_head: float = 1e-3, loss: str = "nll", crop: int = 0, max_side: int = 512,
             turn: bool = False, finetune_graph: str | None = None, synthetic: Callable[..., Any] | None = None,
             share: float = 0.25, teacher: Distillation | None = None, validation: Pictures | None = None,
             workers: int = 1, accumulate: int = 1, seed: int = 0, **loop: Any) -> tuple[GMIQA, training.History]:
    """Train on scores; return the trained model (in eval mode) and the history.

    data, split     a datasets.Dataset with a Split (its validation part chooses the weights), or Pictures, or a
                    synthetic Pool whose endless batches carry KADID-calibrated scores
    loss            nll, mse (the paper's) or quality_aware (MetaQAP's)
    crop            side of random training crops, 0 for whole pictures
    turn            crops of the scored pictures are turned by quarter turns
    finetune_graph  singleton, bank or batch; None keeps the model's own
    synthetic       objective of graph pre-training (pretraining.graph_objective), run in a `share` of the micro-batches
    teacher         a Distillation, whose loss is added in every micro-batch
    loop            everything else goes to training.train: precision, clip, ema, weight_decay, patience, report, ...
    """
    if loss not in LOSSES:
        raise UserError(f"finetune loss = {loss!r}: expected one of {', '.join(LOSSES)}")
    if workers > 1:
        same: dict[str, Any] = dict(
            steps=steps, folder=folder, batch=batch, lr_backbone=lr_backbone, lr_head=lr_head, loss=loss, crop=crop,
            max_side=max_side, turn=turn, finetune_graph=finetune_graph, synthetic=synthetic, share=share,
            teacher=teacher, validation=validation, accumulate=accumulate, seed=seed)
        tuned, history = distributed.launch(workers, finetune, model, data, split, **same, **loop)
        return tuned.to(next(model.parameters()).device), history
    model = with_graph(model, finetune_graph)
    if split is not None:
        validation = Pictures.read(data, split.validation, max_side) if len(split.validation) else validation
        data = Pictures.read(data, split.train, max_side)
    draw = Draw(data, seed, batch, crop, turn)
    bank = None
    if model.config["finetune_graph"] == "bank":
        bank = images.to_float(draw(0, model.config["bank_size"]).images).to(next(model.parameters()).device)
    scale = float(draw(0, 256).quality.std()) if loss == "quality_aware" else 1.0
    objective = Objective(draw, loss, synthetic, share if synthetic is not None else 0.0, accumulate, scale, bank,
                          teacher)
    if teacher is not None:
        teacher.attach(model)
    heads = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": list(model.backbone.parameters()), "lr": lr_backbone}, {"params": heads, "lr": lr_head}]
    if validation is not None:
        loop = {"evaluate": _Validation(validation, bank, batch), "select": "best", **loop}
    identity = {"batch": batch, "lr_backbone": lr_backbone, "loss": loss, "crop": crop, "max_side": max_side,
                "share": objective.share, "turn": turn, "finetune_graph": model.config["finetune_graph"],
                "pictures": len(data) if isinstance(data, Pictures) else 0,
                "teacher": (teacher.file, teacher.weight) if teacher else None}
    try:
        history = training.train(model, objective, steps=steps, lr=lr_head, parameter_groups=groups, folder=folder,
                                 accumulate=accumulate, seed=seed, identity=identity,
                                 **{"label": "fine-tuning", **loop})
    finally:
        if teacher is not None:
            teacher.detach(model)
    if bank is not None:
        model.fill_bank(bank)
    return model, history


@dataclass
class Draw:
    """Training batch k of Pictures or of a synthetic Pool."""

    data: Any
    seed: int
    batch: int
    crop: int
    turn: bool = False

    def __call__(self, k: int, n: int | None = None) -> Target:
        if isinstance(self.data, Pictures):
            return self.data.batch(self.seed, k, n or self.batch, self.crop, self.turn)
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
