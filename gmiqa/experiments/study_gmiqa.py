"""GMIQA's experiments of the study: rows of ablations, adaptation to unseen types, graphs, hand-crafted rivals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa import baselines, recipes
from gmiqa.data import cells
from gmiqa.experiments import ablations, adaptation, graph_controls, graph_probe
from gmiqa.experiments.ablation_rows import CELLS, ROWS, rows
from gmiqa.experiments.study_unit import (
    FOLD_SEEDS,
    PICTURE,
    Experiment,
    Shard,
    Work,
    calibrated,
    holds_column,
    holds_seed,
    number,
    once,
    quiet,
    scored,
    seeds,
)  # fmt: skip
from gmiqa_core import checkpoints

START = "start"  # of the graph experiment: the network before graph pre-training
LOSSES = {"ours": {}, **graph_controls.ARMS}  # unit -> settings
KL, SAMPLED = "kl", "sampled_mse"
RIVALS = ("brisque_svr", "nss_svr")

# -- ablations: a row and a seed

# The factorial first, then the controls, then the paper's order: what decides most comes first.
ORDER = [*CELLS, "plain_DGR", "plain_Meta", "V_only", "V_MLP", *(row.name for row in ROWS)]


def _rows(p: Any, shard: Shard) -> list[str]:
    return sorted((row.name for row in rows(p.ablation_rows)), key=ORDER.index)


def _ablations(p: Any, shard: Shard) -> Work:
    bench = ablations.bench(p)

    def work(unit: str, folder: Path) -> pd.DataFrame:
        values, _ = ablations.run(rows([unit])[0], p, bench, shard[0], folder)
        return scored(bench.test, shard[0], **{unit: values})

    return work


# -- adaptation to unseen types: a fold of held-out types and a seed


def _adaptation(p: Any, shard: Shard) -> Work:
    """Columns are arms, values the RMSE as a share of the label mean's."""
    folds = adaptation.folds(recipes.held_out_types(p), p.meta_folds, p.seed)
    unseen, references = folds[shard[0]], recipes.references(p)
    pool = recipes.meta_pool(p, references.train, types=adaptation.but(unseen))
    pictures = adaptation.pictures(unseen, (references.validation, references.test), p.meta_crop)

    def work(unit: str, folder: Path) -> pd.DataFrame:
        seed = number(unit)
        drawn = ablations.Draws(pool, ablations.beginning(p, seed))
        networks = {arm: recipes.meta_pretrain(p, recipes.new_network(p, seed), drawn, seed, folder / arm, arm,
                                               report=quiet)[0]
                    for arm in dict.fromkeys([p.meta_algorithm, *p.meta_compare])}
        errors, _ = adaptation.compared(networks, unseen, *pictures, p.meta_shots, seed)
        errors = errors[errors["step"].isin([0, adaptation.AT[-1]])].assign(fold=shard[0], seed=seed)
        return errors.pivot_table(index=list(ADAPTED), columns="arm", values="share")

    return work


ADAPTED = ("fold", "seed", "type", "shots", "step")


# -- graphs: losses, and a seed


def _graphs(p: Any, shard: Shard) -> Work:
    """Columns are whose losses, rows an outcome, a group of contents and an arm of graph_controls.controls; for the
    outcome "sigma" rows are a content and a loss of the level branch, values the error of sigma."""
    seed, (crops, *pools) = shard[0], _graph_pictures(p)
    pool, tasks = (ablations.Draws(pool, ablations.beginning(p, seed)) for pool in pools)

    def start(folder: Path) -> Any:
        kept = folder.parent / "start.safetensors"
        if not kept.is_file():
            model = recipes.new_network(p, seed)
            trained, _ = recipes.meta_pretrain(p, model, tasks, seed, folder / START, report=quiet)
            folder.parent.mkdir(parents=True, exist_ok=True)
            checkpoints.save(recipes.take_over(model, trained), kept, stage="study", seed=seed)
        return checkpoints.load(kept)[0]

    def work(unit: str, folder: Path) -> pd.DataFrame:
        model, known = start(folder), []
        if unit != START:
            q = p.replaced(**LOSSES[unit])
            model, _ = recipes.graph_pretrain(q, model, pool, folder / unit, seed, report=quiet)
            known = recipes.trained_types(p) if q.graph_classify else []
        V = graph_probe.all_nodes(model, crops.images)
        table = graph_controls.controls(model, V, crops, known, max(p.graph_sizes), seed=p.seed,
                                        edges=graph_controls.EDGES if known else [graph_controls.OWN])
        if known:
            table = pd.concat([table, _sigma(model, graph_controls.centre(crops), seed)])
        return table.assign(seed=seed).rename(columns={"value": unit}).set_index(list(JUDGED))

    return work


JUDGED = ("seed", "outcome", "unit", "arm")


@once
def _graph_pictures(p: Any) -> tuple[Any, Any, Any]:
    """Crops to test on, and the pools of graph pre-training and of meta-training."""
    references = recipes.references(p)
    return (graph_controls.several_crops(references.test, p.graph_crop, max_side=p.synthetic_side),
            recipes.graph_pool(p, references.train), recipes.meta_pool(p, references.train))


def _sigma(model: Any, batch: Any, seed: int) -> pd.DataFrame:
    """Error of sigma under either loss of the level branch, both taught by the same opinions, single scores drawn from
    people's: for each content of the half that tests."""
    V = graph_probe.all_nodes(model, batch.images)
    tables = []
    for loss in (KL, SAMPLED):
        frame = graph_probe.sigmas(model, V, batch, loss, seed, opinions=True)
        error = (frame["sigma"] - frame["spread"]).abs().groupby(frame["content"]).mean()
        tables.append(pd.DataFrame({"outcome": "sigma", "arm": loss, "unit": error.index, "value": error.to_numpy()}))
    return pd.concat(tables)


# -- GMIQA, trained in full, and hand-crafted features on the same pictures

GMIQA = "GMIQA"


def _rivals(p: Any, shard: Shard) -> Work:
    bench = ablations.bench(p)

    def work(unit: str, folder: Path) -> pd.DataFrame:
        if unit == GMIQA:
            values, _ = ablations.run(rows(["full"])[0], p.replaced(ablation_share=1.0), bench, shard[0], folder)
        else:
            learn = cells.about(bench.references.train, p.evaluate_labels, seed=p.seed)
            fitted = baselines.make(unit, max_side=p.max_side).fit(learn.pictures, learn.facts["target"])
            values = np.asarray(fitted.predict(bench.test.pictures))
        return scored(bench.test, shard[0], **{unit: values})

    return work

EXPERIMENTS = {
    "ablations": Experiment(PICTURE, ("seed",), calibrated(lambda p: seeds(p, p.ablation_seeds)), _rows, holds_column,
                            _ablations),
    "graphs": Experiment(JUDGED, ("seed",), calibrated(lambda p: seeds(p, p.meta_seeds)),
                         lambda p, _: ["ours", START, *graph_controls.ARMS], holds_column, _graphs),
    "adaptation": Experiment(ADAPTED, ("fold",), calibrated(lambda p: [(k,) for k in range(p.meta_folds)]),
                             lambda p, _: [f"seed {seed}" for seed, in seeds(p, p.meta_seeds)], holds_seed,
                             _adaptation),
    "rivals": Experiment(PICTURE, ("seed",), calibrated(lambda p: seeds(p, FOLD_SEEDS)),
                         lambda p, shard: [*(RIVALS if shard[0] == p.seed else ()), GMIQA], holds_column, _rivals),
}
