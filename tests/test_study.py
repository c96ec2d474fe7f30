"""The study: units of work stand alone and are done once; answers come from tables, in the words of the notebooks."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gmiqa import cli, settings
from gmiqa.experiments import adaptation, graph_controls, study, study_gmiqa
from gmiqa.experiments.ablation_rows import CELLS
from gmiqa.experiments.questions import QUESTIONS, answers
from gmiqa.experiments.study_unit import PICTURE
from gmiqa.runs import study as runs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def p():
    return settings.load(ROOT / "params/study.yaml")


def predictions(columns, seeds=4, contents=8, each=12, noise=0.0):
    """Predictions of columns {name: error}: the target and normal noise of that size."""
    rng, n = np.random.default_rng(0), contents * each
    target = rng.uniform(0, 1, n)
    frames = [pd.DataFrame({"seed": seed, "picture": np.arange(n), "content": np.arange(n) // each, "target": target,
                            **{name: target + error * rng.normal(size=n) for name, error in columns.items()}})
              for seed in range(seeds)]
    return pd.concat(frames).set_index(list(PICTURE))


def by_claim(tables):
    return {question.claim: (question, answer) for question, answer in answers(tables)}


def test_tables_of_units_become_one_with_a_column_for_each_arm():
    one, other = predictions({"full": 0.1}, seeds=2), predictions({"BL": 0.3}, seeds=1)
    table = study.joined([one, other], PICTURE)
    assert table["full"].notna().sum() == 2 * 96 and table["BL"].notna().sum() == 96
    again = study.joined([table, predictions({"BL": 0.3}, seeds=2)], PICTURE)
    assert list(again.index.names) == list(PICTURE) and again["BL"].notna().all()


def test_finished_units_are_known_by_seed(p):
    table = study.joined([predictions({"full": 0.1}, seeds=2), predictions({"BL": 0.3}, seeds=1)], PICTURE)
    ablations = study.EXPERIMENTS["ablations"]
    assert ablations.finished(table, p, (0,)) == ["full", "BL"] and ablations.finished(table, p, (1,)) == ["full"]
    assert ablations.finished(table, p, (2,)) == [] == ablations.finished(study.joined([], PICTURE), p, (0,))


def test_the_factorial_comes_first(p):
    units = study.EXPERIMENTS["ablations"].units(p, (0,))
    assert set(units[:8]) == set(CELLS) and len(units) == 17 and units[-1] == "whole"


def test_a_better_arm_is_found_better_and_an_equal_one_equal():
    factorial = {name: 0.2 - 0.05 * has.count("DGR") for name, has in CELLS.items()}
    table = predictions({**factorial, "plain_DGR": 0.15, "V_only": 0.4})
    table["plain_Meta"] = table["full"] + np.random.default_rng(1).normal(0, 0.001, len(table))
    found = by_claim({"ablations": table})
    outcome = {claim: answer and answer.outcome for claim, (_, answer) in found.items()}
    assert outcome["DGR improves accuracy, over the whole factorial of SC, Meta and DGR"] == "better"
    assert outcome["Meta pre-training is worth more than as much plain training"] == "no difference"
    assert outcome["The edges help the score beyond the nodes alone"] == "worse"  # which is what the claim wants
    assert outcome["Whole pictures are scored better than crops"] is None  # its row was not trained
    effect = found["SC improves accuracy, over the whole factorial of SC, Meta and DGR"][1]
    assert effect.runs == 4 and effect.n == 8


def test_two_seeds_answer_nothing():
    assert all(answer is None for _, answer in answers({"ablations": predictions({"full": 0.1, "V_only": 0.4}, 2)}))


def test_adaptation_counts_pairs_of_type_and_seed():
    rng = np.random.default_rng(0)
    rows = [{"fold": t % 5, "seed": s, "type": t, "shots": n, "step": step, "plain": plain, adaptation.FLOOR: 1.0,
             "maml": plain * (0.8 if step else 1.2)}
            for t in range(1, 26) for s in range(5) for n in (5, 20) for step in (0, 10)
            for plain in [np.exp(rng.normal(0, 0.05))]]
    table = pd.DataFrame(rows).set_index(list(study_gmiqa.ADAPTED))
    answer = by_claim({"adaptation": table})[next(q.claim for q in QUESTIONS if q.experiment == "adaptation")][1]
    assert answer.outcome == "better" and answer.n == 125 and answer.runs == 5
    assert answer.delta == pytest.approx(np.log(0.8), abs=1e-6)


def test_graphs_compare_arms_and_losses():
    rng = np.random.default_rng(0)
    rows = [{"seed": s, "outcome": outcome, "unit": u, "arm": arm, "ours": base + 0.2 * (arm == "as trained")
             + rng.normal(0, 0.01), study_gmiqa.START: base}
            for outcome, arms in (("type", ("as trained", "none (A = I)")), ("neighbour", ("as trained",)),
                                  ("sigma", (study_gmiqa.KL, study_gmiqa.SAMPLED)))
            for arm in arms for s in range(3) for u in range(6) for base in [rng.uniform(0.3, 0.5)]]
    found = by_claim({"graphs": pd.DataFrame(rows).set_index(list(study_gmiqa.JUDGED))})
    assert found["Edges make the type of a graph easier to name (N = 16, our losses)"][1].outcome == "better"
    codes = found["Graph pre-training with our losses makes type codes discriminative"][1]
    assert codes.outcome == "better" and (codes.n, codes.runs) == (6, 3)


def test_questions_have_the_words_of_the_notebooks():
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "notebooks").glob("*.ipynb")))
    for claim in ("Meta-training adapts to unseen distortion types better than plain training with equal computing",
                  "A meta-trained network adapts to unseen types better than the mean of their labels does",
                  "Quality-aware pre-training raises SROCC over the same start without it",
                  "The quality-aware loss raises SROCC over the squared error",
                  "The stack raises SROCC over its best member"):
        assert claim in text and claim in [q.claim for q in QUESTIONS]
    assert len({q.claim for q in QUESTIONS}) == len(QUESTIONS)
    asked = sum(claim in q.claim for q in QUESTIONS for claim in graph_controls.CLAIMS.values())
    assert asked == len(graph_controls.CLAIMS)


def test_the_page_written_before_names_every_margin_and_family():
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if re.match(r"\| .* \| 0\.\d+ \|", line)]
    written = {(row[6].strip(), float(row[5])) for row in rows}
    assert {(q.family, q.margin) for q in QUESTIONS} == written
    counts = [int(n) for row in rows for n in re.findall(r"\((?:\w.*: )?(\d+) claims?\)", row[1]) or ["1"]]
    assert sum(counts) == len(QUESTIONS)


def test_a_unit_is_done_once_and_never_beside_other_settings(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, count in (("learn", 6), ("test", 2)):
        (tmp_path / name).mkdir()
        for k in range(count):
            Image.fromarray(rng.integers(0, 256, (72, 96, 3), dtype=np.uint8)).save(tmp_path / name / f"{k}.png")
    command = ["study", str(ROOT / "params/tiny.yaml"), "-p", f"data={tmp_path / 'learn'}", "-p",
               f"test_data={tmp_path / 'test'}", "-p", "ablation_rows=[BL]", "-p", "ablation_seeds=1", "--only",
               "ablations", "--to", str(tmp_path / "to"), "--work", str(tmp_path / "work")]
    assert cli.main(command) == 0
    first = (tmp_path / "to/ablations.csv.gz").read_bytes()
    table = runs.Results(tmp_path / "to").table("ablations")
    assert table["BL"].notna().sum() == 25 and table.index.get_level_values("content").nunique() == 1
    assert not list((tmp_path / "work").rglob("*.ckpt"))
    capsys.readouterr()
    assert cli.main(command) == 0 and "0 units left" in capsys.readouterr().out
    assert (tmp_path / "to/ablations.csv.gz").read_bytes() == first
    assert cli.main([*command, "-p", "finetune_steps=3"]) == 2
    assert "finetune_steps=3 (there: 2)" in capsys.readouterr().err
    assert cli.main(["study", "--only", "ablation"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_a_file_of_scores_is_known_by_what_it_holds(tmp_path):
    for name, text in (("here", "1"), ("there", "1"), ("other", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.csv").write_text(text)
    here, there, other = (runs.giving({"dataset_path": "", "csv": str(tmp_path / name / "scores.csv")})
                          for name in ("here", "there", "other"))
    assert here == there != other and "scores.csv" not in str(here)
    assert runs.giving({"dataset_path": str(tmp_path / "other"), "csv": "scores.csv"})["csv"] == other["csv"]
    assert runs.giving({"csv": "", "seed": 1}) == {"csv": "", "seed": 1}
