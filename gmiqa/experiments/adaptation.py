"""Adapting to distortion types that no training has seen: folds, episodes, arms, rates, errors against a floor.

    rows, choices = experiment(networks, folds(held_out, 5), (parts[1], parts[2]), crop=64, shots=[5, 20])
    units = by_unit(rows)                                    # log share of each (type, seed), a column per arm
    evaluate.paired(units["maml"] - units["plain"], "rmse")

An episode is one type: a few labelled pictures (support), and pictures of other contents to score (query). Predicting
the mean of the labels needs no network, so its error is the floor: `share` is an arm's RMSE as a share of it, and only
an arm below 1 has learned something from the pictures. The floor differs sixfold between types, so shares are averaged
as logarithms: a difference of -0.05 between two arms is 5 % less error, whatever the type. BatchNorm is frozen:
statistics of five pictures say more about the pictures than about the network, and those of the query would leak.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gmiqa.data import synthetic
from gmiqa.data.distortions import LEVELS, TYPES
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.meta_learning import MetaLearner, Moments, squared_error

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)  # inner rates to choose from
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)  # of ridge regression, in units of the features' variance
FLOOR = "label mean"
AT = (0, 1, 3, 5, 10)  # inner steps after which a curve is measured; the last one is what is judged
SEEDS = 3  # fewer decide nothing
CONTENTS = 12  # pristine pictures at most to label, and as many to score
OTHERS = 3  # types on which rates are chosen
LABELS = 10  # labelled pictures of an episode on which rates are chosen


@dataclass(frozen=True)
class Episode:
    """One type: pictures whose labels an arm may use, and pictures of other contents that it must score."""

    type: int
    support: Batch
    query: Batch


def unasked(settings: Any) -> str:
    """Why a run with these settings does not ask how networks adapt to unseen types; "" where it does."""
    if not settings.held_out:
        return "held_out is empty, so every type is trained and none is unseen"
    if not settings.meta_steps:
        return "meta_steps is 0, so nothing is trained"
    if not settings.meta_compare:
        return "meta_compare is empty, so nothing is trained to compare with"
    return ""


def folds(held_out: Sequence[int], count: int, seed: int = 0) -> list[list[int]]:
    """`count` disjoint sets of types to hold out: first `held_out`, then the others, evenly and at random.

    With `count` 1 only `held_out`; with more, every type is held out once.
    """
    rest = np.random.default_rng(seed).permutation(but(held_out))
    parts = np.array_split(rest, count - 1) if count > 1 else []
    return [sorted(held_out), *(sorted(part.tolist()) for part in parts)]


def but(held_out: Sequence[int]) -> list[int]:
    """The types that a fold learns from."""
    return [t.id for t in TYPES if t.id not in held_out]


def stratified(levels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of n different pictures, every level as often as any other where there are enough; random beyond that."""
    order = rng.permutation(len(levels))
    turn = np.empty(len(levels), int)  # how many pictures of its level come before it
    for level in np.unique(levels):
        members = order[levels[order] == level]
        turn[members] = np.arange(len(members))
    return order[np.argsort(turn[order], kind="stable")][:n]


def episodes(support: Batch, query: Batch, types: Sequence[int], shots: int, seed: int = 0) -> list[Episode]:
    """One episode a type: `shots` different pictures of it, spread over the levels, from `support`; all from `query`.

    support, query    pictures of disjoint contents, each picture once (`synthetic.test_set`)
    """
    result = []
    for kind in types:
        rows = np.flatnonzero(support.type.cpu().numpy() == kind)
        if len(rows) < shots:
            raise UserError(f"type {kind} has {len(rows)} pictures to label, {shots} are asked for: lower meta_shots, "
                            "or give data more contents.")
        chosen = rows[stratified(support.level.cpu().numpy()[rows], shots, np.random.default_rng((seed, kind, shots)))]
        result.append(Episode(kind, support[torch.from_numpy(chosen)], query[query.type == kind]))
    return result


@dataclass(frozen=True)
class Arm:
    """A way to turn labelled pictures into a scorer.

    network     whose weights adapt, in eval mode (`meta_learning.with_statistics`); None: `features` decide alone
    features    images -> what `network` or ridge regression sees; the images themselves where all weights adapt
    grid        strengths to choose from: inner rates, or penalties of ridge regression; empty: nothing to choose
    strength    the one chosen
    """

    network: MetaLearner | None
    features: Callable[[Tensor], Tensor] = lambda images: images
    grid: Sequence[float] = ()
    strength: float | None = None

    def scores(self, episode: Episode, at: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """(step, scores of the query) after each of the inner steps `at`; what has no steps gives the same for all."""
        support, query = (self.seen(batch) for batch in (episode.support, episode.query))
        if self.network is None:
            predicted = ridge(support.images, support.quality, query.images, self.strength)
            yield from ((step, predicted) for step in at)
            return
        network = self.network if self.strength is None else with_rate(self.network, self.strength)
        for step, adapted in adapt(network, support, at):
            with torch.no_grad():
                yield step, adapted(query.images)

    def seen(self, batch: Batch) -> Batch:
        with torch.no_grad():
            return replace(batch, images=self.features(batch.images))


def arms(networks: dict[str, MetaLearner]) -> dict[str, Arm]:
    """The arms of one seed: every network adapted whole; of the plain one also the head alone, and ridge regression on
    its features; and the floor. `networks` have frozen statistics and hold `plain`; meta-sgd keeps its own rates."""
    result = {name: Arm(meta, grid=() if meta.algorithm == "meta-sgd" else RATES) for name, meta in networks.items()}
    body = copy.deepcopy(networks["plain"].model)
    head, body.head = body.head, nn.Identity()
    result["plain, head alone"] = Arm(MetaLearner(nn.Sequential(head, nn.Flatten(0))), body, RATES)
    result["plain, ridge"] = Arm(None, body, PENALTIES)
    result[FLOOR] = Arm(None, lambda images: images.new_zeros(len(images), 1), strength=1.0)
    return result


def adapt(meta: MetaLearner, support: Batch, at: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """(step, network) after each of the inner steps `at`, by the learner's own inner step. Statistics stay frozen."""
    clone, moments = meta.clone(), Moments()
    for step in range(max(at) + 1):
        if step in at:
            yield step, clone
        if step < max(at):
            meta.inner_step(clone, squared_error(clone, support), moments)


def with_rate(meta: MetaLearner, rate: float) -> MetaLearner:
    """The same network, adapted by inner steps of one rate for all weights."""
    return MetaLearner(meta.model, "maml", True, rate, meta.inner_steps, meta.inner).train(meta.model.training)


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
    that are not tested; and the table strength, share. Shares are averaged as logarithms, so that a type whose labels
    hardly differ does not decide alone; a strength that diverges is never chosen."""
    if not arm.grid:
        return arm, pd.DataFrame(columns=["strength", "share"])
    table = pd.DataFrame([
        {"strength": s, "share": np.exp(np.mean([np.log(errors(replace(arm, strength=s), e, [step])["share"])
                                                 for e in trials]))}
        for s in arm.grid
    ])
    best = table["share"].fillna(np.inf).idxmin()
    return replace(arm, strength=float(table.loc[best, "strength"])), table


def at_edge(arm: Arm) -> bool:
    """Whether the choice lies at an end of the grid, so that a wider one might serve better."""
    return bool(arm.grid) and arm.strength in (min(arm.grid), max(arm.grid))


def others(held_out: Sequence[int]) -> list[int]:
    """The types on which a fold chooses its rates: some that it does not hold out, far apart in the list."""
    known = but(held_out)
    return [known[i] for i in np.linspace(0, len(known) - 1, OTHERS).round().astype(int)]


def experiment(networks: Mapping[tuple[int, int], dict[str, MetaLearner]], held_out: Sequence[Sequence[int]],
               contents: tuple[Sequence[Any], Sequence[Any]], crop: int, shots: Sequence[int],
               device: Any = "cpu") -> tuple[pd.DataFrame, pd.DataFrame]:
    """All arms of all folds and seeds.

    networks    (fold, seed) -> arm -> network that has seen no type of held_out[fold]
    contents    to choose rates on and to label; and others, to score
    returns     rows (fold, arm, seed, type, shots, step, rmse, share, srocc), choices (fold, arm, seed, strength, edge)
    """
    label, score = (list(part)[:CONTENTS] for part in contents)
    rows, choices = [], []
    for fold, types in enumerate(held_out):
        validation = synthetic.test_set(label, types=[*types, *others(types)], crop=crop, device=device)
        test = synthetic.test_set(score, types=types, crop=crop, device=device)
        for seed in [s for f, s in networks if f == fold]:
            parts = compared(networks[fold, seed], types, validation, test, shots, seed)
            for tables, part in zip((rows, choices), parts, strict=True):
                tables.append(part.assign(fold=fold, seed=seed))
    return pd.concat(rows, ignore_index=True), pd.concat(choices, ignore_index=True)


def compared(networks: dict[str, MetaLearner], held_out: Sequence[int], validation: Batch, test: Batch,
             shots: Sequence[int], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One seed of a fold: every arm takes its best strength on other types, then meets the same episodes as the rest.

    networks      name -> network, statistics frozen; `plain` is among them
    validation    pictures to choose on and to label; `test`: pictures of other contents, to score
    """
    contents = validation.content.unique()
    inside = torch.isin(validation.content, contents[: len(contents) // 2])
    labels = min(LABELS, len(LEVELS) * (len(contents) // 2))
    trials = episodes(validation[inside], validation[~inside], others(held_out), labels, seed)
    tests = [(n, episode) for n in shots for episode in episodes(validation, test, held_out, n, seed)]
    rows, choices = [], []
    for name, candidate in arms(networks).items():
        arm, _ = choose(candidate, trials, AT[-1])
        rows += [errors(arm, episode, AT).assign(arm=name, type=episode.type, shots=n) for n, episode in tests]
        if arm.grid:
            choices.append({"arm": name, "strength": arm.strength, "edge": at_edge(arm)})
    return pd.concat(rows, ignore_index=True), pd.DataFrame(choices)


def by_unit(rows: pd.DataFrame, metric: str = "share", step: int = AT[-1]) -> pd.DataFrame:
    """A row per (type, seed), a column per arm: the metric after `step` inner steps, mean over numbers of labels; of
    `share` its logarithm, so that the difference of two arms is that of their errors, the floor's left out."""
    chosen = rows[rows["step"] == step]
    values = np.log(chosen["share"]) if metric == "share" else chosen[metric]
    return chosen.assign(value=values).pivot_table(index=["type", "seed"], columns="arm", values="value")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Arm, shots -> share (geometric mean) and srocc before and after the last inner step, over types and seeds."""
    table = {}
    for (arm, shots), part in rows.groupby(["arm", "shots"], sort=False):
        line: dict[str, float] = {}
        for step, word in ((AT[0], "before"), (AT[-1], "after")):
            at = part[part["step"] == step]
            line |= {f"share {word}": float(np.exp(np.log(at["share"]).mean())), f"srocc {word}": at["srocc"].mean()}
        table[arm, shots] = line
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["arm", "shots"])
