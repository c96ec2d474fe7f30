"""What notebook 80 and the benchmark compare: starts of a base network, weights of the loss, members of the stack."""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmiqa import baselines
from gmiqa.base_networks import HEAD_RATE, LOOP, QualityNetwork, finetune, predict, pretrain
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import Comparison, compare, repeated, srocc
from gmiqa.evaluate.protocols import units
from gmiqa.experiments.backbones import base_network
from gmiqa.experiments.folds import FAILURES, Fitted, Member, OutOfFold, out_of_fold
from gmiqa.experiments.stacking import Stack
from gmiqa_core import checkpoints, finetuning, prediction
from gmiqa_core.errors import UserError
from gmiqa_core.finetuning import ScoreTraining
from gmiqa_core.network import GMIQA
from gmiqa_core.training import lines

Starts = dict[str, list[QualityNetwork]]  # "random", "ImageNet", "quality-aware" -> one network per seed
TALKATIVE = 200  # shorter trainings than this print nothing


@dataclass(frozen=True)
class Judge:
    """Compares predictions of the same test pictures, (n,) or (seeds, n): seeds and whole contents are random."""

    pictures: Pictures
    bootstrap: int
    seed: int
    margin: float

    def compared(self, a: np.ndarray, b: np.ndarray) -> Comparison:
        """SROCC of a against b."""
        return compare(a, b, self.pictures.quality.numpy(), "srocc", units(self.pictures.facts), self.bootstrap,
                       self.seed, margin=self.margin)

    def intervals(self, predictions: dict[str, np.ndarray]) -> pd.DataFrame:
        """SROCC of each method with its interval."""
        rows = {name: repeated(values, self.pictures.quality.numpy(), "srocc", units(self.pictures.facts),
                               self.bootstrap, self.seed) for name, values in predictions.items()}
        return pd.DataFrame(rows).T[["value", "low", "high", "n"]].astype(float)


@dataclass(frozen=True)
class Recipe:
    """How all networks of a comparison are fine-tuned: with the same steps, batches and loss.

    epochs      passes over the training pictures, in place of `steps`
    deadline    of time.monotonic(): trainings that are not done by then fail
    """

    folder: Path
    steps: int
    batch: int
    crop: int
    lr: float
    weights: tuple[float, float] = (0.5, 0.5)
    temperature: float = 0.1
    epochs: int = 0
    deadline: float = math.inf

    def loop(self, pictures: Pictures, name: str) -> dict[str, Any]:
        """What a training on these pictures takes; its files lie under `name`, and continue a killed run."""
        steps = self.epochs * max(1, len(pictures) // self.batch) or self.steps
        shown = lines(f"fine-tuning {name}") if steps >= TALKATIVE else None

        def report(step: int, steps: int, values: dict[str, float]) -> None:
            if time.monotonic() > self.deadline and step < steps:
                raise UserError(f"{name}: no time left at step {step} of {steps}")
            if shown:
                shown(step, steps, values)

        return {"steps": steps, "folder": self.folder / re.sub(r"[^\w.-]", "_", name), "report": report,
                "checkpoint_every": max(50, steps // 4)}

    def tuned(self, start: QualityNetwork, pictures: Pictures, name: str, seed: int = 0) -> QualityNetwork:
        """A copy of `start` fine-tuned on these pictures."""
        model = copy.deepcopy(start)
        finetune(model, pictures.on(model.centre.device), batch=self.batch, crop=self.crop, lr=self.lr,
                 weights=self.weights, temperature=self.temperature, seed=seed, **self.loop(pictures, name))
        return model

    def predictions(self, starts: Sequence[QualityNetwork], train: Pictures, test: Pictures, name: str) -> np.ndarray:
        """(seeds, n) qualities of the test pictures: start k is tuned with seed k on all training pictures."""
        return np.stack([predict(self.tuned(start, train, f"{name} {k}", k), test.pictures)
                         for k, start in enumerate(starts)])

    def member(self, name: str, start: QualityNetwork) -> Member:
        """A base network as a member of the stack."""

        def fit(pictures: Pictures, tag: str) -> Fitted:
            model = self.tuned(start, pictures, f"{name} {tag}")
            return lambda wanted: predict(model, wanted.pictures)

        return Member(name, fit)

    def gmiqa_member(self, name: str, start: GMIQA) -> Member:
        """GMIQA as a member: fine-tuned as the others are, from a start that has seen none of these scores."""
        loss = "quality_aware" if self.weights[1] else "mse"
        how = ScoreTraining(loss, self.batch, self.crop, False, self.lr, HEAD_RATE * self.lr, 0.0)

        def fit(pictures: Pictures, tag: str) -> Fitted:
            model = copy.deepcopy(start)
            device = next(model.parameters()).device
            finetuning.finetune(model, pictures.on(device), how, **LOOP, **self.loop(pictures, f"{name} {tag}"))
            return lambda wanted: prediction.predict(model, wanted.pictures, batch=16).mu

        return Member(name, fit)


def seeded_network(seed: int, *which: str) -> QualityNetwork:
    """A base network whose random weights, those of the head included, are drawn from `seed`."""
    torch.manual_seed(seed)
    return base_network(*which)


def starts(backbone: str, pool: Any, seeds: Sequence[int], *, steps: int, folder: Path, batch: int,
           lr: float) -> tuple[Starts, str]:
    """One backbone from random weights, from ImageNet where its weights are at hand, and after quality-aware
    pre-training, which begins where the one before it does; and why there is no ImageNet start."""
    begun: Starts = {"quality-aware": []}
    reason = ""
    begun["random"] = [seeded_network(seed, backbone).to(pool.device) for seed in seeds]
    try:
        begun["ImageNet"] = [seeded_network(seed, backbone, "imagenet").to(pool.device) for seed in seeds]
    except UserError as error:
        reason = str(error)
    for seed, origin in zip(seeds, begun.get("ImageNet", begun["random"]), strict=True):
        model = copy.deepcopy(origin)
        pretrain(model, pool, steps=steps, folder=folder / f"pretrain_{backbone}_{seed}", batch=batch, lr=lr, seed=seed)
        begun["quality-aware"].append(model)
    return begun, reason


def all_starts(backbones: Sequence[str], pool: Any, seeds: Sequence[int],
               **options: Any) -> tuple[dict[str, Starts], dict[str, str]]:
    """`starts` of every backbone, the first with all seeds and the others with one. A backbone that fails is named with
    the reason, and the work of the others is kept."""
    begun: dict[str, Starts] = {}
    missing: dict[str, str] = {}
    for name in backbones:
        try:
            begun[name], reason = starts(name, pool, seeds[:1] if begun else seeds, **options)
        except FAILURES as error:
            missing[name] = str(error) or type(error).__name__
        else:
            missing |= {f"{name} from ImageNet": reason} if reason else {}
    if not begun:
        raise UserError("No base network could be built: " + "; ".join(missing.values()))
    return begun, missing


def estimator_member(name: str, make: Callable[[], Any]) -> Member:
    """Anything with fit(pictures, quality) and predict(pictures), such as baselines.make("nss_svr"), as a member."""

    def fit(pictures: Pictures, tag: str) -> Fitted:
        estimator = make().fit(pictures.pictures, pictures.quality.cpu().numpy())
        return lambda wanted: np.asarray(estimator.predict(wanted.pictures))

    return Member(name, fit)


def members(recipe: Recipe, begun: dict[str, Starts], checkpoint: str, device: Any) -> list[Member]:
    """The base networks under this recipe, a hand-crafted method, and GMIQA where a checkpoint is given."""
    result = [recipe.member(name, models["quality-aware"][0]) for name, models in begun.items()]
    result.append(estimator_member("extended NSS + SVR", lambda: baselines.make("nss_svr")))
    return result + ([recipe.gmiqa_member("GMIQA", checkpoints.load(checkpoint, device)[0])] if checkpoint else [])


@dataclass(frozen=True)
class Stacked:
    """The stack, and the stack whose members were tuned without the quality-aware loss."""

    folded: OutOfFold
    plain: OutOfFold
    stack: Stack
    without_loss: Stack

    @classmethod
    def fit(cls, make: Callable[[Recipe], list[Member]], recipe: Recipe, train: Pictures, folds: int, drop: float,
            seed: int) -> Stacked:
        squared = replace(recipe, weights=(1.0, 0.0), folder=recipe.folder / "squared_error")
        folded, plain = (out_of_fold(make(r), train, folds, units(train.facts), seed) for r in (recipe, squared))
        stacks = (Stack(drop=drop).fit(part.table, train.quality.cpu().numpy()) for part in (folded, plain))
        return cls(folded, plain, *stacks)

    def methods(self, pictures: Pictures) -> dict[str, np.ndarray]:
        """The stack, what it is made of, and the stack without each of its parts, on other pictures."""
        table = self.folded.predict(pictures)
        return {"stack": self.stack.predict(table), "mean of the members": table.mean(axis=1).to_numpy(),
                "without the quality-aware loss": self.without_loss.predict(self.plain.predict(pictures)),
                **{name: table[name].to_numpy() for name in table}}

    def in_sample(self, train: Pictures, test: Pictures, drop: float) -> pd.DataFrame:
        """SROCC that each way of fitting the stack claims on its own pictures, and what it reaches on others."""
        scores, truth = train.quality.cpu().numpy(), test.quality.numpy()
        biased, unseen = Stack(drop=drop).fit(self.folded.in_sample, scores), self.folded.predict(test)
        table = pd.DataFrame([
            ("in sample", "claimed", srocc(biased.predict(self.folded.in_sample), scores)),
            ("in sample", "on the test", srocc(biased.predict(unseen), truth)),
            ("out of fold", "claimed", srocc(self.stack.predict(self.folded.table), scores)),
            ("out of fold", "on the test", srocc(self.stack.predict(unseen), truth)),
        ], columns=["fitted", "judged", "SROCC"])
        return table.pivot(index="fitted", columns="judged", values="SROCC").assign(n_train=len(train),
                                                                                    n_test=len(test))
