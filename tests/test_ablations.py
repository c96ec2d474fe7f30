"""Every ablation row is an overlay that builds, costs the same, and trains; pictures to score come level by level."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa.data import synthetic
from gmiqa.data.synthetic import shown as pictures
from gmiqa.experiments import ablations
from gmiqa.widgets.embeddings import spread_out
from gmiqa.widgets.errors import error_browser, worst_rows
from gmiqa_core import network
from gmiqa_core.errors import UserError

SMALL = SimpleNamespace(ablation_whole=64, ablation_crop=32, ablation_steps=3, ablation_batch=4, ablation_lr=0.002,
                        preset="tiny", finetune_graph="singleton")  # fmt: skip


@pytest.fixture(scope="module")
def contents():
    generator = torch.Generator().manual_seed(0)
    return [synthetic.Content(f"c{k}", ("photograph", "generated")[k > 0], torch.randint(0, 256, (3, 48, 64),
            dtype=torch.uint8, generator=generator)) for k in range(3)]  # fmt: skip


@pytest.fixture(scope="module")
def bench(contents):
    return ablations.bench(contents[:2], contents[2:], SMALL)


@pytest.mark.parametrize("row", ablations.ROWS, ids=lambda row: row.name)
def test_a_row_is_an_overlay_that_builds(row):
    options = ablations.switches(ablations.overlay(row))
    model = network.build("tiny", **options)
    assert model.config["self_calibrated"] == (row.name not in ("BL", "DGR", "no_SC"))
    assert row.against in {"", *(r.name for r in ablations.ROWS)}


def test_rows_cost_the_same_pixels(bench):
    bench = SimpleNamespace(**{**vars(bench), "steps": 300, "batch": 16})
    pixels = {row.name: ablations.plan(ablations.overlay(row), bench).pixels.sum() for row in ablations.ROWS}
    assert max(pixels.values()) / min(pixels.values()) < 1.05


def test_what_a_row_leaves_out_is_not_trained(bench):
    stages = {row.name: set(ablations.plan(ablations.overlay(row), bench).index) for row in ablations.ROWS}
    assert stages["BL"] == {"finetune"} and stages["full"] == {"meta", "graph", "finetune"}
    assert stages["no_Meta"] == {"graph", "finetune"} and stages["no_DGR"] == {"meta", "finetune"}


def test_rows_are_chosen_by_name_and_mistakes_are_named():
    assert [row.name for row in ablations.rows(["full", "BL"])] == ["BL", "full"]
    with pytest.raises(UserError, match="did you mean 'no_SC'"):
        ablations.rows(["no_sc"])


def test_rows_train_repeat_and_compare(bench, tmp_path):
    predictions = {}
    for row in ablations.rows(["BL", "full"]):
        runs = []
        for seed in (0, 1):
            model, cost = ablations.train(row, bench, seed, tmp_path / f"{row.name}{seed}")
            runs.append(ablations.predict(model, row, bench))
        assert cost["row"] == row.name and not np.allclose(runs[0], runs[1])
        predictions[row.name] = np.stack(runs)
    again, _ = ablations.train(ablations.ROWS[0], bench, 1, tmp_path / "again")
    assert ablations.predict(again, ablations.ROWS[0], bench) == pytest.approx(predictions["BL"][1], abs=1e-6)
    table = ablations.table(predictions, bench, ablations.rows(["BL", "full"]), 50)
    assert table.n.tolist() == [1, 1] and table.srocc.between(-1, 1).all()


def test_every_type_comes_once_per_content_with_levels_in_turn(contents):
    shown = pictures.in_turn(contents[:2], crop=32)
    assert len(shown) == 50 and not shown.facts.duplicated(["content", "type"]).any()
    assert set(shown.facts.level) == {1, 2, 3, 4, 5}
    assert (shown.facts.pivot(index="type", columns="content", values="level").nunique(axis=1) == 2).all()
    every = pictures.every(contents[:1], levels=[2, 5], crop=32)
    assert len(every) == 50 and every.pictures[0].dtype == torch.uint8


def test_a_few_contents_hold_both_kinds(contents):
    assert [c.name for c in pictures.both_kinds(contents[::-1], 2)] == ["c0", "c2"]


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
