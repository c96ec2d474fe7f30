"""Metrics equal scipy's; intervals cover; comparisons have four outcomes; what is not defined is said."""

import warnings

import numpy as np
import pytest
from scipy import stats

from benchmarks import statistics
from gmiqa import evaluate as ev
from gmiqa.evaluate import agreement
from gmiqa.evaluate.components import crossed, left_out, over_splits, pseudo_values
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


def test_compare_has_four_outcomes():
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    good, poor, other = (y + s * rng.normal(size=200) for s in (0.3, 2.0, 0.3))
    assert ev.compare(good, poor, y).outcome == "better" and ev.compare(poor, good, y).outcome == "worse"
    assert ev.compare(good, other, y).outcome == "undecided"
    assert ev.compare(good, other, y, margin=0.1).outcome == "no difference"
    assert ev.compare(good, other, y, margin=1e-4).outcome == "undecided"
    assert ev.compare(good, poor, y, metric="rmse").outcome == "better"  # lower is better there
    assert "undecided at this size" in ev.compare(good, other, y).sentence("A", "B")
    assert "A is better than B: SROCC +" in ev.compare(good, poor, y).sentence("A", "B")
    same = ev.compare(good, other, y, margin=0.1).sentence("A", "B")
    assert same.startswith("A and B show no difference larger than 0.1: SROCC") and "90 % interval" in same


def test_a_margin_decides_by_two_one_sided_tests():
    d = np.random.default_rng(0).normal(0.01, 0.1, size=40)
    for margin in (0.03, 0.04, 0.05, 0.2):
        tests = [stats.ttest_1samp(d, sign * margin, alternative=side).pvalue
                 for sign, side in ((-1, "greater"), (1, "less"))]  # fmt: skip
        found = ev.paired(d, margin=margin)
        assert (found.outcome == "no difference") == (max(tests) < 0.05)
        if found.outcome == "no difference":
            assert found.p == pytest.approx(max(tests)) and found.margin == margin
    assert ev.paired(d).p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)


def test_every_outcome_has_one_word_and_a_claim_follows_from_it():
    assert [ev.outcome(*i) for i in ((1, 2), (-2, -1), (-1, 2), (np.nan, 1))] == ["better", "worse"] + ["undecided"] * 2
    assert ev.outcome(1, 2, False) == "worse" and ev.outcome(-1, 1, margin=2) == "no difference"
    assert ev.outcome(-0.9, 0.9, margin=0.8) == ev.outcome(-0.9, 0.9, True, 0.8, 3) == "no difference"
    assert ev.outcome(-0.9, 0.9, margin=0.7) == "undecided"
    words = {"better": "holds", "worse": "does not hold", "no difference": "no difference", "undecided": "undecided"}
    assert {word: ev.verdict(word) for word in words} == words
    assert ev.verdict("worse", "worse") == "holds" and ev.verdict("no difference", "no difference") == "holds"
    from gmiqa.evaluate import claims
    from gmiqa.runs.stage import OUTCOMES
    assert {*words.values(), claims.NOT_RUN} == set(OUTCOMES) and set(words) == set(claims.OUTCOMES)


def test_compare_errs_at_its_rate():
    """Two methods of equal skill: at most about 5 % of comparisons may decide."""
    decided = 0
    for trial in range(300):
        y, a, b = np.random.default_rng(trial).normal(size=(3, 50))
        decided += ev.compare(y + a, y + b, y, bootstrap=300, seed=trial).outcome != "undecided"
    assert decided / 300 <= 0.08, decided


def test_compare_needs_more_than_two_groups_and_two_runs():
    y = np.random.default_rng(0).normal(size=50)
    assert ev.compare(y, -y, y, groups=np.zeros(50)).outcome == "undecided"
    assert ev.compare(np.ones(50), y, y).note.endswith("constant prediction")
    noise = np.random.default_rng(1).normal(size=(4, 2, 50))
    a, b = y + 0.2 * noise[:, 0], y + 2 * noise[:, 1]
    found = ev.compare(a, b, y)
    assert found.outcome == "better" and (found.n, found.over, found.runs) == (50, "pictures", 4)
    few = ev.compare(a[:2], b[:2], y)
    assert few.outcome == "undecided" and "at least 3" in few.note


def test_n_counts_contents_and_not_their_pictures():
    y, a, b = np.random.default_rng(0).normal(size=(3, 60))
    found = ev.compare([y + a] * 3, [y + b] * 3, y, groups=np.arange(60) % 6, over="contents")
    assert (found.n, found.over, found.runs) == (6, "contents", 3)
    assert "n = 6 contents, 3 runs" in found.sentence("a", "b")
    again = ev.repeated([y + a] * 3, y, groups=np.arange(60) % 6)
    assert (again["n"], again["over"], again["runs"]) == (6, "groups", 3)
    assert again["low"] < again["value"] < again["high"]


def test_paired_over_seeds():
    assert ev.paired([0.02, 0.03, 0.025, 0.028]).outcome == "better"
    assert ev.paired([-0.02, 0.03, 0.0]).outcome == "undecided"
    assert ev.paired([0.5, 0.5]).outcome == "undecided"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ev.paired([]).outcome == "undecided" and ev.paired(np.full((4, 5), 0.1)).outcome == "better"


def test_components_equal_the_analysis_of_variance():
    """By hand on a table with run, content and interaction mean squares of known size."""
    d = statistics.differences(np.random.default_rng(3), 1, (5, 24), 0.1)[0]
    R, C = d.shape
    rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    squares = [C * ((d.mean(1) - d.mean()) ** 2).sum() / (R - 1), R * ((d.mean(0) - d.mean()) ** 2).sum() / (C - 1),
               (rest**2).sum() / ((R - 1) * (C - 1))]  # fmt: skip
    assert squares[0] > squares[2] and squares[1] > squares[2]
    found = crossed(d)
    assert found.error**2 == pytest.approx((squares[0] + squares[1] - squares[2]) / (R * C))
    assert R - 1 < found.df < (R - 1) * (C - 1) and found.error == pytest.approx(crossed(d.T).error)
    assert found.bounds() == pytest.approx((ev.paired(d).low, ev.paired(d).high))


def test_a_component_below_zero_counts_as_none():
    d = np.array([[1.0, -1, 1, -1], [-1, 1, -1, 1], [1, -1, -1, 1]])  # interaction and nothing else
    found = crossed(d)
    assert found.error**2 == pytest.approx(max(d.mean(1).var(ddof=1) / 3, d.mean(0).var(ddof=1) / 4))
    assert crossed(np.zeros((3, 4))).error == 0 and crossed(np.zeros((3, 4))).p() == 1
    assert np.isnan(crossed(np.ones((2, 9))).error)


def test_an_incomplete_row_of_pairs_is_left_out_and_counted():
    d = statistics.differences(np.random.default_rng(0), 1, (25, 5), 0.1)[0]
    d[3, 2] = np.nan
    found = ev.paired(d, over="type-seed pairs")
    assert found.n == 120 and "5 of 125 differences left out" in found.note
    assert found.delta == pytest.approx(np.delete(d, 3, 0).mean())
    d[:, 4] = np.nan
    assert ev.paired(d).n == 24 * 4


def test_pseudo_values_of_a_mean_are_the_contents_means():
    y, x = np.random.default_rng(0).normal(size=(2, 60))
    mean = agreement.Metric("mean", "mean", lambda W, x, y: (W * x).sum(1) / W.sum(1), scale=np.asarray)
    value, pseudo = pseudo_values(mean, x, y, left_out(np.repeat(np.arange(12), 5), 12))
    assert value == pytest.approx(x.mean()) and pseudo == pytest.approx(x.reshape(12, 5).mean(1))
    blocks = left_out(np.arange(5000), 5000, seed=1)
    assert len(blocks) == 1001 and (blocks[1:].sum(1) == 4995).all() and (blocks[1:].sum(0) == 999).all()


@pytest.mark.parametrize("size", list(statistics.SIZES.values())[1:])
def test_false_positives_and_power_of_runs_and_contents(size):
    """1500 tables with and 1500 without a difference of 0.1, at the noise at which the crossed bootstrap had power 0.15
    at 5 runs and 24 contents, and 0.56 at 8."""
    found = statistics.simulated(size, 1500)
    assert 0.03 <= found["false positives"] <= 0.07 and 0.93 <= found["coverage"] <= 0.97, found
    assert found["power"] >= (0.75 if size == (8, 24) else 0.45), found


def test_few_runs_and_contents_err_too_rarely_rather_than_too_often():
    found = statistics.simulated((3, 6), 1500)
    assert found["false positives"] <= 0.05 and found["power"] > 0.05, found


def test_the_rates_survive_a_rank_correlation():
    found = statistics.of_predictions((5, 24), 300, pictures=8)
    assert 0.02 <= found["false positives"] <= 0.08 and 0.92 <= found["coverage"] <= 0.98, found


def test_splits_that_share_pictures_have_a_wider_interval_than_samples():
    values, errors = np.array([0.8, 0.82, 0.81, 0.79, 0.83]), np.full(5, 0.03)
    found = over_splits(values, errors, 40)
    assert found.error == pytest.approx(values.std(ddof=1) * np.sqrt(1 / 5 + 0.25)) and found.df == 4
    assert over_splits(values[:2], errors[:2], 40).error == pytest.approx(0.03)


def test_fewer_than_three_trainings_decide_no_claim():
    found = ev.paired(np.array([0.2, 0.21, 0.19, 0.2]), over="contents", margin=0.02)
    assert found.outcome == "better" and found.as_claim()["outcome"] == found.as_claim(runs=2)["outcome"] == "undecided"
    assert found.as_claim(runs=3)["outcome"] == "holds" and found.as_claim("worse", 3)["outcome"] == "does not hold"


def test_a_picture_without_a_scene_stands_for_itself():
    import pandas as pd

    from gmiqa.evaluate import protocols
    frame = pd.DataFrame({"id": ["a", "b", "c", "d"], "reference": "", "group": ["x", "x", "", None]})
    labels = protocols.units(frame)
    assert labels[0] == labels[1] and len(set(labels)) == 3
    assert protocols.units(frame.assign(group="")) is None
    assert list(protocols.independent(frame.assign(group=""))) == list(frame["id"])


def test_a_family_without_differences_seldom_has_one():
    """However many of its claims rightly end as no difference."""
    import pandas as pd

    from gmiqa.evaluate import Comparison, claims
    from gmiqa.evaluate.components import Estimate
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        answers = [Comparison.of(Estimate(v, 0.005, 50.0), "srocc", 24, "contents", 0.02)
                   for v in rng.normal(0, 0.005, 12)]
        frame = pd.DataFrame([answer.as_claim(runs=3) for answer in answers]).assign(family="one")
        found.append(claims.judged(frame)["outcome"].isin(["holds", "does not hold"]).any())
    assert np.mean(found) < 0.09


def test_holm_is_that_of_the_textbook_and_takes_back_what_it_does_not_carry():
    import pandas as pd

    from gmiqa.evaluate import claims
    assert claims.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    frame = pd.DataFrame({"outcome": ["holds", "holds", "does not hold", "no difference", "holds", "not run here"],
                          "p": [0.01, 0.04, 0.03, 0.005, 0.04, None], "family": ["a"] * 4 + ["", "a"]})
    found = claims.judged(frame)
    assert list(found.outcome) == ["holds", "undecided", "undecided", "no difference", "holds", "not run here"]
    assert list(found.nominal) == list(frame.outcome) and found.p_holm.isna().tolist() == [False] * 4 + [True] * 2
