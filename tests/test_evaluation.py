"""Metrics equal scipy's; intervals cover; comparisons have three outcomes; what is not defined is said."""

import warnings

import numpy as np
import pytest
from scipy import stats

from gmiqa import evaluate as ev
from gmiqa.evaluate import agreement
from gmiqa.evaluate.intervals import interval, resamples
from gmiqa_core.errors import UserError

CORRELATIONS = {"srocc": stats.spearmanr, "plcc": stats.pearsonr, "krocc": stats.kendalltau}


def scores(n, rho=0.7, seed=0, ties=False, shift=0.0):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, n))
    y = rho * x + np.sqrt(1 - rho**2) * noise
    return (np.round(x), np.round(2 * y)) if ties else (x + shift, 3 * y - shift)


@pytest.mark.parametrize("name", CORRELATIONS)
@pytest.mark.parametrize(
    "case", [{}, {"ties": True}, {"shift": 1e4}, {"rho": -0.9}, {"n": 3}, {"n": 2500, "ties": True}]
)
def test_equals_scipy(name, case):
    x, y = scores(**{"n": 80} | case)
    assert getattr(ev, name)(x, y) == pytest.approx(CORRELATIONS[name](x, y).statistic, abs=1e-12)


def test_rmse_is_the_root_of_the_mean_square():
    assert ev.rmse([1, 2, 3], [1, 2, 6]) == pytest.approx(np.sqrt(3), abs=1e-15)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_weight_is_a_repeated_picture(name):
    x, y = scores(40, ties=True)
    W = resamples(np.arange(40), 5, 1)
    repeated = [CORRELATIONS[name](np.repeat(x, w), np.repeat(y, w)).statistic for w in W.astype(int)]
    assert agreement.METRICS[name].weighted(W, x, y) == pytest.approx(repeated, abs=1e-12)


def test_logistic_recovers_planted_parameters():
    planted = np.array([4.5, 1.2, 55.0, 9.0])
    x = np.random.default_rng(0).uniform(0, 100, 300)
    assert ev.fit_logistic(x, ev.logistic(x, planted)) == pytest.approx(planted, rel=1e-5)
    assert ev.plcc_logistic(x, ev.logistic(x, planted)) == pytest.approx(1, abs=1e-9)
    noisy = ev.logistic(x, planted) + np.random.default_rng(1).normal(0, 0.1, 300)
    assert ev.fit_logistic(x, noisy) == pytest.approx(planted, rel=0.1)


def test_logistic_fit_is_least_squares():
    from scipy.optimize import curve_fit

    x, y = scores(200, rho=0.8)
    found, _ = curve_fit(lambda x, *b: ev.logistic(x, b), x, y, ev.fit_logistic(x, y), maxfev=20000)
    loss = [np.sum((ev.logistic(x, b) - y) ** 2) for b in (ev.fit_logistic(x, y), found)]
    assert loss[0] <= loss[1] * (1 + 1e-6)


def test_logistic_resamples_equal_single_fits():
    x, y = scores(60, rho=0.8)
    W = resamples(np.arange(60), 10, 0)
    single = [ev.plcc_logistic(np.repeat(x, w), np.repeat(y, w)) for w in W.astype(int)]
    assert agreement.METRICS["plcc_logistic"].weighted(W, x, y) == pytest.approx(single, abs=1e-3)


def test_logistic_keeps_the_sign_of_a_reversed_prediction():
    x, y = scores(100, rho=0.9)
    assert ev.plcc_logistic(-x, y) == pytest.approx(-ev.plcc_logistic(x, y), abs=1e-6)


@pytest.mark.parametrize("name", [n for n in agreement.METRICS if n != "rmse"])
@pytest.mark.parametrize("x, y, said", [
    ([1.0, 2.0], [1.0, 2.0], "2 pairs"),
    ([0.1] * 9, range(9), "constant prediction"),
    (range(9), [0.1] * 9, "constant target"),
])  # fmt: skip
def test_undefined_is_nan_and_said(name, x, y, said):
    with pytest.warns(UserWarning, match=said):
        assert np.isnan(getattr(ev, name)(x, y))


def test_nan_pairs_are_left_out_and_counted():
    x, y = scores(30)
    broken = np.append(x, [np.nan, 1.0])
    target = np.append(y, [1.0, np.inf])
    with pytest.warns(UserWarning, match="2 of 32 pairs left out"):
        assert ev.srocc(broken, target) == ev.srocc(x, y)
    table = ev.metrics(broken, target, bootstrap=50)
    assert (table.n == 30).all() and table.note.str.contains("2 of 32").all()


def test_lengths_must_agree():
    with pytest.raises(UserError, match="prediction has 3, target has 2"):
        ev.srocc([1, 2, 3], [1, 2])


def test_metrics_hold_their_value_and_edit_nothing():
    x, y = scores(60)
    before = x.copy()
    table = ev.metrics(x, y, bootstrap=200)
    assert list(table.index) == list(agreement.METRICS) and (x == before).all()
    assert ((table.low < table.value) & (table.value < table.high)).all()
    assert table.equals(ev.metrics(x, y, bootstrap=200)) and not table.equals(ev.metrics(x, y, bootstrap=200, seed=1))


def test_intervals_cover_at_their_rate():
    """400 samples of 60 pairs with rho = 0.6: a 95 % interval holds the truth in 92 to 98 % of them."""
    rho, hits = 0.6, {"srocc": 0, "plcc": 0}
    truth = {"srocc": 6 / np.pi * np.arcsin(rho / 2), "plcc": rho}
    for trial in range(400):
        x, y = scores(60, rho, seed=trial)
        table = ev.metrics(x, y, bootstrap=300, seed=trial, names=("srocc", "plcc"))
        for name in hits:
            hits[name] += table.low[name] <= truth[name] <= table.high[name]
    assert all(0.92 <= h / 400 <= 0.98 for h in hits.values()), hits


def test_grouped_intervals_cover_where_single_pictures_do_not():
    """5 contents of 24 pictures, error shared within a content: only resampling contents covers the truth."""
    hits = {"grouped": 0, "single": 0}
    contents = np.repeat(np.arange(5), 24)
    for trial in range(300):
        rng = np.random.default_rng(trial)
        prediction = rng.normal(size=120)
        target = 0.5 + rng.normal(size=5)[contents] + prediction  # mean error 0.5, known
        for name, groups in (("grouped", contents), ("single", None)):
            units = np.arange(120) if groups is None else groups
            W = resamples(units, 300, trial)
            error = target - prediction
            low, high = interval(error.mean(), (W * error).sum(1) / W.sum(1), int(units.max()) + 1)
            hits[name] += low <= 0.5 <= high
    assert 0.92 <= hits["grouped"] / 300 <= 0.98 and hits["single"] / 300 < 0.75, hits


def test_compare_has_three_outcomes():
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    good, poor, other = (y + s * rng.normal(size=200) for s in (0.3, 2.0, 0.3))
    assert ev.compare(good, poor, y).outcome == "better" and ev.compare(poor, good, y).outcome == "worse"
    assert ev.compare(good, other, y).outcome == "undecided"
    assert ev.compare(good, poor, y, metric="rmse").outcome == "better"  # lower is better there
    assert "undecided at this size" in ev.compare(good, other, y).sentence("A", "B")
    assert "A is better than B: SROCC +" in ev.compare(good, poor, y).sentence("A", "B")


def test_compare_errs_at_its_rate():
    """Two methods of equal skill: at most about 5 % of comparisons may decide."""
    decided = 0
    for trial in range(300):
        y, a, b = np.random.default_rng(trial).normal(size=(3, 50))
        decided += ev.compare(y + a, y + b, y, bootstrap=300, seed=trial).outcome != "undecided"
    assert decided / 300 <= 0.08, decided


def test_compare_needs_more_than_one_group_and_two_runs():
    y = np.random.default_rng(0).normal(size=50)
    assert ev.compare(y, -y, y, groups=np.zeros(50)).outcome == "undecided"
    assert ev.compare(np.ones(50), y, y).note.endswith("constant prediction")
    noise = np.random.default_rng(1).normal(size=(4, 2, 50))
    a, b = y + 0.2 * noise[:, 0], y + 2 * noise[:, 1]
    assert ev.compare(a, b, y).outcome == "better" and ev.compare(a, b, y).over == "pictures, 4 runs"
    assert ev.compare(a[:2], b[:2], y).outcome == "undecided"


def test_paired_over_seeds():
    assert ev.paired([0.02, 0.03, 0.025, 0.028]).outcome == "better"
    assert ev.paired([-0.02, 0.03, 0.0]).outcome == "undecided"
    assert ev.paired([0.5, 0.5]).outcome == "undecided"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ev.paired([]).outcome == "undecided"
