"""Tables in the paper's layout: marks, blanks, differences, three formats; protocols keep test pictures apart."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gmiqa.evaluate import gaussian, paper_tables, protocols, reported, tables
from gmiqa_core.errors import UserError

COLUMNS = ["method", "dataset", "type", "metric", "value", "n"]
OURS = pd.DataFrame([
    ("GMIQA", "LIVEC", "", "srocc", 0.801, 232), ("GMIQA", "LIVEC", "", "plcc", 0.82, 232),
    ("mean", "LIVEC", "", "srocc", np.nan, 232), ("BRISQUE_SVR", "LIVEC", "", "srocc", 0.6004, 232),
    ("NSS", "LIVEC", "", "srocc", 0.6001, 232),
], columns=COLUMNS)  # fmt: skip


def test_our_cell_has_the_papers_number_and_the_difference_beside_it():
    frame = tables.paper_table(1, OURS).frame
    assert frame.loc["GMIQA", ("LIVEC", "SROCC")] == 0.801
    assert frame.loc["GMIQA", ("LIVEC", "paper SROCC")] == 0.881
    assert frame.loc["GMIQA", ("LIVEC", "difference SROCC")] == pytest.approx(-0.08)
    assert frame.loc["GMIQA", ("LIVEC", "n")] == 232


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_was_not_run_is_blank(number):
    texts = tables.paper_table(number, OURS.iloc[:0]).texts()
    measured = [c for c in texts if not c[1].startswith("paper")]
    assert len(texts.columns) >= 14 and (texts[measured] == "").all(axis=None)


def test_tables_of_the_paper_hold_no_other_papers_numbers():
    assert "MetaQAP" not in tables.paper_table(1, OURS).frame.index
    assert "MetaQAP" in tables.overall(OURS, ["LIVEC"], "").frame.index


def test_best_is_bold_and_second_underlined_as_printed():
    text = tables.paper_table(1, OURS).markdown()
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "**0.801**" in rows["GMIQA"]
    assert "<u>0.600</u>" in rows["BRISQUE_SVR"] and "<u>0.600</u>" in rows["NSS"]  # equal as printed
    assert "nan" not in text and "difference" in text.splitlines()[0]


def test_lower_is_better_for_rmse():
    rows = OURS.assign(metric="rmse", value=[0.2, 0.2, 0.1, 0.3, 0.4])
    assert "**0.100**" in tables.overall(rows, ["LIVEC"], "", ("rmse",)).markdown()


def test_latex_is_balanced_and_escaped():
    text = tables.paper_table(2, OURS.assign(dataset="CSIQ")).latex()
    assert text.count("\\begin{") == text.count("\\end{") == 2 and "BRISQUE\\_SVR" in text and "\\textbf{0.801}" in text
    body = [line for line in text.splitlines() if line.endswith("\\\\")][1:]
    assert len({line.replace("\\&", "").count("&") for line in body}) == 1


def test_three_files_and_the_csv_is_exact(tmp_path):
    table = tables.paper_table(1, OURS)
    assert [p.name for p in table.save(tmp_path, "t")] == ["t.csv", "t.md", "t.tex"]
    again = pd.read_csv(tmp_path / "t.csv", header=[0, 1], index_col=0)
    assert again.loc["NSS", ("LIVEC", "SROCC")] == 0.6001


def test_single_distortions_use_the_loaders_names():
    ours = pd.DataFrame([("GMIQA", "LIVE", "wn", "srocc", 0.9, 30)], columns=COLUMNS)
    frame = tables.paper_table(3, ours).frame
    assert frame.loc["GMIQA", ("WN", "difference SROCC")] == pytest.approx(-0.08)


def test_table_6_and_unknown_numbers():
    rows = pd.DataFrame({"method": ["backbone"], "parameters": [23.5e6], "flops": [4.1e9], "ms": [np.nan]})
    assert "23.500" in tables.paper_table(6, rows).markdown()
    with pytest.raises(UserError, match="60_ablations"):
        tables.paper_table(5, OURS)


def test_every_reported_fact_has_a_source():
    assert all(fact.source and 0 < fact.srocc < 1 for fact in reported.REPORTED)
    assert len({(f.dataset, f.method, f.type) for f in reported.REPORTED}) == len(reported.REPORTED)


@pytest.fixture
def dataset(monkeypatch):
    from gmiqa.data import datasets

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(60)], "subset": np.tile(["a", "b", "c"], 20), "group": "",
                          "reference": np.repeat(np.arange(12), 5).astype(str), "type": 1, "level": 1,
                          "quality": rng.random(60)})  # fmt: skip

    def split(dataset, which, validation=0.1):
        order = np.random.default_rng(0 if which == "official" else which).permutation(12)
        test, held = np.isin(table.reference.astype(int), order[:3]), np.isin(table.reference.astype(int), order[3:4])
        rows = np.arange(60)
        return SimpleNamespace(train=rows[~test & ~held], validation=rows[held], test=rows[test])

    monkeypatch.setattr(datasets, "split", split)
    return SimpleNamespace(name="toy", table=table)


@pytest.mark.parametrize("protocol, count", [("splits", 10), ("official", 1), ("cross", 1), ("leave_subset_out", 3)])
def test_a_protocol_never_tests_on_what_it_trained_on(dataset, protocol, count):
    other = SimpleNamespace(name="other", table=dataset.table)
    folds = protocols.folds(dataset, protocol, other=other)
    assert len(folds) == count
    for fold in folds:
        assert not set(fold.train) & set(fold.validation)
        if fold.target is fold.source:
            assert not (set(fold.train) | set(fold.validation)) & set(fold.test)


def test_protocol_mistakes_are_named(dataset):
    with pytest.raises(UserError, match="Choose one of: splits"):
        protocols.folds(dataset, "random")
    with pytest.raises(UserError, match="second data set"):
        protocols.folds(dataset, "cross")


class Recall:
    """Predicts a fixed function of the name, so that results are known."""

    def fit(self, paths, quality):
        self.seen = set(paths)
        return self

    def predict(self, paths):
        assert not self.seen & set(paths)
        return np.array([float(p.split(".")[0]) for p in paths])


def test_run_scores_and_summary(dataset):
    predictions = protocols.run(Recall, protocols.folds(dataset, "splits", splits=3), "recall")
    assert set(predictions.fold) == {"split 0", "split 1", "split 2"} and len(predictions) == 45
    scored = protocols.scores(predictions, names=["srocc"], bootstrap=50)
    assert len(scored) == 3 and (scored.units == 3).all()  # references, not pictures
    total = protocols.summary(scored).iloc[0]
    assert total.folds == 3 and total["mean"] == pytest.approx(scored.value.mean())
    assert total["least"] <= total["median"] <= total["most"]
    per_type = protocols.scores(predictions, by=["type"], names=["srocc"], bootstrap=0)
    assert list(per_type.columns[:3]) == ["method", "fold", "type"]


def test_the_split_that_a_network_was_tuned_on_is_among_the_folds(dataset):
    names = [[f.name for f in protocols.folds(dataset, p, 2, tuned_on=on)]
             for p, on in (("splits", "1"), ("splits", "7"), ("splits", "official"), ("official", "3"), ("splits", ""))]
    assert names == [["split 0", "split 1"], ["split 0", "split 1", "split 7"], ["split 0", "split 1", "official"],
                     ["official", "split 3"], ["split 0", "split 1"]]


def predicted(methods, folds, seed=0, pictures=60):
    rng, rows = np.random.default_rng(seed), []
    for fold in folds:
        target = rng.random(pictures)
        for method, noise in methods.items():
            rows.append(pd.DataFrame({
                "id": [f"{k}.png" for k in range(pictures)], "reference": np.arange(pictures) // 5, "method": method,
                "fold": fold, "target": target, "prediction": target + noise * rng.normal(size=pictures)}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_methods_compare_on_every_fold_that_both_tested():
    frame = predicted({"A": 0.1, "B": 1.0}, [f"split {k}" for k in range(10)])
    result = protocols.compared(frame, "A", "B", bootstrap=50)
    each = [protocols.compared(part, "A", "B", bootstrap=50).delta for _, part in frame.groupby("fold")]
    assert result.delta == pytest.approx(np.mean(each)) and result.df == 9 and result.outcome == "better"
    assert result.n == 12 and "10 splits" in result.over
    alone = frame[(frame.method == "B") | (frame.fold == "split 4")]
    assert protocols.compared(alone, "A", "B", bootstrap=50).delta == pytest.approx(each[4])
    apart = frame.assign(fold=frame.fold.where(frame.method == "B", "official"))
    nothing = protocols.compared(apart, "A", "B")
    assert nothing.outcome == "undecided" and "no test picture in common" in nothing.sentence("A", "B")


def rows(values, metric="srocc", half=0.02, dataset="LIVEC", method="GMIQA", kind="", fold="split {}"):
    return pd.DataFrame([{"method": method, "dataset": dataset, "type": kind, "metric": metric, "value": v,
                          "low": v - half, "high": v + half, "n": 232, "units": 232, "fold": fold.format(k)}
                         for k, v in enumerate(values)])  # fmt: skip


def test_a_caption_says_what_was_averaged():
    def caption(overall):
        return paper_tables.of_scores(overall, overall.iloc[:0], "LIVEC")["table_1"].caption

    ten, one = rows(np.full(10, 0.8)), rows([0.9], method="SVR")
    assert "Ours: the mean of 10 splits." in caption(ten) and "Ours: split 0 alone." in caption(one)
    assert "GMIQA the mean of 10 splits; SVR split 0 alone" in caption(pd.concat([ten, one]))
    assert "Ours:" not in caption(ten.iloc[:0])


@pytest.mark.parametrize("srocc, plcc, outcome", [
    ([0.93], [0.93], "holds"), ([0.93], [0.80], "does not hold"), ([0.93], [0.889], "undecided"),
    ([0.60], [0.60], "does not hold"), ([0.60, 0.95, 0.93], [0.93, 0.93, 0.93], "undecided"),
    (np.linspace(0.92, 0.93, 10), np.linspace(0.92, 0.93, 10), "holds"),
])  # fmt: skip
def test_a_reported_number_is_judged_on_both_metrics_and_all_splits(srocc, plcc, outcome):
    made = paper_tables.reached("GMIQA", pd.concat([rows(srocc), rows(plcc, "plcc")]), "livec")
    by_text = {claim.claim: claim for claim in made}
    assert len(made) == 4 and sum(claim.outcome == "not run here" for claim in made) == 3
    claim = by_text["SROCC 0.881 and PLCC 0.889 on LIVEC (GMIQA)"]
    assert claim.outcome == outcome and "PLCC" in claim.value
    assert len(srocc) == 1 or f"{len(srocc)} splits" in claim.unit


def test_metaqaps_numbers_are_claims_too():
    scored = pd.concat([rows([0.80], method="stack"), rows([0.81], "plcc", method="stack")])
    made = paper_tables.reached("MetaQAP", scored, "biq2021", ours="stack", evidence="stack")
    outcomes = {claim.claim: claim.outcome for claim in made}
    assert outcomes["SROCC 0.8765 and PLCC 0.884 on BIQ2021 (MetaQAP)"] == "does not hold" and len(outcomes) == 3
    assert {c.outcome for c in paper_tables.reached("MetaQAP", scored, "synthetic", ours="stack")} == {"not run here"}


def test_above_090_for_every_single_distortion_looks_at_every_type():
    def judged(**values):
        per_type = pd.concat([rows([v], dataset="LIVE", kind=kind) for kind, v in values.items()])
        return paper_tables.single_distortions(per_type, "LIVE", "LIVE")

    assert judged(wn=0.95, jpeg=0.96).outcome == "holds"
    assert judged(wn=0.95, jpeg=0.91).outcome == "undecided"
    low = judged(wn=0.95, jpeg=0.7)
    assert low.outcome == "does not hold" and low.value == "lowest: jpeg 0.700"
    assert paper_tables.single_distortions(None, "LIVE", "LIVE").outcome == "not run here"
    assert [c.outcome for c in paper_tables.claims(rows([0.5]), {}, "KonIQ-10k")] == ["not run here"] * 7


def test_a_claim_is_what_a_stage_registers():
    import inspect

    from gmiqa.evaluate import Claim
    from gmiqa.runs.stage import Stage
    assert list(inspect.signature(Stage.claim).parameters)[1:] == list(vars(Claim("text")))


def test_scores_of_a_cell_are_gaussian_where_they_are_drawn_so():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"type_id": np.repeat(np.arange(1, 26), 405),
                          "level": np.tile(np.repeat(range(1, 6), 81), 25)})  # fmt: skip
    fair = gaussian.cells(frame.assign(quality=rng.normal(size=len(frame))))
    assert len(fair) == 125 and (fair.n == 81).all() and gaussian.claim(fair).outcome == "undecided"
    skew = gaussian.cells(frame.assign(quality=rng.exponential(size=len(frame))))
    assert gaussian.claim(skew).outcome == "does not hold"
    assert gaussian.claim(gaussian.stored()).value == "rejected in 64 of 125 cells at 5 %, in 23 after Holm"
