"""Settings -> a training: the only place where that happens.

Notebooks 20, 30 and 40, the ablations, the benchmarks and the release all call these, so that the same settings are the
same training everywhere. `p` holds settings by name: a stage's, or those of `settings.load`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gmiqa import recorded
from gmiqa.data import datasets
from gmiqa.data.distortions import LEVELS, calibration
from gmiqa.data.synthetic import Pool, RecordPool, Reference
from gmiqa.data.synthetic.pool import draws_a_step, pictures_per_cell
from gmiqa.imagenet import imagenet_start
from gmiqa.targets import References as References
from gmiqa.targets import TargetSet, Validation, trained_types
from gmiqa.targets import held_out_types as held_out_types
from gmiqa.targets import metaqap_target as metaqap_target
from gmiqa.targets import references as references
from gmiqa.targets import target as target
from gmiqa_core import finetuning, meta_learning, network, pretraining
from gmiqa_core.meta_learning import MetaLearner, MetaObjective, PlainObjective
from gmiqa_core.network import GMIQA, QualityRegressor
from gmiqa_core.prediction import as_tuned
from gmiqa_core.pretraining import GraphObjective
from gmiqa_core.training import History, Report

Trained = tuple[GMIQA, History]


def _arithmetic(p: Any) -> dict[str, Any]:
    """How passes are computed: options of training.train."""
    return {"precision": p.precision, "passes": recorded.passes(p.compile)}


# -- the network


def network_options(p: Any) -> dict[str, Any]:
    """The network's options that differ from its preset."""
    options: dict[str, Any] = {}
    if not p.self_calibrated:
        options["self_calibrated"] = False
    if p.pyramid:
        options["pyramid"] = tuple(p.pyramid)
    if p.graph != "full":
        options["graph"] = p.graph
    if p.edge_depth:
        options["edge_depth"] = p.edge_depth
    return options


def new_network(p: Any, seed: int, device: Any = "cpu") -> GMIQA:
    """The network at its start: random weights drawn from `seed`, or ImageNet's."""
    torch.manual_seed(seed)
    model = network.build(p.preset, **network_options(p))
    model.start = imagenet_start(model.backbone, p.imagenet)
    return model.to(device)


# -- meta-learning (notebook 20)


def meta_pool(p: Any, contents: list[Reference], device: Any = "cpu",
              types: list[int] | None = None) -> Pool | RecordPool:
    """Distorted pictures of meta-training on these types (None: all that are not held out): enough of each level for
    the steps, and so many that a task shows no picture twice."""
    types, drawn = types or trained_types(p), p.meta_support + p.meta_query
    needed = p.meta_steps * p.meta_tasks * drawn / p.pool_reuse
    per_cell = max(-(-drawn // len(LEVELS)), int(np.clip(needed / (len(LEVELS) * len(types)), 2, 12)))
    return _pool(p, contents, p.pretrain_on, p.meta_steps * p.meta_tasks * drawn, types=types, crop=p.meta_crop,
                 per_cell=per_cell, draws=drawn, filled=True, device=device)


def _pool(p: Any, contents: list[Reference], source: str, asked: float, **options: Any) -> Pool | RecordPool:
    """Pictures to pre-train on: contents distorted as needed, or the training part of a data set that has types, levels
    and references (KADID-10k), with its own scores. asked: pictures that all steps draw; few are not made ahead."""
    window = options["per_cell"] * len(LEVELS) * len(options["types"])
    options |= {"turn": p.turn_crops, "reuse": p.pool_reuse, "seed": p.seed, "background": asked > 2 * window}
    if source == "synthetic":
        return Pool(contents, shrink=p.pool_shrink, **options)
    dataset = datasets.load(source, p.pretrain_path)
    return RecordPool(dataset, datasets.split(dataset, "0").train.tolist(), **options)


def meta_tasks(p: Any, pool: Any) -> MetaObjective:
    """The tasks of meta-training: one distortion type of the pool each."""
    return MetaObjective(pool, list(pool.types), p.meta_tasks, p.meta_support, p.meta_query, p.seed)


def learner(p: Any, model: nn.Module, algorithm: str = "") -> MetaLearner:
    """The rule by which `model` adapts to a task."""
    return MetaLearner(model, algorithm or p.meta_algorithm, p.meta_first_order, p.meta_inner_lr, p.meta_inner_steps,
                       p.meta_inner)


def meta_pretrain(p: Any, model: GMIQA, pool: Any, seed: int, folder: Path, algorithm: str = "",
                  report: Report | None = None, label: str = "meta-learning") -> tuple[MetaLearner, History]:
    """Train backbone, pyramid and NodeBuilder of `model`, in place, over tasks. Returns the learner, its BatchNorm
    statistics estimated after training, and the history.

    algorithm    maml or meta-sgd, in place of `meta_algorithm`; `plain`: without tasks, for as much computing
    """
    regressor = QualityRegressor(model).to(next(model.parameters()).device)
    start: nn.Module = regressor
    objective: MetaObjective | PlainObjective
    if algorithm == "plain":
        batch = meta_learning.equal_batch(p.meta_support, p.meta_query, p.meta_inner_steps, p.meta_first_order)
        objective = PlainObjective(pool, batch, p.meta_tasks)
    else:
        start, objective = learner(p, regressor, algorithm), meta_tasks(p, pool)
    trained, history = meta_learning.train(
        start, objective, steps=p.meta_steps, lr=p.meta_lr, **_arithmetic(p), workers=p.workers, clip=1.0,
        log_every=max(1, p.meta_steps // 20), folder=folder, seed=seed, label=label, report=report)
    trained = trained if isinstance(trained, MetaLearner) else MetaLearner(trained)
    last = p.meta_steps * p.meta_tasks  # pictures that are at hand, in other crops
    return meta_learning.with_statistics(trained, [pool.batch(last + i, 64).images for i in range(4)]), history


def take_over(model: GMIQA, trained: MetaLearner) -> GMIQA:
    """`model` with the weights of a learner, without the linear quality head of meta-training."""
    weights = {key: value for key, value in trained.model.state_dict().items() if not key.startswith("head.")}
    model.load_state_dict(weights, strict=False)
    return model


# -- graph pre-training (notebook 30)


def graph_pool(p: Any, contents: list[Reference], device: Any = "cpu") -> Pool | RecordPool:
    """Distorted and undistorted pictures of graph pre-training."""
    draws, asked = draws_a_step(p.graph_sizes, p.graph_batch, p.graph_mixed), 3 * p.graph_batch + p.graph_mixed
    return _pool(p, contents, p.pretrain_on, p.graph_steps * asked, types=[0, *trained_types(p)], crop=p.graph_crop,
                 max_side=p.synthetic_side, draws=draws, per_cell=pictures_per_cell(p.graph_sizes), device=device)


def graph_objective(p: Any, pool: Any, seed: int) -> GraphObjective:
    """The losses of graph pre-training."""
    return GraphObjective(
        pool, sizes=p.graph_sizes, batch=p.graph_batch, mixed=p.graph_mixed, margin=p.graph_margin,
        weight=p.graph_lambda, level_loss=p.level_loss, level_target=p.level_target,
        normalise_codes=p.graph_normalise_codes, detach_pairs=p.graph_detach_pairs, classify_weight=p.graph_classify,
        quality_weight=p.graph_quality, accumulate=p.workers, seed=seed)


def graph_pretrain(p: Any, model: GMIQA, pool: Any, folder: Path, seed: int,
                   evaluate: Callable[[Any], dict[str, float]] | None = None, report: Report | None = None,
                   label: str = "graph pre-training") -> Trained:
    """Train `model` on graphs of equally distorted pictures."""
    return pretraining.pretrain(
        model, graph_objective(p, pool, seed), steps=p.graph_steps, lr=p.graph_lr, folder=folder,
        freeze_backbone=p.freeze_backbone, workers=p.workers, **_arithmetic(p), seed=seed, clip=5.0,
        evaluate=evaluate, every=max(1, p.graph_steps // 4), log_every=max(1, p.graph_steps // 20), label=label,
        report=report)


def plain_pretrain(p: Any, model: GMIQA, pool: Any, folder: Path, seed: int, report: Report | None = None) -> Trained:
    """The control of graph pre-training: as many steps, and at least as many pictures in each, but only the quality of
    each is learned. It keeps a picture of the pool longer, since a graph's step draws several times."""
    batch = 3 * max(p.graph_batch, max(p.graph_sizes)) + p.graph_mixed
    regressor = QualityRegressor(model).to(next(model.parameters()).device)
    _, history = meta_learning.train(
        regressor, PlainObjective(pool, batch, 1), steps=p.graph_steps, lr=p.graph_lr, folder=folder, seed=seed,
        **_arithmetic(p), clip=5.0, report=report, label="plain pre-training")
    return model.eval(), history


# -- fine-tuning (notebook 40)


def metaqap_pool(p: Any, contents: list[Reference], device: Any = "cpu") -> Pool:
    """Distorted pictures of quality-aware pre-training."""
    return Pool(contents, crop=p.qap_crop, max_side=p.qap_side, per_cell=max(1, p.qap_images // 125), reuse=4,
                draws=p.qap_batch, seed=p.seed, device=device,
                background=p.qap_pretrain_steps * p.qap_batch > 4 * p.qap_images)


def finetune_steps(p: Any, pictures: int) -> int:
    """Steps of fine-tuning: `finetune_epochs` over so many pictures, or `finetune_steps`."""
    return p.finetune_epochs * max(1, pictures // p.finetune_batch) or p.finetune_steps


def _branch_sizes(p: Any) -> tuple[list[int], int, int]:
    return p.finetune_graph_sizes, max(4, p.finetune_batch // 2), 2 * p.finetune_batch


def branch_pool(p: Any, contents: list[Reference], device: Any = "cpu") -> Pool | RecordPool:
    """Distorted and undistorted pictures that keep the branches alive in fine-tuning."""
    sizes, batch, mixed = _branch_sizes(p)
    asked = np.inf if p.finetune_epochs else p.finetune_steps * p.synthetic_share * (3 * batch + mixed)
    return _pool(p, contents, "synthetic", asked, types=[0, *trained_types(p)], crop=p.synthetic_crop,
                 max_side=p.synthetic_side, draws=draws_a_step(sizes, batch, mixed), device=device,
                 per_cell=pictures_per_cell(sizes))


def branch_objective(p: Any, pool: Any, scored: TargetSet, seed: int) -> GraphObjective:
    """What keeps the type and level branch alive in fine-tuning: graphs of small N, and mixed pictures."""
    sizes, batch, mixed = _branch_sizes(p)
    # undistorted pictures are ordinary ones of the target: people's scores of photographs are not those of distortions
    undistorted = float(calibration.quality(np.zeros(1, int), np.zeros(1, int))[0])
    scale = 1.0 if scored.synthetic else float(scored.train.quality.mean()) / undistorted
    return GraphObjective(pool, sizes=sizes, batch=batch, mixed=mixed, classify_weight=1.0, quality_weight=1.0,
                          quality_scale=scale, seed=seed)


def with_graph(model: GMIQA, finetune_graph: str | None) -> GMIQA:
    """The model with this graph behind its score: the model itself if it has that graph, else a copy."""
    if finetune_graph in (None, model.config["finetune_graph"]):
        return model
    other = network.build(**{**model.config, "finetune_graph": finetune_graph}).to(next(model.parameters()).device)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k != "bank"}, strict=False)
    other.start = model.start
    return other


def fine_tune(p: Any, model: GMIQA, scored: TargetSet, folder: Path, seed: int, pool: Any = None,
              report: Report | None = None, label: str = "fine-tuning") -> Trained:
    """Train `model` on the scores of a target set; a share of the steps draws synthetic graphs from `pool`."""
    steps = finetune_steps(p, len(scored.train))
    model = with_graph(model, p.finetune_graph)
    # worker processes have cards of their own
    data = scored.train.on(next(model.parameters()).device) if p.workers == 1 else scored.train
    evaluate = None if scored.validation is None else Validation(
        scored.validation, p.finetune_batch, as_tuned(facts(p)))
    how = finetuning.ScoreTraining(
        loss=p.finetune_loss, batch=p.finetune_batch, crop=p.finetune_crop, turn=p.turn_crops,
        lr_backbone=p.finetune_lr_backbone, lr_head=p.finetune_lr_head, share=p.synthetic_share)
    return finetuning.finetune(
        model, data, how, steps=steps, folder=folder, evaluate=evaluate,
        synthetic=branch_objective(p, pool, scored, seed) if p.synthetic_share and pool is not None else None,
        workers=p.workers, accumulate=p.workers, seed=seed, **_arithmetic(p), clip=1.0, weight_decay=p.finetune_decay,
        ema=p.finetune_ema or None, log_every=max(1, steps // 30), label=label, report=report)


def facts(p: Any) -> dict[str, Any]:
    """What is saved with a fine-tuned network, so that every user of the file scores pictures as its tests did."""
    return {"crop": p.finetune_crop, "views": p.finetune_views, "turn": p.turn_crops, "max_side": p.max_side}
