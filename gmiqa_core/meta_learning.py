"""Meta-learning over distortion types: MAML and Meta-SGD through learn2learn, and adaptation to types never seen.

A task is one distortion type: support and query pictures of that type from disjoint contents, labelled with quality in
[0,1]. Inner loop (Finn et al. 2017), on the support set:
    phi'  = phi - a * grad L_support(phi)       a fixed (maml), or a learned rate per weight (meta-sgd, Li et al. 2017)
Outer loop, over the tasks of a meta-batch:
    phi  <- Adam(phi, grad mean L_query(phi'))  through the inner step, or around it (first order)
L is the squared error. BatchNorm uses the statistics of the batch in both loops and no running statistics move: an
adapted clone would pollute them. `estimate_statistics` sets them after training.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gmiqa_core import distributed, training
from gmiqa_core.errors import UserError

ALGORITHMS = ("maml", "meta-sgd")
DROP_EVERY = 5  # outer steps between two measurements of the support loss after adaptation


def _learn2learn() -> Any:
    """learn2learn's algorithms, imported late (3 s) and without the notice that its dependency gym prints."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        from learn2learn import algorithms
    return algorithms


class MetaLearner(nn.Module):
    """A network and the rule that adapts it.

    model        images (n,3,H,W) -> quality (n,): network.QualityRegressor, or any module of that form
    algorithm    maml: inner rate fixed at inner_lr; meta-sgd: a learned rate per weight, starting there
    first_order  leave out the derivative of the inner gradient
    """

    def __init__(self, model: nn.Module, algorithm: str = "maml", first_order: bool = True, inner_lr: float = 0.01,
                 inner_steps: int = 1):
        super().__init__()
        if algorithm not in ALGORITHMS:
            raise UserError(f"meta-learning algorithm = {algorithm!r}: expected one of {', '.join(ALGORITHMS)}")
        algorithms = _learn2learn()
        kind = {"maml": algorithms.MAML, "meta-sgd": algorithms.MetaSGD}[algorithm]
        self.learner = kind(model, lr=inner_lr, first_order=first_order)
        self.algorithm, self.first_order, self.inner_steps = algorithm, first_order, inner_steps

    @property
    def model(self) -> nn.Module:
        return self.learner.module

    def forward(self, images: Tensor) -> Tensor:
        return self.learner(images)

    def clone(self) -> Any:
        """A copy to adapt: gradients flow back to this network; its BatchNorm buffers are its own."""
        clone = self.learner.clone()
        for module in clone.modules():  # learn2learn shares the buffers, and a forward pass would move the originals
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        return clone

    def inner_loop(self, support: Any, steps: int | None = None) -> tuple[Any, Tensor]:
        """Adapted clone, and the support loss before its first step. `support` holds images and quality."""
        clone = self.clone()
        first = None
        for _ in range(self.inner_steps if steps is None else steps):
            loss = squared_error(clone, support)
            first = loss.detach() if first is None else first
            clone.adapt(loss)
        return clone, squared_error(clone, support).detach() if first is None else first


def squared_error(model: Any, batch: Any) -> Tensor:
    device = next(model.parameters()).device
    return (model(batch.images.to(device)) - batch.quality.to(device)).square().mean()


@dataclass
class MetaObjective:
    """Query loss of one task: micro-batch `micro` of outer step `step` (with several processes, tasks[rank::world]).

    pool      synthetic.Pool or RecordPool: task(step, type, support, query) -> two batches with disjoint contents
    types     distortion types of meta-training; a meta-batch draws `tasks` of them, distinct where there are enough
    """

    pool: Any
    types: Sequence[int]
    tasks: int = 5
    support: int = 32
    query: int = 32
    seed: int = 0

    def task(self, step: int, micro: int) -> tuple[Any, Any]:
        order = np.random.default_rng((self.seed, step)).permutation(len(self.types))
        kind = self.types[order[micro % len(order)]]
        return self.pool.task(step * self.tasks + micro, int(kind), self.support, self.query)

    def __call__(self, model: MetaLearner, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        support, query = self.task(step, micro)
        adapted, before = model.inner_loop(support)
        loss = squared_error(adapted, query)
        values = {"support_loss": before, "query_loss": loss}
        if step % DROP_EVERY == 0:
            with torch.no_grad():
                values["support_drop"] = 1 - squared_error(adapted, support) / before
        return loss, values


@dataclass
class PlainObjective:
    """The same network trained without tasks: squared error on mixed types, `batch` pictures a micro-batch."""

    pool: Any
    batch: int
    tasks: int = 5

    def __call__(self, model: nn.Module, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        loss = squared_error(model, self.pool.batch(step * self.tasks + micro, self.batch))
        return loss, {}


def train(model: nn.Module, objective: MetaObjective | PlainObjective, *, steps: int, lr: float, folder: str | Path,
          workers: int = 1, **loop: Any) -> tuple[nn.Module, training.History]:
    """The outer loop: training.train with one micro-batch per task. Returns the trained model and the history."""
    if workers > 1:
        trained, history = distributed.launch(workers, train, model, objective, steps=steps, lr=lr, folder=folder,
                                              **loop)
        return trained.to(next(model.parameters()).device), history
    identity = {name: list(value) if name == "types" else value for name, value in vars(objective).items()
                if name != "pool"}
    return model, training.train(model, objective, steps=steps, lr=lr, folder=folder, accumulate=objective.tasks,
                                 identity=identity, **loop)


def equal_batch(support: int, query: int, inner_steps: int, first_order: bool) -> int:
    """Pictures of a plain micro-batch that cost as much as one task. A picture's forward and backward pass count 3;
    second order differentiates those of the support set as well, at twice their price."""
    return support * inner_steps * (1 if first_order else 3) + query


@torch.no_grad()
def estimate_statistics(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """A copy in eval mode whose BatchNorm statistics are the plain mean over `batches` of images."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # cumulative mean
    momenta = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for images in batches:
        model(images.to(next(model.parameters()).device))
    for module in momenta:
        module.momentum = 0.1
    return model.eval()


def with_statistics(meta: MetaLearner, batches: Iterable[Tensor]) -> MetaLearner:
    """The learner with its network's BatchNorm statistics estimated on `batches`; learned rates come along."""
    result = copy.deepcopy(meta)
    result.learner.module = estimate_statistics(meta.model, batches)
    return result


def adapt(meta: MetaLearner, support: Any, steps: int, statistics: str = "support",
          at: Sequence[int] | None = None) -> Iterator[tuple[int, nn.Module]]:
    """(step, network) after 0, 1, ... `steps` inner steps, in eval mode, ready to score pictures one by one.

    statistics   BatchNorm of the adapted network: of the support set (what the inner loop normalised with), or
                 those that training left (`training`). Never of the pictures to be scored: that would leak.
    at           only after these steps
    """
    learner = copy.deepcopy(meta).train()
    for step in range(steps + 1):
        if at is None or step in at:
            own = statistics == "support"
            yield step, (estimate_statistics(learner.model, [support.images]) if own else
                         _with_statistics(learner.model, meta.model))
        if step < steps:
            adapted, _ = learner.inner_loop(support, steps=1)
            with torch.no_grad():
                for weight, value in zip(learner.model.parameters(), adapted.module.parameters(), strict=True):
                    weight.copy_(value)


def _with_statistics(model: nn.Module, source: nn.Module) -> nn.Module:
    result = copy.deepcopy(model)
    for buffer, value in zip(result.buffers(), source.buffers(), strict=True):
        buffer.copy_(value)
    return result.eval()


def adaptation_curve(meta: MetaLearner, support: Any, query: Any, steps: int = 10, statistics: str = "support",
                     at: Sequence[int] | None = None) -> pd.DataFrame:
    """Scores of held-out query pictures after 0..steps inner steps: DataFrame step, rmse, srocc, support_loss.

    at    the steps to score after; default: all of them
    """
    from scipy.stats import spearmanr

    quality = query.quality.double().cpu().numpy()
    rows = []
    for step, network in adapt(meta, support, steps, statistics, at):
        with torch.no_grad():
            predicted = network(query.images.to(next(network.parameters()).device)).double().cpu().numpy()
            loss = float(squared_error(network, support))
        constant = np.ptp(predicted) < 1e-9  # ranks nothing
        srocc = 0.0 if constant else float(spearmanr(predicted, quality).statistic)
        rmse = float(np.sqrt(np.mean((predicted - quality) ** 2)))
        rows.append({"step": step, "rmse": rmse, "srocc": srocc, "support_loss": loss})
    return pd.DataFrame(rows)


def episodes(support: Any, query: Any, types: Sequence[int], shots: int, seed: int = 0) -> list[tuple[int, Any, Any]]:
    """(type, support, query) for each type: `shots` pictures of it drawn from `support`, all of it from `query`.

    support, query    synthetic.Batch of disjoint contents, for example two test sets
    """
    result = []
    for kind in types:
        rows = np.flatnonzero(support.type.cpu().numpy() == kind)
        chosen = np.random.default_rng((seed, kind, shots)).choice(rows, min(shots, len(rows)), replace=False)
        result.append((kind, support[torch.from_numpy(chosen)], query[query.type == kind]))
    return result


def adaptation_experiment(arms: Mapping[str, Sequence[MetaLearner]], support: Any, query: Any, types: Sequence[int],
                          shots: Sequence[int], steps: int = 10, statistics: str = "support",
                          at: Sequence[int] | None = None) -> pd.DataFrame:
    """Adaptation curves of every arm, network of that arm, type and number of labelled pictures, on the same pictures.

    arms       name -> networks trained from seeds 0, 1, ...; network i of every arm gets the same support pictures
    returns    arm, seed, shots, type, step, rmse, srocc, support_loss
    """
    parts = []
    for arm, networks in arms.items():
        for seed, meta in enumerate(networks):
            for n in shots:
                for kind, few, held_out in episodes(support, query, types, n, seed):
                    curve = adaptation_curve(meta, few, held_out, steps, statistics, at)
                    parts.append(curve.assign(arm=arm, seed=seed, shots=n, type=kind))
    return pd.concat(parts, ignore_index=True)


def choose_rate(meta: MetaLearner, parts: Sequence[tuple[int, Any, Any]], rates: Sequence[float], steps: int = 5,
                statistics: str = "support") -> tuple[float, pd.DataFrame]:
    """The inner rate with the least query error on validation episodes, averaged over the first, the middle and the
    last of `steps` steps: the end alone would take a rate that first overshoots."""
    rows = []
    for rate in rates:
        at = [1, (steps + 1) // 2, steps]
        curves = [adaptation_curve(with_rate(meta, rate), s, q, steps, statistics, at) for _, s, q in parts]
        rows.append({"rate": rate, "rmse": np.mean([curve["rmse"].mean() for curve in curves])})
    table = pd.DataFrame(rows)
    return float(table.loc[table["rmse"].fillna(np.inf).idxmin(), "rate"]), table


def with_rate(meta: MetaLearner, rate: float) -> MetaLearner:
    """The same network, adapted by plain gradient steps of another rate."""
    return MetaLearner(meta.model, "maml", True, rate, meta.inner_steps)
