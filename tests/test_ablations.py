"""Every ablation row is an overlay over the very recipes of the notebooks; pictures to score come level by level."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa import recipes, settings
from gmiqa.data import cells, synthetic
from gmiqa.experiments import ablations
from gmiqa.widgets.embeddings import spread_out
from gmiqa.widgets.errors import error_browser, worst_rows
from gmiqa_core import training
from gmiqa_core.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def p():
    return settings.load(ROOT / "params/tiny.yaml", overrides={"finetune_contents": 2, "ablation_pictures": 20})


@pytest.fixture(scope="module")
def contents():
    generator = torch.Generator().manual_seed(0)
    return [synthetic.Reference(f"c{k}", ("photograph", "generated")[k % 2], torch.randint(0, 256, (3, 72, 96),
            dtype=torch.uint8, generator=generator)) for k in range(10)]  # fmt: skip


@pytest.fixture
def bench(p, contents, monkeypatch):
    monkeypatch.setattr(synthetic, "references", lambda source, limit=None: contents)
    return ablations.bench(p)


@pytest.mark.parametrize("row", ablations.ROWS, ids=lambda row: row.name)
def test_a_row_is_an_overlay_that_builds(row, p):
    q = ablations.settings_of(row, p)
    model = recipes.new_network(q, 0)
    plain = row.name in ("BL", "DGR", "no_SC", "Meta_only", "DGR_only", "none")
    assert model.config["self_calibrated"] != plain
    assert row.against in {"", *(r.name for r in ablations.ROWS)}


def test_the_factorial_holds_every_combination_once(p):
    parts = {}
    for name, has in ablations.CELLS.items():
        q = ablations.settings_of(ablations.rows([name])[0], p)
        parts[name] = {"SC": q.self_calibrated, "Meta": q.meta_steps > 0, "DGR": q.graph_steps > 0}
        assert {part for part, there in parts[name].items() if there} == set(has.split())
    assert len({tuple(part.values()) for part in parts.values()}) == 8


def test_the_full_row_trains_what_the_notebooks_train(p, contents, bench, tmp_path, monkeypatch):
    """What reaches the loop from row `full` is what reaches it from notebooks 20, 30 and 40, but for steps."""
    calls = []

    def recorded(model, objective, *, identity=None, evaluate=None, **loop):
        plain = {k: v for k, v in loop.items() if k not in ("folder", "report", "label", "parameter_groups")}
        groups = [group["lr"] for group in loop.get("parameter_groups") or ()]
        calls.append({**plain, "groups": groups, **{k: v for k, v in (identity or {}).items() if k != "pool"},
                      "pool": {k: v for k, v in (identity or {}).get("pool", {}).items() if k != "by"}})
        return training.History([], {}, {}, 0.0)

    monkeypatch.setattr(training, "train", recorded)
    q = p.replaced(precision="fp32")
    learn = recipes.references(q).train
    model = recipes.new_network(q, 0)
    recipes.meta_pretrain(q, model, recipes.meta_pool(q, learn), 0, tmp_path)
    recipes.graph_pretrain(q, model, recipes.graph_pool(q, learn), tmp_path, 0)
    recipes.fine_tune(q, model, bench.scored, tmp_path, 0, recipes.branch_pool(q, learn))
    by_hand, calls[:] = list(calls), []
    ablations.train(ablations.rows(["full"])[0], p, bench, 0, tmp_path)
    assert len(calls) == len(by_hand) == 3
    for one, other in zip(by_hand, calls, strict=True):
        assert one == other


def test_what_a_row_leaves_out_is_not_trained(p):
    plan = ablations.plan(ablations.ROWS, p, 8).set_index("row")
    assert plan.loc["BL", ["meta", "graph"]].tolist() == [0, 0] and plan.loc["full", "graph"] > 0
    assert plan.loc["no_Meta", "meta"] == 0 and plan.loc["plain_DGR", "plain"] == "graph"
    assert plan["fine-tuning"].nunique() == 1, "fine-tuning is the same everywhere"


def test_rows_are_chosen_by_name_and_mistakes_are_named():
    assert [row.name for row in ablations.rows(["full", "BL"])] == ["BL", "full"]
    with pytest.raises(UserError, match="did you mean 'no_SC'"):
        ablations.rows(["no_sc"])


def test_rows_train_repeat_and_compare(p, bench, tmp_path):
    predictions, chosen = {}, ablations.rows(["BL", "plain_DGR", "full"])
    for row in chosen:
        made = [ablations.run(row, p, bench, seed, tmp_path / f"{row.name}{seed}") for seed in (0, 1)]
        runs = [values for values, _ in made]
        assert made[0][1]["row"] == row.name and not np.allclose(runs[0], runs[1])
        predictions[row.name] = np.stack(runs)
    again, cost = ablations.run(ablations.ROWS[0], p, bench, 1, tmp_path / "again")
    assert again == pytest.approx(predictions["BL"][1], abs=1e-6) and cost["seconds"] > 0
    kept, cost = ablations.run(ablations.ROWS[0], p, bench, 1, tmp_path / "BL1")
    assert np.array_equal(kept, predictions["BL"][1]) and np.isnan(cost["seconds"]), "a finished row is read"
    table = ablations.table(predictions, bench, chosen, p, margin=0.02)
    assert table.n.nunique() == 1 and table.srocc.between(-1, 1).all()


def test_a_main_effect_is_the_mean_over_the_pairs_that_differ_in_it(p, bench):
    rng, truth = np.random.default_rng(0), bench.target
    assert ablations.main_effects({"full": truth[None]}, bench, p, 0.02) == {}
    made = {name: np.stack([truth + (0.02 if "Meta" in has else 0.6) * rng.normal(size=len(truth)) for _ in range(3)])
            for name, has in ablations.CELLS.items()}
    effects = ablations.main_effects(made, bench, p, 0.02)
    assert effects["Meta"].delta > 0.2 > abs(effects["SC"].delta) and effects["Meta"].runs == 3, "the pairs are no runs"


def test_the_draws_of_two_seeds_never_meet(p):
    for q in (p, p.replaced(meta_steps=10_000, meta_tasks=5), p.replaced(graph_steps=40_000, graph_batch=8)):
        begins = sorted(ablations.beginning(q, seed) for seed in range(200))
        assert np.diff(begins).min() >= max(q.meta_steps * q.meta_tasks, q.graph_steps * q.graph_batch)
        assert begins[0] >= 10_000, "behind the steps in which a pool fills"


def test_every_type_comes_once_per_content_with_levels_in_turn(contents):
    shown = cells.about(contents[:2], 50, crop=32)
    assert len(cells.about(contents[:2], 25, crop=32)) == 25 and len(cells.about(contents[:2], 150, crop=32)) == 150
    assert len(shown) == 50 and not shown.facts.duplicated(["content", "type"]).any()
    assert set(shown.facts.level) == {1, 2, 3, 4, 5}
    assert (shown.facts.pivot(index="type", columns="content", values="level").nunique(axis=1) == 2).all()
    every = cells.every(contents[:1], levels=[2, 5], crop=32)
    assert len(every) == 50 and every.pictures[0].dtype == torch.uint8


def test_a_few_contents_hold_both_kinds(contents):
    assert [c.name for c in cells.both_kinds(contents[::-1], 2)] == ["c8", "c9"]


def test_the_error_browser_shows_the_worst_first():
    frame = pd.DataFrame({"method": "m", "part": "p", "type_title": ["a", "a", "b"], "level": 1, "content": "c",
                          "picture": [0, 1, 2], "target": [0.5, 0.5, 0.5], "prediction": [0.5, 0.9, 0.2]})  # fmt: skip
    assert worst_rows(frame, "m").picture.tolist() == [1, 2, 0]
    assert worst_rows(frame, "m", type="b").picture.tolist() == [2] and worst_rows(frame, "m", part="q").empty
    figure = error_browser(frame, lambda k: torch.zeros(3, 40, 60, dtype=torch.uint8), ["m"])
    assert "predicted 0.90" in figure.axes[0].texts[0].get_text()


def test_shown_points_lie_apart():
    Y = np.random.default_rng(0).normal(size=(200, 2))
    chosen = spread_out(Y, 12)
    place = (Y / np.ptp(Y, axis=0))[chosen]
    distance = np.linalg.norm(place[:, None] - place, axis=2) + np.eye(len(place))
    assert 3 < len(chosen) <= 12 and distance.min() > 0.12
