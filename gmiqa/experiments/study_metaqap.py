"""MetaQAP's experiments of the study: its pre-training, its loss and its stack, on KADID-calibrated or human scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa import recipes
from gmiqa.evaluate import srocc
from gmiqa.evaluate.protocols import units as labels_of
from gmiqa.experiments import metaqap as qap
from gmiqa.experiments.folds import out_of_fold
from gmiqa.experiments.stacking import Stack
from gmiqa.experiments.study_unit import (
    FOLD_SEEDS,
    PICTURE,
    Experiment,
    Shard,
    Work,
    holds_column,
    once,
    scored,
    seeds,
)  # fmt: skip

WEIGHTS = {"": (0.5, 0.5), ", squared error": (1.0, 0.0)}
ARMS = [f"{start}{loss}" for start in ("quality-aware", "random") for loss in WEIGHTS] + ["random, steps of both"]
STACK, MEAN, BEST = "stack", "mean of the members", "best member"


def _qap_seeds(count: int = 0, human: bool = False) -> Callable[[Any], list[Shard]]:
    """The seeds of MetaQAP's experiments, on KADID-calibrated or on human scores."""
    return lambda p: seeds(p, count or p.qap_seeds) if human == (p.dataset != "synthetic") else []


def _metaqap(p: Any, shard: Shard) -> Work:
    """Columns are arms: a start, and how the network is tuned; and what the stack is compared with."""
    seed, (target, pool) = shard[0], _qap_pictures(p)

    def begun(backbones: Sequence[str], folder: Path) -> dict[str, qap.Starts]:
        return qap.all_starts(backbones, pool, [seed], steps=p.qap_pretrain_steps, batch=p.qap_batch, lr=p.qap_lr,
                              folder=folder.parent / "starts")[0]

    def work(unit: str, folder: Path) -> pd.DataFrame:
        recipe = qap.Recipe(folder, p.qap_finetune_steps, p.qap_batch, p.qap_crop, p.qap_lr,
                            (p.qap_mse_weight, p.qap_rank_weight), p.qap_temperature)
        if unit == STACK:
            return scored(target.test, seed, **_stacked(p, recipe, begun(p.qap_backbones, folder), target, seed))
        start, _, how = unit.partition(", ")
        if how == "squared error":
            recipe = replace(recipe, weights=WEIGHTS[f", {how}"])
        elif how:
            recipe = replace(recipe, steps=p.qap_pretrain_steps + p.qap_finetune_steps)
        network = begun(p.qap_backbones[:1], folder)[p.qap_backbones[0]][start][0]
        tuned = recipe.tuned(network, target.train, unit, seed)
        return scored(target.test, seed, **{unit: qap.predict(tuned, target.test.pictures)})

    return work


@once
def _qap_pictures(p: Any) -> tuple[Any, Any]:
    """The target, and the pool of quality-aware pre-training."""
    references = recipes.references(p)
    return recipes.metaqap_target(p, references), recipes.metaqap_pool(p, references.train)


def _stacked(p: Any, recipe: qap.Recipe, begun: dict[str, qap.Starts], target: Any, seed: int) -> dict[str, np.ndarray]:
    """The stack, the mean of its members and the member that is best out of fold, on the test pictures."""
    train, test = target.train, target.test
    folded = out_of_fold(qap.members(recipe, begun, "", "cpu"), train, p.qap_folds, labels_of(train.facts), seed)
    scores = train.quality.numpy()
    best = max(folded.table, key=lambda name: srocc(folded.table[name].to_numpy(), scores))
    unseen = folded.predict(test)
    return {STACK: Stack(drop=p.qap_drop).fit(folded.table, scores).predict(unseen),
            MEAN: unseen.mean(axis=1).to_numpy(), BEST: unseen[best].to_numpy()}

EXPERIMENTS = {
    "metaqap": Experiment(PICTURE, ("seed",), _qap_seeds(), lambda *_: ARMS, holds_column, _metaqap),
    "stack": Experiment(PICTURE, ("seed",), _qap_seeds(FOLD_SEEDS), lambda *_: [STACK], holds_column, _metaqap),
    # the same on people's scores of a data set
    "human": Experiment(PICTURE, ("seed",), _qap_seeds(human=True), lambda *_: ARMS, holds_column, _metaqap),
    "human_stack": Experiment(PICTURE, ("seed",), _qap_seeds(FOLD_SEEDS, human=True), lambda *_: [STACK], holds_column,
                              _metaqap),
}
