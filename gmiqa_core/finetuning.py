"""Fine-tuning on scores of a target set. Synthetic graphs in a share of the steps keep type and level branch alive."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gmiqa_core import distributed, training
from gmiqa_core.batch import Target, to_float, upload
from gmiqa_core.errors import UserError
from gmiqa_core.losses import SCORE_LOSSES, score_loss
from gmiqa_core.network import GMIQA
from gmiqa_core.step import TwoPart

BANK_EVERY = 25  # steps after which the bank's nodes are computed anew from the trained backbone


@dataclass(frozen=True)
class ScoreTraining:
    """How scores are learned.

    loss                    nll, mse (the paper's) or quality_aware (MetaQAP's)
    batch, crop, turn       pictures a micro-batch; side of random crops, 0 for whole pictures; crops turned by quarters
    lr_backbone, lr_head    learning rates of the backbone and of everything else
    share                   of the micro-batches that train the branches on synthetic graphs
    """

    loss: str
    batch: int
    crop: int
    turn: bool
    lr_backbone: float
    lr_head: float
    share: float

    def __post_init__(self) -> None:
        if self.loss not in SCORE_LOSSES:
            raise UserError(f"finetune loss = {self.loss!r}: expected one of {', '.join(SCORE_LOSSES)}")


def finetune(model: GMIQA, data: Any, how: ScoreTraining, *, steps: int, folder: str | Path,
             evaluate: training.Evaluate | None = None, synthetic: TwoPart | None = None,
             workers: int = 1, accumulate: int = 1, seed: int = 0,
             **loop: Any) -> tuple[GMIQA, training.History]:
    """Train on scores; return the trained model (in eval mode) and the history.

    data        gmiqa's Pictures, or anything with their `batch`
    evaluate    scores a validation part; with it the best weights are kept, without it the last
    synthetic   objective of graph pre-training, run in a share of the micro-batches
    loop        everything else goes to training.train: precision, clip, ema, weight_decay, patience, report, ...
    """
    if workers > 1:
        tuned, history = distributed.launch(workers, finetune, model, data, how, steps=steps, folder=folder,
                                            evaluate=evaluate, synthetic=synthetic,
                                            accumulate=accumulate, seed=seed, **loop)
        return tuned.to(next(model.parameters()).device), history

    def draw(k: int, n: int | None = None) -> Target:
        return data.batch(seed, k, n or how.batch, how.crop, how.turn)

    bank = None
    if model.config["finetune_graph"] == "bank":
        bank = to_float(draw(0, model.config["bank_size"]).images).to(next(model.parameters()).device)
    scale = float(draw(0, 256).quality.std()) if how.loss == "quality_aware" else 1.0
    share = how.share if synthetic is not None else 0.0
    objective = Objective(draw, how.loss, synthetic, share, accumulate, scale, bank)
    groups = two_rates(model, how.lr_backbone, how.lr_head)
    if evaluate is not None:
        def scored(model: GMIQA) -> Any:
            if bank is not None:  # as the present weights fill it
                model.fill_bank(bank)
            return evaluate(model)

        loop = {"evaluate": scored, "select": "best", **loop}
    identity = {**asdict(how), "share": share, "finetune_graph": model.config["finetune_graph"], "pictures": len(data),
                "scores": float(data.quality.double().sum())}
    history = training.train(model, objective, steps=steps, lr=how.lr_head, parameter_groups=groups, folder=folder,
                             accumulate=accumulate, seed=seed, identity=identity, **{"label": "fine-tuning", **loop})
    if bank is not None:
        model.fill_bank(bank)
    return model, history


def two_rates(model: GMIQA, backbone: float, heads: float) -> list[dict[str, Any]]:
    """Parameter groups: the backbone at a rate of its own."""
    others = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    return [{"params": list(model.backbone.parameters()), "lr": backbone}, {"params": others, "lr": heads}]


@dataclass
class Objective(TwoPart):
    """Loss of one micro-batch: scores of the target set, or in a `share` of them L_type + lambda L_level on graphs."""

    draw: Callable[[int], Target]
    loss: str = "nll"
    synthetic: TwoPart | None = None
    share: float = 0.0
    accumulate: int = 1
    scale: float = 1.0
    bank: Tensor | None = None

    def inputs(self, step: int, micro: int) -> tuple[Target | None, Any, bool]:
        """Pictures of the target set or of the graphs, and whether the bank is filled anew before."""
        k, fill = step * self.accumulate + micro, self.bank is not None and step % BANK_EVERY == 0
        before = math.floor(k * self.share)  # synthetic micro-batches so far
        if self.synthetic is not None and math.floor((k + 1) * self.share) > before:
            return None, self.synthetic.inputs(before, 0), fill
        return self.draw(k - before), None, fill

    def outcome(self, model: GMIQA, inputs: tuple[Target | None, Any, bool]) -> tuple[Tensor, dict[str, Any]]:
        target, graphs, fill = inputs
        if fill and self.bank is not None:
            model.fill_bank(self.bank)
        if target is None and self.synthetic is not None:
            loss, values = self.synthetic.outcome(model, graphs)
            values = {f"synthetic_{name}": value for name, value in {"loss": loss, **values}.items()}
        else:
            device = next(model.parameters()).device
            target = Target(*(upload(part, device) for part in target or ()))
            mu, sigma = model(to_float(target.images))
            loss = score_loss(self.loss, mu, sigma, target, self.scale)
            values = {"score_loss": loss, "rmse": (mu - target.quality).square().mean().sqrt(), "sigma": sigma.mean()}
        return loss, values
