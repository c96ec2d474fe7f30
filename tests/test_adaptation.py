"""Adaptation to unseen types: strata, frozen statistics, the floor, rates, folds that hold out every type."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa.data import synthetic
from gmiqa.data.distortions import TYPES, type_id
from gmiqa.experiments import adaptation, adaptation_arms
from gmiqa.experiments.adaptation_arms import FLOOR, Arm, Episode
from gmiqa.settings import load
from gmiqa_core import network
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.meta_learning import MetaLearner

PARAMS = Path(__file__).parent.parent / "params"


def learner(algorithm="maml", inner="sgd") -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(network.QualityRegressor(network.build("tiny")), algorithm, inner_lr=1e-3, inner=inner).eval()


def pictures(types, contents, first=0, seed=0) -> Batch:
    """Every type and level of every content once: noise, brighter at better levels."""
    g = torch.Generator().manual_seed(seed)
    cells = [(t, v, c) for c in range(first, first + contents) for t in types for v in range(1, 6)]
    type, level, content = torch.tensor(cells).T
    quality = 1 - level / 6
    images = (quality.view(-1, 1, 1, 1) * 0.5 + 0.3 * torch.rand(len(cells), 3, 32, 32, generator=g)).clamp(0, 1)
    return Batch(images, quality, torch.full_like(quality, 0.1), type, level, 1 - quality, content)


def episode(shots=5, seed=0) -> Episode:
    return adaptation.episodes(pictures([2], 4), pictures([2], 3, first=4, seed=1), [2], shots, seed)[0]


@pytest.mark.parametrize("shots", [5, 7, 20])
def test_labelled_pictures_are_different_and_spread_over_the_levels(shots):
    few = episode(shots).support
    shown = set(zip(few.content.tolist(), few.level.tolist(), strict=True))
    assert len(shown) == shots
    counts = np.bincount(few.level.numpy(), minlength=6)[1:]
    assert counts.max() - counts.min() <= 1


def test_too_few_pictures_to_label_are_refused():
    with pytest.raises(UserError, match="meta_shots"):
        episode(21)


def test_every_seed_labels_other_pictures_and_every_arm_the_same():
    assert torch.equal(episode(seed=1).support.images, episode(seed=1).support.images)
    assert not torch.equal(episode(seed=1).support.images, episode(seed=2).support.images)


def test_folds_hold_out_every_type_once_and_the_first_one_held_out():
    held_out = [type_id(name) for name in ("jpeg", "lens_blur", "white_noise")]
    parts = adaptation.folds(held_out, 5, seed=3)
    assert parts[0] == sorted(held_out) and adaptation.folds(held_out, 1) == [sorted(held_out)]
    assert sorted(t for part in parts for t in part) == [t.id for t in TYPES]
    assert max(map(len, parts[1:])) - min(map(len, parts[1:])) <= 1


def test_rates_are_chosen_on_types_that_the_fold_does_not_hold_out():
    for part in adaptation.folds([10], 5):
        assert not set(adaptation.others(part)) & set(part)
        assert not set(adaptation.but(part)) & set(part)


@pytest.mark.parametrize("inner", ["sgd", "adam"])
def test_adaptation_lowers_the_support_loss_and_leaves_statistics_and_network_alone(inner):
    meta = learner(inner=inner)
    start = {name: value.clone() for name, value in meta.state_dict().items()}
    support = episode().support
    losses = []
    for _, adapted in adaptation_arms.adapt(meta, support, [0, 4]):
        losses.append((adapted(support.images) - support.quality).square().mean().item())
        buffers = dict(adapted.module.named_buffers())
        assert all(torch.equal(b, buffers[name]) for name, b in meta.model.named_buffers())
    assert losses[1] < losses[0]
    assert all(torch.equal(value, meta.state_dict()[name]) for name, value in start.items())


def test_queries_are_scored_one_by_one():
    one = episode()
    alone = Episode(one.type, one.support, one.query[3:4])
    arm = Arm(learner(), strength=1e-3)
    for (_, together), (_, single) in zip(arm.scores(one, [0, 2]), arm.scores(alone, [0, 2]), strict=True):
        torch.testing.assert_close(together[3:4], single, rtol=1e-4, atol=1e-5)


def test_a_strength_of_zero_changes_nothing():
    table = adaptation_arms.errors(Arm(learner(), strength=0.0), episode(), [0, 3])
    assert table["rmse"].nunique() == 1


def test_the_floor_is_the_mean_of_the_labels_and_has_a_share_of_one():
    arm = adaptation_arms.arms({"plain": learner()})[FLOOR]
    one = episode(7)
    [(_, predicted)] = arm.scores(one, [0])
    torch.testing.assert_close(predicted.float(), one.support.quality.mean().expand(len(predicted)))
    assert adaptation_arms.errors(arm, one, [0])["share"].tolist() == pytest.approx([1.0])


def test_ridge_equals_the_normal_equations_and_ends_at_the_mean():
    g = torch.Generator().manual_seed(0)
    X, Q, y = (torch.rand(*shape, generator=g, dtype=torch.float64) for shape in ((8, 3), (5, 3), (8,)))
    C = X - X.mean(0)
    penalty = 0.1 * (C @ C.T).diagonal().mean()
    w = torch.linalg.solve(C.T @ C + penalty * torch.eye(3, dtype=torch.float64), C.T @ (y - y.mean()))
    torch.testing.assert_close(adaptation_arms.ridge(X, y, Q, 0.1), y.mean() + (Q - X.mean(0)) @ w)
    torch.testing.assert_close(adaptation_arms.ridge(X, y, Q, 1e12), y.mean().expand(5))


def test_the_head_alone_moves_no_feature():
    arm = adaptation_arms.arms({"plain": learner()})["plain, head alone"]
    whole = Arm(learner(), strength=1e-3)
    one = episode()
    head = dict(Arm(arm.network, arm.features, strength=1e-3).scores(one, [0, 2]))
    torch.testing.assert_close(head[0], dict(whole.scores(one, [0]))[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(head[0], head[2])


def test_the_strength_with_the_least_error_is_chosen_and_the_grids_edge_is_told():
    trials = [episode(), episode(seed=1)]
    arm, table = adaptation_arms.choose(Arm(learner(), grid={"sgd": (0.0, 1e-3, 1e-2), "adam": (1e-3,)}), trials, 3)
    best = table.loc[table["share"].idxmin()]
    assert (arm.inner, arm.strength) == (best["inner"], best["strength"])
    assert adaptation_arms.at_edge(Arm(None, grid={"sgd": (1, 2, 3)}, strength=3))
    assert not adaptation_arms.at_edge(Arm(None, grid={"sgd": (1, 2, 3)}, strength=2))


def test_a_rate_that_diverges_is_not_chosen():
    arm, _ = adaptation_arms.choose(Arm(learner(), grid={"sgd": (1e-3, 1e6, 1e7)}), [episode()], 5)
    assert arm.strength == 1e-3


@pytest.mark.parametrize("least", range(7))
def test_the_walk_finds_the_least_error_where_it_rises_on_both_sides(least):
    met = dict(adaptation_arms.downhill(lambda x: float("inf") if x > least + 2 else abs(x - least), range(7)))
    assert min(met, key=met.get) == least and len(met) <= 6


def test_meta_sgd_keeps_its_rates():
    networks = {"meta-sgd": learner("meta-sgd"), "plain": learner()}
    arm = adaptation_arms.arms(networks)["meta-sgd"]
    chosen, table = adaptation_arms.choose(arm, [episode()], 2)
    assert chosen is arm and table.empty and not adaptation_arms.at_edge(arm)
    assert len(adaptation_arms.errors(arm, episode(), [0, 1])) == 2


def test_all_arms_meet_the_same_episodes_and_units_are_pairs_of_type_and_seed(monkeypatch):
    monkeypatch.setattr(adaptation_arms, "RATES", {"sgd": (1e-3, 1e-2)})
    held_out = [2, 10]
    types = [*held_out, *adaptation.others(held_out)]
    made = iter([pictures(types, 4), pictures(held_out, 3, first=4, seed=1)])
    monkeypatch.setattr(synthetic, "test_set", lambda *_, **__: next(made))
    networks = {(0, seed): {"maml": learner(), "plain": learner()} for seed in (0, 1)}
    rows, choices = adaptation.experiment(networks, [held_out], ([], []), 32, [5, 10])
    assert len(rows) == 2 * 5 * 2 * 2 * len(adaptation.AT)  # seeds, arms, numbers of labels, types, steps
    units = adaptation.by_unit(rows)
    assert units.index.tolist() == [(2, 0), (2, 1), (10, 0), (10, 1)]
    pd.testing.assert_series_equal(units["maml"], units["plain"], check_names=False)  # the same network twice
    assert units[FLOOR].abs().max() == pytest.approx(0, abs=1e-6)
    assert set(choices["arm"]) == {"maml", "plain", "plain, head alone", "plain, ridge"}
    assert (adaptation.summary(rows).loc[FLOOR, "share after"] - 1).abs().max() < 1e-6


@pytest.mark.parametrize("preset", sorted(path.stem for path in PARAMS.glob("*.yaml")))
def test_a_preset_asks_about_unseen_types_only_where_some_are(preset):
    settings = load(PARAMS / f"{preset}.yaml")
    assert bool(adaptation.unasked(settings)) == (not settings.held_out or not settings.meta_steps)


def test_without_unseen_types_training_or_a_rival_nothing_is_asked():
    asked = {"held_out": ["jpeg"], "meta_steps": 1, "meta_compare": ["plain"]}
    assert adaptation.unasked(SimpleNamespace(**asked)) == ""
    for name, value in (("held_out", []), ("meta_steps", 0), ("meta_compare", ["meta-sgd"])):
        assert name in adaptation.unasked(SimpleNamespace(**{**asked, name: value}))
