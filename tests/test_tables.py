"""Tables in the paper's layout: marks, blanks, differences, three formats; protocols keep test pictures apart."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gmiqa.evaluate import protocols, reported, tables
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


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_flat_form_has_one_header_and_never_loses_its_layout(number):
    flat = tables.paper_table(number, OURS.iloc[:0]).flat()
    assert "GMIQA" in flat.index and len(flat.columns) >= 2 and flat.columns.nlevels == 1


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
    found = protocols.folds(dataset, protocol, other=other)
    assert len(found) == count
    for fold in found:
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


def test_headline_is_never_the_best_test_epoch():
    history = pd.DataFrame({"epoch": [1, 2, 3], "test_srocc": [0.9, 0.5, 0.6], "validation_srocc": [0.1, 0.8, 0.3]})
    last = protocols.headline(history)
    assert last.rule[0] == "last epoch" and last.srocc[0] == 0.6 and last.headline.tolist() == [True, False, False]
    chosen = protocols.headline(history, rule="validation")
    assert chosen.srocc[0] == 0.5 and "best test epoch" in set(chosen.rule[1:])
    with pytest.raises(UserError, match="last or validation"):
        protocols.headline(history, rule="best")
