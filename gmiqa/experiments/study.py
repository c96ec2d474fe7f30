"""The study: every experiment as units of work that stand alone, each a few columns of a small table.

    experiment = EXPERIMENTS["ablations"]
    for shard in experiment.shards(p):                    # shards share no pictures: they may run side by side
        work = experiment.open(p, shard)                  # makes the pictures that its units share
        for unit in experiment.units(p, shard):
            table = work(unit, folder)                    # DataFrame indexed by experiment.keys

Tables of units are put together by `joined`; `finished` says which units a table holds. A network is trained on one
thread and in single precision, so that another machine finds the same signs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gmiqa import baselines, recipes
from gmiqa.data import cells
from gmiqa.data.pictures import Pictures
from gmiqa.evaluate import srocc
from gmiqa.evaluate.protocols import units as labels_of
from gmiqa.experiments import ablations, adaptation, graph_controls, graph_probe
from gmiqa.experiments import metaqap as qap
from gmiqa.experiments.ablation_rows import CELLS, ROWS, rows
from gmiqa.experiments.folds import out_of_fold
from gmiqa.experiments.stacking import Stack
from gmiqa_core import checkpoints

Shard = tuple[int, ...]
Work = Callable[[str, Path], pd.DataFrame]  # unit, folder of its trainings -> table
PICTURE = ("seed", "picture", "content", "target")
START = "start"  # of the graph experiment: the network before graph pre-training
LOSSES = {"ours": {}, **graph_controls.ARMS}  # unit -> settings
KL, SAMPLED = "kl", "sampled_mse"
RIVALS = ("brisque_svr", "nss_svr")
FOLD_SEEDS = 3  # of the stack, whose members are trained once per fold


@dataclass(frozen=True)
class Experiment:
    """keys: the index of its table. of_shard: which of them a shard fixes. holds: whether a shard's part of the table
    holds a unit."""

    keys: tuple[str, ...]
    of_shard: tuple[str, ...]
    shards: Callable[[Any], list[Shard]]
    units: Callable[[Any, Shard], list[str]]
    holds: Callable[[pd.DataFrame, str], bool]
    open: Callable[[Any, Shard], Work]

    def finished(self, table: pd.DataFrame, p: Any, shard: Shard) -> list[str]:
        """The units of a shard that a table holds."""
        if table.empty:
            return []
        for name, value in zip(self.of_shard, shard, strict=True):
            table = table[table.index.get_level_values(name) == value]
        return [unit for unit in self.units(p, shard) if self.holds(table, unit)]


def joined(tables: Sequence[pd.DataFrame], keys: Sequence[str]) -> pd.DataFrame:
    """Tables of units as one: a row for each key, a column for each arm."""
    result = pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(keys), names=list(keys)))
    for table in tables:
        result = table if result.empty else result.combine_first(table)
    return result.sort_index()


def _seeds(p: Any, count: int) -> list[Shard]:
    return [(seed,) for seed in range(p.seed, p.seed + count)]


def _scored(pictures: Pictures, seed: int, **columns: np.ndarray) -> pd.DataFrame:
    """Predictions of test pictures, with what their comparison needs."""
    labels = labels_of(pictures.facts)
    n = len(pictures)
    return pd.DataFrame({"seed": seed, "picture": np.arange(n), "content": np.arange(n) if labels is None else labels,
                         "target": pictures.quality.numpy().astype(float).round(6), **columns}).set_index(list(PICTURE))


def _kept(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`make` of settings, its last result kept: shards of one process share what does not depend on them."""
    last: dict[str, Any] = {}

    def made(p: Any) -> Any:
        key = json.dumps(p.plain(), sort_keys=True)
        if key not in last:
            last.clear()
            last[key] = make(p)
        return last[key]

    return made


# -- ablations: a row and a seed

# The factorial first, then the controls, then the paper's order: what decides most comes first.
ORDER = [*CELLS, "plain_DGR", "plain_Meta", "V_only", "V_MLP", *(row.name for row in ROWS)]


def _rows(p: Any, shard: Shard) -> list[str]:
    return sorted((row.name for row in rows(p.ablation_rows)), key=ORDER.index)


def _ablations(p: Any, shard: Shard) -> Work:
    bench = ablations.bench(p)

    def work(unit: str, folder: Path) -> pd.DataFrame:
        values, _ = ablations.run(rows([unit])[0], p, bench, shard[0], folder)
        return _scored(bench.test, shard[0], **{unit: values})

    return work


# -- adaptation to unseen types: a fold of held-out types and a seed


def _adaptation(p: Any, shard: Shard) -> Work:
    """Columns are arms, values the RMSE as a share of the label mean's."""
    folds = adaptation.folds(recipes.held_out_types(p), p.meta_folds, p.seed)
    unseen, references = folds[shard[0]], recipes.references(p)
    pool = recipes.meta_pool(p, references.train, types=adaptation.but(unseen))
    pictures = adaptation.pictures(unseen, (references.validation, references.test), p.meta_crop)

    def work(unit: str, folder: Path) -> pd.DataFrame:
        seed = _number(unit)
        networks = {arm: recipes.meta_pretrain(p, recipes.new_network(p, seed), ablations.Draws(pool, 10_000 * seed),
                                               seed, folder / arm, arm, report=_quiet)[0]
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
    pool, tasks = (ablations.Draws(pool, 10_000 * seed) for pool in pools)

    def start(folder: Path) -> Any:
        kept = folder.parent / "start.safetensors"
        if not kept.is_file():
            model = recipes.new_network(p, seed)
            trained, _ = recipes.meta_pretrain(p, model, tasks, seed, folder / START, report=_quiet)
            folder.parent.mkdir(parents=True, exist_ok=True)
            checkpoints.save(recipes.take_over(model, trained), kept, stage="study", seed=seed)
        return checkpoints.load(kept)[0]

    def work(unit: str, folder: Path) -> pd.DataFrame:
        model, known = start(folder), []
        if unit != START:
            q = p.replaced(**LOSSES[unit])
            model, _ = recipes.graph_pretrain(q, model, pool, folder / unit, seed, report=_quiet)
            known = recipes.trained_types(p) if q.graph_classify else []
        V = graph_probe.all_nodes(model, crops.images)
        table = graph_controls.controls(model, V, crops, known, max(p.graph_sizes), seed=p.seed,
                                        edges=graph_controls.EDGES if known else [graph_controls.OWN])
        if known:
            table = pd.concat([table, _sigma(model, graph_controls.centre(crops), seed)])
        return table.assign(seed=seed).rename(columns={"value": unit}).set_index(list(JUDGED))

    return work


JUDGED = ("seed", "outcome", "unit", "arm")


@_kept
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


# -- MetaQAP: an arm and a seed

WEIGHTS = {"": (0.5, 0.5), ", squared error": (1.0, 0.0)}
ARMS = [f"{start}{loss}" for start in ("quality-aware", "random") for loss in WEIGHTS] + ["random, steps of both"]
STACK, MEAN, BEST = "stack", "mean of the members", "best member"


def _qap_seeds(count: int = 0, human: bool = False) -> Callable[[Any], list[Shard]]:
    """The seeds of MetaQAP's experiments, on KADID-calibrated or on human scores."""
    return lambda p: _seeds(p, count or p.qap_seeds) if human == (p.dataset != "synthetic") else []


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
            return _scored(target.test, seed, **_stacked(p, recipe, begun(p.qap_backbones, folder), target, seed))
        start, _, how = unit.partition(", ")
        if how == "squared error":
            recipe = replace(recipe, weights=WEIGHTS[f", {how}"])
        elif how:
            recipe = replace(recipe, steps=p.qap_pretrain_steps + p.qap_finetune_steps)
        network = begun(p.qap_backbones[:1], folder)[p.qap_backbones[0]][start][0]
        tuned = recipe.tuned(network, target.train, unit, seed)
        return _scored(target.test, seed, **{unit: qap.predict(tuned, target.test.pictures)})

    return work


@_kept
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
        return _scored(bench.test, shard[0], **{unit: values})

    return work


def _quiet(*_: Any) -> None:
    """Reports nothing: many trainings run side by side."""


def _column(table: pd.DataFrame, unit: str) -> bool:
    return unit in table and bool(table[unit].notna().any())


def _seed(table: pd.DataFrame, unit: str) -> bool:
    return _number(unit) in table.index.get_level_values("seed")


def _number(unit: str) -> int:
    return int(unit.removeprefix("seed "))


def _synthetic(shards: Callable[[Any], list[Shard]]) -> Callable[[Any], list[Shard]]:
    """These shards where scores are KADID-calibrated; none on a data set."""
    return lambda p: shards(p) if p.dataset == "synthetic" else []


EXPERIMENTS = {
    "ablations": Experiment(PICTURE, ("seed",), _synthetic(lambda p: _seeds(p, p.ablation_seeds)), _rows, _column,
                            _ablations),
    "graphs": Experiment(JUDGED, ("seed",), _synthetic(lambda p: _seeds(p, p.meta_seeds)),
                         lambda p, _: ["ours", START, *graph_controls.ARMS], _column, _graphs),
    "adaptation": Experiment(ADAPTED, ("fold",), _synthetic(lambda p: [(k,) for k in range(p.meta_folds)]),
                             lambda p, _: [f"seed {seed}" for seed, in _seeds(p, p.meta_seeds)], _seed, _adaptation),
    "metaqap": Experiment(PICTURE, ("seed",), _qap_seeds(), lambda *_: ARMS, _column, _metaqap),
    "stack": Experiment(PICTURE, ("seed",), _qap_seeds(FOLD_SEEDS), lambda *_: [STACK], _column, _metaqap),
    "rivals": Experiment(PICTURE, ("seed",), _synthetic(lambda p: _seeds(p, FOLD_SEEDS)),
                         lambda p, shard: [*(RIVALS if shard[0] == p.seed else ()), GMIQA], _column, _rivals),
    # the same as metaqap and stack, on people's scores of a data set
    "human": Experiment(PICTURE, ("seed",), _qap_seeds(human=True), lambda *_: ARMS, _column, _metaqap),
    "human_stack": Experiment(PICTURE, ("seed",), _qap_seeds(FOLD_SEEDS, human=True), lambda *_: [STACK], _column,
                              _metaqap),
}
