"""Adapting to distortion types that no training has seen: folds, episodes, arms, rates, errors against a floor.

    rows, choices = experiment(networks, folds(held_out, 5), (parts[1], parts[2]), crop=64, shots=[5, 20])
    units = by_unit(rows)                                    # log share of each (type, seed), a column per arm
    evaluate.paired(units["maml"] - units["plain"], "rmse")

An episode is one type: a few labelled pictures (support), and pictures of other contents to score (query). Predicting
the mean of the labels needs no network, so its error is the floor: `share` is an arm's RMSE as a share of it, and only
an arm below 1 has learned something from the pictures. The floor differs sixfold between types, so shares are averaged
as logarithms: a difference of -0.05 between two arms is 5 % less error, whatever the type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmiqa.data import synthetic
from gmiqa.data.distortions import LEVELS, TYPES
from gmiqa.experiments.adaptation_arms import FLOOR as FLOOR
from gmiqa.experiments.adaptation_arms import Episode, arms, at_edge, choose, errors
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.meta_learning import MetaLearner

AT = (0, 1, 3, 5, 10)  # inner steps after which a curve is measured; the last one is judged
CONTENTS = 12  # at most so many pristine pictures to label, and as many to score
OTHERS = 3  # types on which rates are chosen
LABELS = 10  # labelled pictures of an episode on which rates are chosen


def unasked(settings: Any) -> str:
    """Why a run with these settings does not ask how networks adapt to unseen types; "" where it does."""
    if not settings.held_out:
        return "held_out is empty, so every type is trained and none is unseen"
    if not settings.meta_steps:
        return "meta_steps is 0, so nothing is trained"
    if "plain" not in settings.meta_compare:
        return "meta_compare lacks plain, so there is nothing to compare with"
    return ""


def folds(held_out: Sequence[int], count: int, seed: int = 0) -> list[list[int]]:
    """`count` disjoint sets of types to hold out: first `held_out`, if there are any, then the others, evenly and at
    random. With `count` 1 only `held_out`; with more, every type is held out once.
    """
    rest, first = np.random.default_rng(seed).permutation(but(held_out)), [sorted(held_out)] if held_out else []
    parts = np.array_split(rest, count - len(first)) if count > 1 else []
    return [*first, *(sorted(part.tolist()) for part in parts)]


def but(held_out: Sequence[int]) -> list[int]:
    """The types that a fold learns from."""
    return [t.id for t in TYPES if t.id not in held_out]


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
        rng = np.random.default_rng((seed, kind, shots))
        chosen = rows[synthetic.stratified(support.level.cpu().numpy()[rows], shots, rng)]
        result.append(Episode(kind, support[torch.from_numpy(chosen)], query[query.type == kind]))
    return result


def others(held_out: Sequence[int]) -> list[int]:
    """The types on which a fold chooses its rates: some that it does not hold out, far apart in the list."""
    known = but(held_out)
    return [known[i] for i in np.linspace(0, len(known) - 1, OTHERS).round().astype(int)]


def experiment(networks: Mapping[tuple[int, int], dict[str, MetaLearner]], held_out: Sequence[Sequence[int]],
               contents: tuple[Sequence[Any], Sequence[Any]], crop: int, shots: Sequence[int],
               device: Any = "cpu") -> tuple[pd.DataFrame, pd.DataFrame]:
    """All arms of all folds and seeds.

    networks    (fold, seed) -> arm -> network that has seen no type of held_out[fold]
    contents    two lists: contents to choose rates on and to label, and other contents to score
    returns     rows (fold, arm, seed, type, shots, step, rmse, share, srocc),
                choices (fold, arm, seed, inner, strength, edge)
    """
    rows: list[pd.DataFrame] = []
    choices: list[pd.DataFrame] = []
    for fold, types in enumerate(held_out):
        validation, test = pictures(types, contents, crop, device)
        for seed in [s for f, s in networks if f == fold]:
            parts = compared(networks[fold, seed], types, validation, test, shots, seed)
            for tables, part in zip((rows, choices), parts, strict=True):
                tables.append(part.assign(fold=fold, seed=seed))
    return pd.concat(rows, ignore_index=True), pd.concat(choices, ignore_index=True)


def pictures(held_out: Sequence[int], contents: tuple[Sequence[Any], Sequence[Any]], crop: int,
             device: Any = "cpu") -> tuple[Batch, Batch]:
    """What one fold chooses rates on and labels, and what it scores: `validation` and `test` of `compared`."""
    label, score = (list(part)[:CONTENTS] for part in contents)
    return (synthetic.test_set(label, types=[*held_out, *others(held_out)], crop=crop, device=device),
            synthetic.test_set(score, types=held_out, crop=crop, device=device))


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
            choices.append({"arm": name, "inner": arm.inner, "strength": arm.strength, "edge": at_edge(arm)})
    return pd.concat(rows, ignore_index=True), pd.DataFrame(choices)


def by_unit(rows: pd.DataFrame, metric: str = "share", step: int = AT[-1]) -> pd.DataFrame:
    """A row per (type, seed), a column per arm: the metric after `step` inner steps, averaged over numbers of labels.
    `share` is given as its logarithm, so that in the difference of two arms the floor's error cancels."""
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
