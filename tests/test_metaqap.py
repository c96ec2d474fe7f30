"""MetaQAP: properties of the loss, of the stack, and that training does what it says."""

import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks import _metaqap_tables
from benchmarks import metaqap as benchmark
from gmiqa import base_networks as metaqap
from gmiqa.data import synthetic
from gmiqa.data.pictures import Pictures
from gmiqa.experiments import folds, stacking
from gmiqa.experiments import metaqap as experiments
from gmiqa.experiments.backbones import base_network
from gmiqa_core import losses, network
from gmiqa_core.errors import UserError


def scores(n: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    return x, x + torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("ties", [False, True])
def test_soft_spearman_meets_scipy_as_the_temperature_falls(ties):
    x, y = scores()
    if ties:
        x, y = (x * 2).round(), (y * 2).round()
    assert float(losses.soft_spearman(x, y, 1e-9)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


def test_soft_ranks_lie_between_one_and_n_and_sum_like_ranks():
    x, _ = scores()
    ranks = losses.soft_ranks(x, 0.3)
    assert ranks.min() > 0.9 and ranks.max() < len(x) + 0.1
    assert float(ranks.sum()) == pytest.approx(len(x) * (len(x) + 1) / 2)


def test_gradients_of_the_loss_are_right():
    x, y = scores(8)
    assert torch.autograd.gradcheck(lambda p: losses.quality_aware_loss(p, y), x.clone().requires_grad_())


def test_rank_part_ignores_a_shift():
    x, y = scores()
    rank = dict(mse_weight=0.0, rank_weight=1.0)
    shifted = losses.quality_aware_loss(x + 3, y, **rank)
    assert float(shifted) == pytest.approx(float(losses.quality_aware_loss(x, y, **rank)), abs=1e-9)


def test_constant_prediction_gives_a_finite_loss_and_gradient():
    p = torch.zeros(10, requires_grad=True)
    loss = losses.quality_aware_loss(p, torch.arange(10.0))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(p.grad).all()


def test_loss_does_not_depend_on_the_unit_of_the_scores():
    x, y = scores()
    one = losses.quality_aware_loss(x, y, scale=1.0)
    assert float(losses.quality_aware_loss(100 * x, 100 * y, scale=100.0)) == pytest.approx(float(one))


def planted(n: int = 200, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    columns = {"good": y + 0.5 * rng.normal(size=n), "other": y + 0.7 * rng.normal(size=n), "noise": rng.normal(size=n)}
    return pd.DataFrame(columns), y


def test_stack_keeps_what_helps_and_drops_noise():
    table, y = planted()
    stack = stacking.Stack().fit(table, y)
    assert set(stack.members_) == {"good", "other"}
    error = {name: ((table[name] - y) ** 2).mean() for name in table}
    fresh, truth = planted(seed=1)
    assert ((stack.predict(fresh) - truth) ** 2).mean() < min(error.values())


def test_stack_drops_members_of_small_weight():
    table, y = planted(5000)
    table["copy"] = table["good"] + 3 * np.random.default_rng(2).normal(size=len(y))
    assert "copy" not in stacking.Stack(drop=0.05).fit(table, y).members_


def test_the_best_member_enters_first_where_every_p_value_is_zero():
    table, y = planted(5000)
    stack = stacking.Stack().fit(table[["noise", "other", "good"]], y)
    assert stack.path_["member"].tolist()[:2] == ["good", "other"]


def test_stack_is_a_scikit_learn_estimator():
    from sklearn.base import clone, is_regressor
    from sklearn.model_selection import cross_val_score

    table, y = planted()
    assert clone(stacking.Stack(drop=0.1)).get_params()["drop"] == 0.1 and is_regressor(stacking.Stack())
    assert cross_val_score(stacking.Stack(), table.to_numpy(), y).min() > 0.5


def test_stack_names_a_member_with_nan():
    table, y = planted()
    table.loc[3, "noise"] = np.nan
    with pytest.raises(UserError, match="noise"):
        stacking.Stack().fit(table, y)


def numbered(n: int) -> Pictures:
    """n pictures of one pixel, told apart by their quality."""
    return Pictures([torch.zeros(3, 1, 1, dtype=torch.uint8)] * n, torch.arange(float(n)), torch.zeros(n))


def test_out_of_fold_never_predicts_what_it_was_fitted_on_and_divides_no_group():
    groups = np.repeat(np.arange(10), 3)

    def fit(pictures, tag):
        seen = {int(row) // 3 for row in pictures.quality}
        return lambda wanted: np.array([float(int(row) // 3 in seen) for row in wanted.quality])

    result = folds.out_of_fold([folds.Member("spy", fit)], numbered(30), 3, groups)
    assert (result.table["spy"] == 0).all()  # its own group was never in the fit
    assert (result.in_sample["spy"] == 1).all()
    np.testing.assert_allclose(result.predict(numbered(30))["spy"], 2 / 3)  # each was seen by two models of three


def test_a_member_that_fails_is_named_and_loses_nothing():
    def broken(pictures, tag):
        raise UserError("weights are not at hand")

    def not_a_number(pictures, tag):
        return lambda wanted: np.full(len(wanted), np.nan)

    good = folds.Member("good", lambda pictures, tag: lambda wanted: wanted.quality.numpy())
    bad = [folds.Member("broken", broken), folds.Member("nan", not_a_number)]
    result = folds.out_of_fold([*bad, good], numbered(9))
    assert list(result.table) == ["good"] and set(result.failed) == {"broken", "nan"}
    assert result.failed["broken"] == "weights are not at hand"
    with pytest.raises(UserError, match="weights are not at hand"):
        folds.out_of_fold(bad, numbered(9))


def test_too_few_groups_for_the_folds_are_refused():
    with pytest.raises(UserError, match="5 folds"):
        folds.out_of_fold([], numbered(6), 5, [0, 0, 1, 1, 2, 2])


def bright(n: int = 24) -> Pictures:
    """Grey pictures whose score is their brightness."""
    brightness = torch.linspace(0.1, 0.9, n)
    return Pictures([torch.full((3, 32, 32), int(255 * b), dtype=torch.uint8) for b in brightness], brightness,
                    torch.zeros(n))


def test_all_starts_names_a_backbone_that_cannot_be_had(tmp_path):
    noise = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    contents = [synthetic.Reference(f"noise {k}", "generated", image) for k, image in enumerate(noise)]
    pool = synthetic.Pool(contents, crop=32, per_cell=1, draws=4, types=[1, 2], whole=(64, 64), background=False)
    begun, missing = experiments.all_starts(["smal", "small"], pool, [0, 1], steps=1, folder=tmp_path, batch=4, lr=1e-3)
    assert list(begun) == ["small"] and set(missing) == {"smal", "small from ImageNet"}
    assert len(begun["small"]["quality-aware"]) == 2
    before, after = (begun["small"][start][0].quality.weight for start in ("random", "quality-aware"))
    assert not torch.equal(before, after)


def test_a_finished_training_is_kept_but_not_for_another_loss(tmp_path, capsys):
    start, pictures = base_network("small"), bright()
    recipe = experiments.Recipe(tmp_path, 2, 8, 0, 1e-3)
    one = recipe.tuned(start, pictures, "small")
    capsys.readouterr()
    again = recipe.tuned(start, pictures, "small")
    assert "continues" in capsys.readouterr().out
    assert torch.equal(one.quality.weight, again.quality.weight)
    replace(recipe, weights=(1.0, 0.0)).tuned(start, pictures, "small")
    assert "starting anew" in capsys.readouterr().out


def test_imagenet_weights_are_never_downloaded_in_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="mobilenet_v3_small.*not there"):
        base_network("mobilenet_v3", "imagenet")


def test_unknown_base_network_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="resnet50"):
        base_network("resnet5")


def test_a_network_of_timm_needs_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        base_network("timm:nasnetalarge")


@pytest.mark.parametrize("name", ["small", "lite0", "mobilenet_v3", "resnet50", "densenet201"])
def test_networks_read_maps_of_every_resolution_and_score_any_size(name):
    model = base_network(name).eval()
    strides = {64 // maps.shape[2] for maps in model.trunk(torch.zeros(1, 3, 64, 96))}
    assert strides >= {4, 8, 16, 32}
    assert model(torch.rand(2, 3, 70, 90)).shape == (2,)


def test_quality_and_its_mirror_image_are_one():
    model, picture = base_network("small").eval(), torch.randint(0, 255, (3, 40, 48), dtype=torch.uint8)
    picture_and_mirror = metaqap.predict(model, [picture, picture.flip(2)])
    assert picture_and_mirror[0] == pytest.approx(picture_and_mirror[1], abs=1e-6)


def test_the_head_learns_faster_than_the_backbone_and_nothing_is_left_out():
    model = base_network("small")
    trunk, head = model.groups(1e-3)
    assert head["lr"] == 5 * trunk["lr"]
    assert len(trunk["params"]) + len(head["params"]) == len(list(model.parameters()))


def test_gmiqa_is_fitted_anew_on_every_fold(tmp_path):
    torch.manual_seed(0)
    recipe, start = experiments.Recipe(tmp_path, 0, 8, 0, 1e-3, epochs=2), network.build("tiny")
    before = {name: value.clone() for name, value in start.state_dict().items()}
    result = folds.out_of_fold([recipe.gmiqa_member("GMIQA", start)], bright(), 2)
    assert result.table["GMIQA"].nunique() > 20 and not result.failed
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["GMIQA_fold_0", "GMIQA_fold_1"]


def test_a_member_without_time_is_left_out(tmp_path):
    recipe = experiments.Recipe(tmp_path, 0, 8, 0, 1e-3, epochs=20, deadline=time.monotonic())
    constant = folds.Member("constant", lambda pictures, tag: lambda wanted: wanted.quality.numpy())
    result = folds.out_of_fold([recipe.member("small", base_network("small")), constant], bright(), 2)
    assert list(result.table) == ["constant"] and "no time left at step 10 of 20" in result.failed["small"]


def test_finetuning_standardises_on_its_pictures_and_learns(tmp_path):
    torch.manual_seed(0)
    data, model = bright(), base_network("small")
    metaqap.finetune(model, data, steps=40, folder=tmp_path, batch=12, lr=3e-3, report=lambda *a: None)
    assert float(model.centre) == pytest.approx(0.5, abs=1e-4)
    assert spearmanr(metaqap.predict(model, data.pictures), data.quality).statistic > 0.8


def test_predictions_do_not_depend_on_batch_mates():
    model = base_network("small").eval()
    pictures = [torch.randint(0, 255, (3, 40, 40 + 8 * (k % 2)), dtype=torch.uint8) for k in range(5)]
    together = metaqap.predict(model, pictures)
    np.testing.assert_allclose(together, [metaqap.predict(model, [p])[0] for p in pictures], atol=1e-5)


def test_comparisons_follow_their_member_and_members_with_a_gap_are_left_out():
    assert benchmark.in_order(["b", "a"], ["a/mse", "b/random", "c"]) == ["b", "b/random", "a", "a/mse", "c"]
    pictures = replace(bright(3), facts=pd.DataFrame({"id": ["z", "y", "x"]}))
    long = pd.DataFrame({"part": "test", "id": ["x", "y", "z", "x", "y"], "member": ["a", "a", "a", "b", "b"],
                         "prediction": [1.0, 2, 3, 4, 5]})
    table = _metaqap_tables.wide(long, "test", "prediction", pictures)
    assert list(table) == ["a"] and table["a"].tolist() == [3, 2, 1]


def test_a_work_folder_of_other_settings_is_refused(tmp_path):
    settings = dict.fromkeys(benchmark.SETTINGS, 8)
    benchmark.same_work(SimpleNamespace(work=tmp_path, **settings), 10, 5)
    benchmark.same_work(SimpleNamespace(work=tmp_path, **settings), 10, 5)
    with pytest.raises(UserError, match="crop 8 -> 9.*--work"):
        benchmark.same_work(SimpleNamespace(work=tmp_path, **settings | {"crop": 9}), 10, 5)
