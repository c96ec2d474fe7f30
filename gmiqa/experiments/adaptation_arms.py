"""The arms of the adaptation experiment: ways to turn a few labelled pictures into a scorer.

Gradient arms take the learner's own inner steps; ridge regression and the label mean have a closed form. BatchNorm is
frozen throughout: statistics of five pictures say more about the pictures than about the network, and those of the
query would leak.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gmiqa_core.batch import Batch
from gmiqa_core.meta_learning import MetaLearner, Moments, squared_error

RATES = {  # inner rates to choose from; by Adam every weight moves by about its rate, whatever the gradient
    "sgd": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    "adam": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)  # of ridge regression, in units of the features' variance
FLOOR = "label mean"


@dataclass(frozen=True)
class Episode:
    """One type: pictures whose labels an arm may use, and pictures of other contents that it must score."""

    type: int
    support: Batch
    query: Batch


@dataclass(frozen=True)
class Arm:
    """A way to turn labelled pictures into a scorer.

    network     whose weights adapt, in eval mode (`meta_learning.with_statistics`); None: `features` decide alone
    features    images -> what `network` or ridge regression sees; the images themselves where all weights adapt
    grid        inner update -> rates to choose from; ridge regression: penalties; empty: nothing to choose
    inner, strength    the ones chosen
    """

    network: MetaLearner | None
    features: Callable[[Tensor], Tensor] = lambda images: images
    grid: Mapping[str, Sequence[float]] = field(default_factory=dict)
    inner: str = "sgd"
    strength: float | None = None

    def scores(self, episode: Episode, at: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """(step, scores of the query) after each of the inner steps `at`; what has no steps gives the same for all."""
        support, query = (self.seen(batch) for batch in (episode.support, episode.query))
        if self.network is None:
            predicted = ridge(support.images, support.quality, query.images, self.strength or 1.0)
            yield from ((step, predicted) for step in at)
            return
        network = self.network
        if self.strength is not None:
            network = with_rate(network, self.inner, self.strength)
        for step, adapted in adapt(network, support, at):
            with torch.no_grad():
                predicted = adapted(query.images)
            yield step, predicted

    def seen(self, batch: Batch) -> Batch:
        with torch.no_grad():
            return replace(batch, images=self.features(batch.images))


def arms(networks: dict[str, MetaLearner]) -> dict[str, Arm]:
    """The arms of one seed: every network adapted whole; of the plain one also the head alone, and ridge regression on
    its features; and the floor. `networks` have frozen statistics and hold `plain`. A meta-trained network keeps the
    inner update that it learned with (meta-sgd its rates too); the plain one takes either."""
    result = {name: Arm(meta, grid=RATES if name == "plain" else {meta.inner: RATES[meta.inner]})
              for name, meta in networks.items()}
    for name in [name for name, meta in networks.items() if meta.algorithm == "meta-sgd"]:
        result[name] = Arm(networks[name])
    body: Any = copy.deepcopy(networks["plain"].model)
    head: Any = nn.Sequential(body.head, nn.Flatten(0))
    body.head = nn.Identity()
    result["plain, head alone"] = Arm(MetaLearner(head), body, RATES)
    result["plain, ridge"] = Arm(None, body, {"ridge": PENALTIES})
    result[FLOOR] = Arm(None, lambda images: images.new_zeros(len(images), 1), strength=1.0)
    return result


def adapt(meta: MetaLearner, support: Batch, at: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """(step, network) after each of the inner steps `at`, by the learner's own inner step. Statistics stay frozen."""
    clone, moments = meta.clone(), Moments()
    clone.first_order = True  # nothing is derived through these steps
    for step in range(max(at) + 1):
        if step in at:
            yield step, clone
        if step < max(at):
            meta.inner_step(clone, squared_error(clone, support), moments)


def with_rate(meta: MetaLearner, inner: str, rate: float) -> MetaLearner:
    """The same network, adapted by inner steps of one rate for all weights."""
    return MetaLearner(meta.model, "maml", True, rate, meta.inner_steps, inner).train(meta.model.training)


def ridge(support: Tensor, quality: Tensor, query: Tensor, penalty: float) -> Tensor:
    """Ridge regression in closed form: w = X'(X X' + penalty n s I)^-1 (y - mean y), X centred, s its mean square."""
    mean, level = support.double().mean(0), quality.double().mean()
    X = support.double() - mean
    gram = X @ X.T
    scale = penalty * gram.diagonal().mean().clamp_min(1e-12)
    weights = torch.linalg.solve(gram + scale * torch.eye(len(X), dtype=X.dtype, device=X.device),
                                 quality.double() - level)
    return level + (query.double() - mean) @ (X.T @ weights)


def errors(arm: Arm, episode: Episode, at: Sequence[int]) -> pd.DataFrame:
    """step, rmse, share (of the label mean's RMSE) and srocc of the query's scores."""
    from scipy.stats import spearmanr

    quality = episode.query.quality.double().cpu()
    floor = float((episode.support.quality.double().cpu().mean() - quality).square().mean().sqrt())
    rows = []
    for step, predicted in arm.scores(episode, at):
        predicted = predicted.double().cpu()
        rmse = float((predicted - quality).square().mean().sqrt())
        constant = not torch.isfinite(predicted).all() or float(np.ptp(predicted.numpy())) < 1e-9  # ranks nothing
        srocc = 0.0 if constant else float(spearmanr(predicted.numpy(), quality.numpy()).statistic)
        rows.append({"step": step, "rmse": rmse, "share": rmse / floor, "srocc": srocc})
    return pd.DataFrame(rows)


def choose(arm: Arm, trials: Sequence[Episode], step: int) -> tuple[Arm, pd.DataFrame]:
    """The arm with the strength of its grid whose error after `step` steps is least over `trials`, episodes of types
    that are not tested; and the table inner, strength, share (geometric mean) of what was tried."""
    def share(inner: str, strength: float) -> float:
        tried = replace(arm, inner=inner, strength=strength)
        shares = np.concatenate([errors(tried, episode, [step])["share"] for episode in trials])
        return float(np.nan_to_num(np.exp(np.log(shares).mean()), nan=np.inf))  # nan: it diverged

    lines = [{"inner": inner, "strength": strength, "share": value} for inner, strengths in arm.grid.items()
             for strength, value in downhill(partial(share, inner), sorted(strengths))]
    table = pd.DataFrame(lines, columns=["inner", "strength", "share"])
    if not arm.grid:
        return arm, table
    best = table.loc[table["share"].idxmin()]
    return replace(arm, inner=str(best["inner"]), strength=float(best["strength"])), table


def downhill(error: Callable[[float], float], grid: Sequence[float]) -> list[tuple[float, float]]:
    """(value, error) of those values of the sorted grid that a walk from its middle meets until the error rises."""
    best = len(grid) // 2
    known = {best: error(grid[best])}
    for way in (-1, 1):
        while 0 <= best + way < len(grid):
            if best + way not in known:
                known[best + way] = error(grid[best + way])
            if known[best + way] > known[best]:
                break
            best += way
    return [(grid[place], known[place]) for place in sorted(known)]


def at_edge(arm: Arm) -> bool:
    """Whether the choice lies at an end of the grid, so that a wider one might serve better."""
    return bool(arm.grid) and arm.strength in (min(arm.grid[arm.inner]), max(arm.grid[arm.inner]))
