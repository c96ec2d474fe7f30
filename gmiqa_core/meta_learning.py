"""Meta-learning over distortion types: MAML and Meta-SGD through learn2learn.

A task is one distortion type: support and query pictures of that type from disjoint contents, labelled with quality in
[0,1]. Inner loop (Finn et al. 2017), on the support set:
    phi'  = phi - a * d(grad L_support(phi))    a fixed (maml), or a learned rate per weight (meta-sgd, Li et al. 2017)
                                                d the gradient itself (sgd), or Adam's direction
Outer loop, over the tasks of a meta-batch:
    phi  <- Adam(phi, grad mean L_query(phi'))  through the inner step, or around it (first order)
L is the squared error. In both loops BatchNorm uses the statistics of the batch. No running statistics move, because an
adapted clone would pollute them. `estimate_statistics` sets them after training.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gmiqa_core import distributed, training
from gmiqa_core.batch import upload
from gmiqa_core.errors import UserError
from gmiqa_core.step import TwoPart

ALGORITHMS = ("maml", "meta-sgd")
INNER = ("sgd", "adam")
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of the inner Adam
DROP_EVERY = 5  # outer steps between two measurements of the support loss after adaptation


@functools.cache
def _learn2learn(part: str) -> Any:
    """learn2learn.algorithms or learn2learn.utils, imported late and without the package's own __init__: that would
    load gym, torchvision and pandas, for data sets and environments that nobody here uses, and take seconds."""
    if "learn2learn" in sys.modules or (spec := importlib.util.find_spec("learn2learn")) is None:
        return importlib.import_module(f"learn2learn.{part}")
    sys.modules["learn2learn"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"learn2learn.{part}")
    finally:
        del sys.modules["learn2learn"]  # whoever imports the package gets all of it


class MetaLearner(nn.Module):
    """A network and the rule that adapts it.

    model        images (n,3,H,W) -> quality (n,): network.QualityRegressor, or any module of that form
    algorithm    maml: inner rate fixed at inner_lr; meta-sgd: a learned rate per weight, starting there
    first_order  leave out the derivative of the inner gradient
    inner        sgd: step along the gradient; adam: along Adam's direction, its moments starting at zero in every task
    """

    def __init__(self, model: nn.Module, algorithm: str = "maml", first_order: bool = True, inner_lr: float = 0.01,
                 inner_steps: int = 1, inner: str = "sgd"):
        super().__init__()
        for name, value, known in (("algorithm", algorithm, ALGORITHMS), ("inner update", inner, INNER)):
            if value not in known:
                raise UserError(f"meta-learning {name} = {value!r}: expected one of {', '.join(known)}")
        algorithms = _learn2learn("algorithms")
        kind = {"maml": algorithms.MAML, "meta-sgd": algorithms.MetaSGD}[algorithm]
        self.learner = kind(model, lr=inner_lr, first_order=first_order)
        self.algorithm, self.first_order, self.inner_steps, self.inner = algorithm, first_order, inner_steps, inner

    @property
    def model(self) -> nn.Module:
        return self.learner.module

    def forward(self, images: Tensor) -> Tensor:
        return self.learner(images)

    def clone(self) -> Any:
        """A copy to adapt. Gradients flow back to this network; the copy's BatchNorm buffers are its own."""
        clone = self.learner.clone()
        for module in clone.modules():  # learn2learn shares the buffers, and a forward pass would move the originals
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        return clone

    def inner_loop(self, support: Any, steps: int | None = None) -> tuple[Any, Tensor]:
        """The adapted clone, and the support loss before its first step. `support` holds images and quality."""
        clone, moments = self.clone(), Moments()
        first = None
        for _ in range(self.inner_steps if steps is None else steps):
            loss = squared_error(clone, support)
            first = loss.detach() if first is None else first
            self.inner_step(clone, loss, moments)
        return clone, squared_error(clone, support).detach() if first is None else first

    def inner_step(self, clone: Any, loss: Tensor, moments: Moments) -> None:
        """Move the clone's weights by one step that lowers `loss`."""
        if self.inner == "sgd":
            clone.adapt(loss)
            return
        # learn2learn's adapt() knows the plain gradient only, and torch's Adam works in place, which no gradient
        # passes; so the direction is ours, and learn2learn's update_module applies it in a way that can be derived.
        weights = list(clone.module.parameters())
        gradients = torch.autograd.grad(loss, weights, create_graph=not clone.first_order)
        rates = clone.lrs if self.algorithm == "meta-sgd" else [clone.lr] * len(weights)
        updates = [-rate * d for rate, d in zip(rates, moments.direction(gradients), strict=True)]
        _learn2learn("utils").update_module(clone.module, updates)


class Moments:
    """Running moments of the gradients of one inner loop (Kingma & Ba 2015): direction = m / sqrt(v), both unbiased.
    The first direction is the gradient's sign, so first and second order hardly differ in the first step."""

    def __init__(self) -> None:
        self.step = 0
        self.mean: tuple[Tensor, ...] = ()
        self.square: tuple[Tensor, ...] = ()

    def direction(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (b1, b2), self.step = BETAS, self.step + 1
        self.mean = self.mean or tuple(torch.zeros_like(g) for g in gradients)
        self.square = self.square or tuple(torch.zeros_like(g) for g in gradients)
        multiplied, added, divided = torch._foreach_mul, torch._foreach_add, torch._foreach_div
        self.mean = added(multiplied(self.mean, b1), multiplied(gradients, 1 - b1))
        self.square = added(multiplied(self.square, b2), multiplied(torch._foreach_pow(gradients, 2), 1 - b2))
        # Epsilon stands inside the root, because the root's derivative at 0 is infinite.
        roots = torch._foreach_sqrt(added(divided(self.square, 1 - b2**self.step), EPSILON**2))
        return divided(divided(self.mean, 1 - b1**self.step), roots)


def squared_error(model: Any, batch: Any) -> Tensor:
    device = next(model.parameters()).device
    return (model(upload(batch.images, device)) - upload(batch.quality, device)).square().mean()


@dataclass
class MetaObjective(TwoPart):
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

    def inputs(self, step: int, micro: int) -> tuple[Any, Any, bool]:
        """Support, query, and whether the support loss is measured again."""
        order = np.random.default_rng((self.seed, step)).permutation(len(self.types))
        kind = self.types[order[micro % len(order)]]
        task = self.pool.task(step * self.tasks + micro, int(kind), self.support, self.query)
        return *task, step % DROP_EVERY == 0

    def outcome(self, model: MetaLearner, inputs: tuple[Any, Any, bool]) -> tuple[Tensor, dict[str, Any]]:
        support, query, measured = inputs
        adapted, before = model.inner_loop(support)
        loss = squared_error(adapted, query)
        values = {"support_loss": before, "query_loss": loss}
        if measured:
            with torch.no_grad():
                values["support_drop"] = 1 - squared_error(adapted, support) / before
        return loss, values


@dataclass
class PlainObjective(TwoPart):
    """The same network trained without tasks: squared error on mixed types, `batch` pictures a micro-batch."""

    pool: Any
    batch: int
    tasks: int = 5

    def inputs(self, step: int, micro: int) -> Any:
        return self.pool.batch(step * self.tasks + micro, self.batch)

    def outcome(self, model: nn.Module, inputs: Any) -> tuple[Tensor, dict[str, Any]]:
        return squared_error(model, inputs), {}


def train(model: nn.Module, objective: MetaObjective | PlainObjective, *, steps: int, lr: float, folder: str | Path,
          workers: int = 1, **loop: Any) -> tuple[nn.Module, training.History]:
    """The outer loop: training.train with one micro-batch per task. Returns the trained model and the history."""
    if workers > 1:
        trained, history = distributed.launch(workers, train, model, objective, steps=steps, lr=lr, folder=folder,
                                              **loop)
        return trained.to(next(model.parameters()).device), history
    identity = {name: list(value) if name == "types" else value for name, value in vars(objective).items()
                if name != "pool"} | {"pool": objective.pool.identity()}
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
    norms = {m: m.momentum for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    for images in batches:
        model(images.to(next(model.parameters()).device))
    for norm, momentum in norms.items():
        norm.momentum = momentum
    return model.eval()


def with_statistics(meta: MetaLearner, batches: Iterable[Tensor]) -> MetaLearner:
    """A copy of the learner, with BatchNorm statistics estimated on `batches`; it keeps its learned rates."""
    result = copy.deepcopy(meta)
    result.learner.module = estimate_statistics(meta.model, batches)
    return result
