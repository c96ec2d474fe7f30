"""What the study found: every sentence comes from the tables, and the report of a run shows it beside its own."""

import numpy as np
import pandas as pd
import pytest

from gmiqa import cli
from gmiqa.evaluate import compare, paired
from gmiqa.evaluate.claims import judged
from gmiqa.evaluate.components import crossed, needed
from gmiqa.experiments.ablation_rows import CELLS
from gmiqa.experiments.questions import PAIRS, QUESTIONS
from gmiqa.experiments.study_unit import PICTURE
from gmiqa.report import findings as of_run
from gmiqa.report import study as report
from gmiqa.report import study_page as page_of
from gmiqa.runs.study import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Ablations in which graph pre-training helps, the pyramid changes nothing, and whole pictures hardly differ; one
    seed of MetaQAP; nothing else."""
    rng, n, seeds = np.random.default_rng(0), 24 * 12, 4
    content, target = np.repeat(np.arange(24), 12), rng.uniform(0, 1, n)
    errors = {name: 0.2 - 0.08 * has.count("DGR") for name, has in CELLS.items()} | {"Meta": 0.12, "SC": 0.12}
    frames = []
    for seed in range(seeds):
        columns = {name: target + error * rng.normal(size=n) for name, error in errors.items()}
        columns["Meta"] = columns["full"] + rng.normal(0, 0.001, n)
        columns["whole"] = columns["full"] + rng.normal(0, 0.1) * (target - 0.5) ** 2 * (content > 12)
        frames.append(pd.DataFrame({"seed": seed, "picture": np.arange(n), "content": content, "target": target,
                                    **columns}).set_index(list(PICTURE)))
    made = Results(tmp_path_factory.mktemp("study"))
    made.add("ablations", frames, {"preset": "quick", "ablation_seeds": 4}, 10)
    made.add("metaqap", [frames[0][["full"]].rename(columns={"full": "random"})], {}, 10)
    return made


def test_findings_hold_every_claim_once(results):
    frame = report.findings(results)
    assert frame["claim"].is_unique
    assert set(frame["outcome"]) <= {"holds", "does not hold", "no difference", "undecided", "not run here"}
    by_claim = frame.set_index("claim")
    factor = by_claim.loc["DGR improves accuracy, over the whole factorial of SC, Meta and DGR"]
    assert factor["outcome"] == "holds" and factor["value"] > factor["low"] > 0 and factor["runs"] == 4
    assert factor["p_holm"] >= factor["p"] and "--only ablations" in factor["command"]
    pyramid = by_claim.loc["The spatial pyramid improves accuracy further"]
    assert pyramid["outcome"] == "no difference" and abs(pyramid["value"]) < pyramid["margin"]
    away = frame[frame["outcome"] == "not run here"]
    assert len(away) >= 7 and away["command"].str.contains("dataset_path=FOLDER").all()


def test_too_few_seeds_are_said_and_not_judged(results):
    row = next(r for r in of_run.records(report.findings(results)) if r["family"] == "MetaQAP")
    assert row["outcome"] == "undecided" and row["value"] is None and "Fewer than three seeds" in page_of.sentence(row)


def test_the_page_is_made_of_the_table(results, tmp_path):
    frame = page_of.write(results, tmp_path / "docs/findings.md", tmp_path / "gallery")
    page = (tmp_path / "docs/findings.md").read_text(encoding="utf-8")
    for row in of_run.records(frame[frame["outcome"] != "not run here"]):
        assert (row["short"] if row["value"] is None else f"- {page_of.sentence(row)}") in page
    assert page_of.summary(frame) in page and "(study.md)" in page
    html = (tmp_path / "gallery/findings.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == page.count("![") and "http" not in html.replace("http://www.w3", "")
    kept = pd.read_csv(tmp_path / "gallery/findings.csv")
    assert {"claim", "metric", "value", "low", "high", "margin", "n", "unit", "runs", "outcome", "command"} <= set(kept)
    seen = of_run.studied(tmp_path / "gallery/findings.csv")
    assert seen["the spatial pyramid improves accuracy further"].startswith("no difference: SROCC")


def test_runs_needed_decide_and_one_less_does_not():
    rng = np.random.default_rng(3)
    table = 0.015 + rng.normal(0, 0.03, (4, 1)) + rng.normal(0, 0.01, (1, 24)) + rng.normal(0, 0.05, (4, 24))
    estimate = crossed(table)
    assert estimate.p() > 0.05
    runs, _ = needed(estimate, margin=0.001)
    then = estimate.parts.estimate(estimate.value, runs, 24)
    before = estimate.parts.estimate(estimate.value, runs - 1, 24)
    assert then.p() < 0.05 <= before.p()
    same = estimate.parts.estimate(estimate.value, 4, 24)
    assert same.error == pytest.approx(estimate.error, rel=1e-6) and same.df == pytest.approx(estimate.df, rel=1e-6)


def test_nobody_is_told_to_find_more_types_than_there_are():
    adapted = next(q for q in QUESTIONS if q.unit == PAIRS)
    rng = np.random.default_rng(5)
    values = 0.03 + rng.normal(0, 0.02, (3, 1)) + rng.normal(0, 0.2, (1, 25)) + rng.normal(0, 0.02, (3, 25))
    answer = paired(values, "rmse", over="pairs of type and seed", margin=0.05)
    assert needed(answer.estimate, 0.05)[1] > 25, "more types would decide it"
    (row,) = of_run.records(report._judged([report._row(adapted, answer)]).assign(before=None))
    told = page_of.sentence(row)
    assert row["outcome"] == "undecided" and row["contents_needed"] is None
    assert "pairs of type and seed would" not in told


def test_findings_of_another_folder_are_printed(results, capsys):
    assert cli.main(["findings", "--of", str(results.folder)]) == 0
    assert "holds: DGR improves accuracy" in capsys.readouterr().out


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert cli.main(["findings", "--of", str(folder)]) == 2
        assert f"--of {folder}: no study.json is there; expected a results folder" in capsys.readouterr().err


def test_the_mean_of_equal_pairs_is_each_of_them():
    rng = np.random.default_rng(1)
    target, content = rng.uniform(0, 1, 96), np.repeat(np.arange(8), 12)
    a, b = (target + error * rng.normal(size=(3, 96)) for error in (0.1, 0.3))
    one = compare(a, b, target, "srocc", content)
    two = compare(np.stack([a, a]), np.stack([b, b]), target, "srocc", content)
    assert (two.delta, two.low, two.high, two.runs, two.n) == pytest.approx((one.delta, one.low, one.high, 3, 8))
    opposite = compare(np.stack([a, b]), np.stack([b, a]), target, "srocc", content)
    assert opposite.delta == pytest.approx(0)


def test_a_second_round_answers_what_the_first_left_undecided_and_nothing_else(results, tmp_path):
    rng, table = np.random.default_rng(2), results.table("ablations")
    target = table.index.get_level_values("target").to_numpy()
    error = np.where(table.index.get_level_values("seed") % 2, 0.05, 0.6)
    unsure = table.assign(V_only=target + error * rng.normal(size=len(target)))
    worse = table.assign(V_only=target + 0.6 * rng.normal(size=len(target)))
    second = Results(tmp_path / "study")
    second.add("ablations", [unsure], {}, 1)
    first = report.findings(second).set_index("claim")
    assert report.cost(second) == []
    Results(second.folder / report.SECOND).add("ablations", [worse.rename(lambda s: s + 100, level="seed")], {}, 600)
    (told,) = report.cost(second)
    assert f"{10 * len(worse.columns)} minutes of one core" in told, "one unit took ten minutes"
    both = report.findings(second).set_index("claim")
    asked = first[(first["outcome"] == "undecided") & first["value"].notna()].index
    assert len(asked) and set(both.index[both["round"] == 2]) == set(asked)
    decided = both[(both["round"] == 1) & both["value"].notna()]
    assert len(decided) and (decided["outcome"] == first.loc[decided.index, "outcome"]).all()
    edges = "The edges help the score beyond the nodes alone"
    assert first.loc[edges, "outcome"] == "undecided" and both.loc[edges, "outcome"] == "holds"
    row = next(r for r in of_run.records(both.reset_index()) if r["claim"] == edges)
    assert row["planned"] == 24 and "-p seed=100" in row["command"] and row["before"].startswith("undecided")
    assert "4 of 24 planned seeds of the second round" in (text := page_of.sentence(row)) and "At first: und" in text
    page_of.write(second, tmp_path / "findings.md", tmp_path / "gallery")
    assert page_of.ROUNDS in (tmp_path / "findings.md").read_text(encoding="utf-8")
    alone = judged(pd.DataFrame([r for r in of_run.records(both.reset_index()) if r["round"] == 2])
                   .assign(outcome=lambda f: f["nominal"]))
    assert np.allclose(alone.set_index("claim")["p_holm"], both.loc[alone["claim"], "p_holm"])


def test_what_was_run_again_stands_beside_what_was_found_at_first(results, tmp_path):
    assert page_of.again(report.findings(results), report.repeated(results)) == []
    table = results.table("ablations")
    weaker = table.assign(**{name: table[name] + 0.3 * np.random.default_rng(1).normal(size=len(table))
                             for name, has in CELLS.items() if "DGR" in has.split()})
    Results(results.folder / report.AGAIN).add("ablations", [weaker], {}, 1)
    texts = page_of.again(frame := report.findings(results), report.repeated(results))
    line = next(text for text in texts if text.startswith("DGR improves accuracy, over the whole"))
    assert "At first: holds" in line and "Again: does not hold" in line
    page_of.write(results, tmp_path / "docs/findings.md", tmp_path / "gallery")
    page = (tmp_path / "docs/findings.md").read_text(encoding="utf-8")
    assert f"- {line}" in page and "## Run again" in page and page_of.summary(frame) in page
