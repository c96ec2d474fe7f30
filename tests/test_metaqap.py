"""MetaQAP: properties of the loss, of the stack, and that training does what it says."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from gmiqa_core import metaqap
from gmiqa_core.finetuning import Pictures
from gmiqa_core.settings import UserError


def scores(n: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    return x, x + torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("ties", [False, True])
def test_soft_spearman_meets_scipy_as_the_temperature_falls(ties):
    x, y = scores()
    if ties:
        x, y = (x * 2).round(), (y * 2).round()
    assert float(metaqap.soft_spearman(x, y, 1e-9)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


def test_soft_ranks_lie_between_one_and_n_and_sum_like_ranks():
    x, _ = scores()
    ranks = metaqap.soft_ranks(x, 0.3)
    assert ranks.min() > 0.9 and ranks.max() < len(x) + 0.1
    assert float(ranks.sum()) == pytest.approx(len(x) * (len(x) + 1) / 2)


def test_gradients_of_the_loss_are_right():
    x, y = scores(8)
    assert torch.autograd.gradcheck(lambda p: metaqap.quality_aware_loss(p, y), x.clone().requires_grad_())


def test_rank_part_ignores_a_shift():
    x, y = scores()
    rank = dict(mse_weight=0.0, rank_weight=1.0)
    shifted = metaqap.quality_aware_loss(x + 3, y, **rank)
    assert float(shifted) == pytest.approx(float(metaqap.quality_aware_loss(x, y, **rank)), abs=1e-9)


def test_constant_prediction_gives_a_finite_loss_and_gradient():
    p = torch.zeros(10, requires_grad=True)
    loss = metaqap.quality_aware_loss(p, torch.arange(10.0))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(p.grad).all()


def test_loss_does_not_depend_on_the_unit_of_the_scores():
    x, y = scores()
    one = metaqap.quality_aware_loss(x, y, scale=1.0)
    assert float(metaqap.quality_aware_loss(100 * x, 100 * y, scale=100.0)) == pytest.approx(float(one))


def planted(n: int = 200, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    columns = {"good": y + 0.5 * rng.normal(size=n), "other": y + 0.7 * rng.normal(size=n), "noise": rng.normal(size=n)}
    return pd.DataFrame(columns), y


def test_stack_keeps_what_helps_and_drops_noise():
    table, y = planted()
    stack = metaqap.Stack().fit(table, y)
    assert set(stack.members_) == {"good", "other"}
    error = {name: ((table[name] - y) ** 2).mean() for name in table}
    fresh, truth = planted(seed=1)
    assert ((stack.predict(fresh) - truth) ** 2).mean() < min(error.values())


def test_stack_drops_members_of_small_weight():
    table, y = planted(5000)
    table["copy"] = table["good"] + 3 * np.random.default_rng(2).normal(size=len(y))
    assert "copy" not in metaqap.Stack(drop=0.05).fit(table, y).members_


def test_stack_is_a_scikit_learn_estimator():
    from sklearn.base import clone
    from sklearn.model_selection import cross_val_score

    table, y = planted()
    assert clone(metaqap.Stack(drop=0.1)).get_params()["drop"] == 0.1
    assert cross_val_score(metaqap.Stack(), table.to_numpy(), y).min() > 0.5


def test_stack_names_a_member_with_nan():
    table, y = planted()
    table.loc[3, "noise"] = np.nan
    with pytest.raises(UserError, match="noise"):
        metaqap.Stack().fit(table, y)


def test_out_of_fold_never_predicts_what_it_was_fitted_on_and_divides_no_group():
    seen: dict[str, set] = {}
    groups = np.repeat(np.arange(10), 3)

    def fit(rows, tag):
        seen[tag] = set(groups[rows])
        return lambda wanted: np.array([float(groups[i] in seen[tag]) if i < 30 else 0.5 for i in wanted])

    result = metaqap.out_of_fold([metaqap.Member("spy", fit)], np.arange(30), np.arange(30, 35), 3, groups)
    assert (result.table["spy"] == 0).all()  # its own group was never in the fit
    assert (result.in_sample["spy"] == 1).all()
    assert len(result.test) == 5


def test_a_member_that_fails_is_named_and_loses_nothing():
    def broken(rows, tag):
        raise UserError("weights are not at hand")

    good = metaqap.Member("good", lambda rows, tag: lambda wanted: wanted.astype(float))
    result = metaqap.out_of_fold([metaqap.Member("broken", broken), good], np.arange(9), np.arange(9, 12))
    assert result.failed == {"broken": "weights are not at hand"} and list(result.table) == ["good"]
    with pytest.raises(UserError, match="weights are not at hand"):
        metaqap.out_of_fold([metaqap.Member("broken", broken)], np.arange(9), np.arange(9, 12))


def test_unknown_base_network_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="resnet50"):
        metaqap.QualityNetwork("resnet5")


@pytest.mark.parametrize("name", ["small", "mobilenet_v3"])
def test_networks_score_any_size(name):
    model = metaqap.QualityNetwork(name).eval()
    assert model(torch.rand(2, 3, 64, 80)).shape == (2,)


def test_finetuning_standardises_on_its_pictures_and_learns(tmp_path):
    torch.manual_seed(0)
    brightness = torch.linspace(0.1, 0.9, 24)
    pictures = [torch.full((3, 32, 32), int(255 * b), dtype=torch.uint8) for b in brightness]
    data = Pictures(pictures, brightness, torch.zeros(24))
    model = metaqap.QualityNetwork("small")
    metaqap.finetune(model, data, steps=40, folder=tmp_path, batch=12, lr=3e-3, report=lambda *a: None)
    assert float(model.centre) == pytest.approx(0.5, abs=1e-4)
    assert spearmanr(metaqap.predict(model, pictures), brightness).statistic > 0.8


def test_predictions_do_not_depend_on_batch_mates():
    model = metaqap.QualityNetwork("small").eval()
    pictures = [torch.randint(0, 255, (3, 40, 40 + 8 * (k % 2)), dtype=torch.uint8) for k in range(5)]
    together = metaqap.predict(model, pictures)
    np.testing.assert_allclose(together, [metaqap.predict(model, [p])[0] for p in pictures], atol=1e-5)
