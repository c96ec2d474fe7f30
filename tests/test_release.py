"""The scoring model: versions, what it learns in a step, its calibration, and the command that makes it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from gmiqa.cli import main
from gmiqa.data import images, synthetic
from gmiqa.data.distortions import calibration
from gmiqa.data.pictures import Pictures
from gmiqa.release import behaviour, calibrate, opinion, versions
from gmiqa.release.judging import LEAST_SEVERITY, Judging, Mixture, regions
from gmiqa.score import Scorer
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError
from gmiqa_core.local_quality import STEP

CPU = torch.device("cpu")
SMALL = Mixture(scored=6, contents=3, versions=4, regions=4)


@pytest.fixture(scope="module")
def contents():
    return [images.limit(c.image, 110) for c in synthetic.references("embedded", limit=10)]


@pytest.fixture(scope="module")
def made(contents):
    return versions.make(contents[:6], [(5, 2)] * 6, 64, 3, CPU)


@pytest.fixture(scope="module")
def goal(contents, made):
    scored = Pictures([images.limit(c, 96) for c in contents[:6]] * 2, torch.linspace(0.2, 0.8, 12), torch.zeros(12))
    return Judging(scored, made, (scored.quality > 0.5).float(), 64, 3, SMALL)


def test_every_content_has_one_undistorted_version_and_levels_of_its_types(made):
    assert made.table.shape == (6 * 11, 3)
    for content, rows in enumerate(made.rows):
        assert (made.table[rows, 0] == content).all() and made.kind[rows[0]] == 0
        assert sorted(pd.Series(made.kind[rows[1:]]).value_counts()) == [2] * 5
        assert len({(made.pictures.heights[r], made.pictures.widths[r]) for r in rows}) == 1
    assert min(made.pictures.heights.min(), made.pictures.widths.min()) >= 64
    assert made.share[made.kind == 0].tolist() == [1.0] * 6
    cell = made.table[5]
    assert made.lost[5] == pytest.approx(1 - calibration.quality(cell[1:2], cell[2:3])[0])


def test_the_same_place_is_cut_out_of_all_versions_of_a_content(made):
    rows = made.rows[2][:3]
    at, flip = np.array([[0.3, 0.9]] * 3), np.ones(3, int)
    windows = made.windows(rows, at, flip, 64)
    for window, row in zip(windows, rows, strict=True):
        h, w, start = (int(a[row]) for a in (made.pictures.heights, made.pictures.widths, made.pictures.starts))
        picture = made.pictures.memory[start:start + 3 * h * w].view(3, h, w)
        top, left = round(0.3 * (h - 64)), round(0.9 * (w - 64))
        assert torch.equal(window, picture[:, top:top + 64, left:left + 64].flip(-1))


def test_a_step_is_a_pure_function_of_its_number(goal):
    torch.manual_seed(0)
    model = network.build("quick", branches=("type", "level", "score", "local")).eval()
    first, again, other = (float(goal(model, step, 0)[0]) for step in (4, 4, 5))
    assert first == again != other


def test_regions_are_where_their_mask_says(goal):
    x, severity = goal.distorted_in_regions(np.random.default_rng(5))
    assert x.shape == (4, 3, 64, 64) and severity.shape == (4, 64 // STEP, 64 // STEP)
    assert 0 <= x.min() and x.max() <= 1 and severity.max() <= 1
    mask = regions(np.random.default_rng(1), 50, 64, CPU, (0.25, 0.8), (0.001,), ellipses=0.5)
    assert set(mask.unique().tolist()) <= {0.0, 1.0} or ((mask > 0) & (mask < 1)).float().mean() < 0.01
    assert 0.03 < mask.mean() < 0.4
    assert LEAST_SEVERITY < 1


def test_everything_asked_is_learned(goal, tmp_path):
    """On these few pictures every loss falls within some steps."""
    from gmiqa_core import training

    torch.manual_seed(0)
    model = network.build("quick", branches=("type", "level", "score", "local"))
    history = training.train(model, goal, steps=24, lr=3e-3, clip=5.0, folder=tmp_path, log_every=4, precision="fp32")
    table = history.metrics.pivot_table(index="step", columns="name", values="value")
    for name in ("scores", "types", "ordinary", "severity", "places"):
        assert table[name].iloc[-1] < table[name].iloc[0], name


def test_sigma_is_scaled_to_the_errors():
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.full((len(x),), 0.5), torch.full((len(x),), 0.1)

    quality = np.random.default_rng(0).normal(0.5, 0.2, 400)
    scale = calibrate.sigma_scale(Constant(), [torch.zeros(3, 32, 32, dtype=torch.uint8)] * 400, quality)
    assert scale == pytest.approx(2.0, rel=0.1)


def test_behaviour_of_one_who_knows_and_of_one_who_does_not():
    some = [replace(c, image=images.limit(c.image, 64)) for c in synthetic.references("embedded", limit=2)]
    known = iter(torch.cat([b.quality for b in synthetic.test_batches(some, types=range(26))]).split(126))
    kinds = next(synthetic.test_batches(some[:1], types=range(26))).type.numpy()
    frame = behaviour.cells(lambda x: (100 * next(known).numpy(), kinds), some)
    found = behaviour.falling(frame)
    assert found["srocc"] == pytest.approx(1) and found["named"] == 1 and found["rising"] == []
    assert found["level 5 below original"] == 1 and found["types that follow"] == 25
    rng = np.random.default_rng(0)
    blind = behaviour.falling(frame.assign(score=rng.random(len(frame)), named=0))
    assert abs(blind["srocc"]) < 0.3 and blind["distorted named"] == 0 and blind["falling steps"] < 75


def test_a_hit_is_a_place_in_the_distorted_quadrant():
    some = synthetic.references("embedded", limit=1)
    clean = next(synthetic.test_batches(some, types=[0])).images[0]

    def worst(pictures):
        changed = (pictures - clean).abs().sum(1).flatten(1).argmax(1)
        return [divmod(int(place), clean.shape[2])[::-1] for place in changed]

    assert behaviour.quadrants(worst, some)["hit"].mean() > 0.95
    assert 0.1 < behaviour.quadrants(lambda pictures: [(5, 5)] * 25, some)["hit"].mean() < 0.4


def test_the_second_opinion_changes_the_score_and_nothing_else(contents, tmp_path):
    torch.manual_seed(1)
    model = network.build("lite").eval()
    scored = Pictures([images.limit(c, 96) for c in contents[:8]], torch.linspace(0.2, 0.8, 8), torch.zeros(8))
    both = opinion.given(model, scored, "none", tmp_path, 3, "fp32")
    assert both.config["branches"] == [*model.config["branches"], "opinion"]
    assert all(torch.equal(value, both.state_dict()[name]) for name, value in model.state_dict().items())
    picture = scored.pictures[0][None].float() / 255
    with torch.no_grad():
        before, after, maps = model.judge(picture), both.judge(picture), both.maps(picture)
        mine = both.opinion(maps)
    kept = opinion.Maps.of(both, scored[[0]])
    last = kept.last.pictures[0]
    assert last.dtype == torch.float16
    assert both.opinion.of(last[None].float(), kept.moments).item() == pytest.approx(mine.item(), abs=2e-3)
    assert after.mu.item() == pytest.approx((before.mu.item() + mine.item()) / 2) != before.mu.item()
    assert torch.equal(after.mu, both(picture)[0])
    assert all(torch.equal(a, b) for a, b in zip(before[1:], after[1:], strict=True))


def test_the_second_opinion_learns_scores(contents, tmp_path, monkeypatch):
    monkeypatch.setattr(opinion, "EPOCHS", 25)
    dark = [images.limit((c.float() * share).to(torch.uint8), 64) for c in contents[:8] for share in (0.2, 0.5, 1.0)]
    scored = Pictures(dark, torch.tensor([0.1, 0.5, 0.9] * 8), torch.zeros(24))
    both = opinion.given(network.build("lite").eval(), scored, "none", tmp_path, 3, "fp32")
    with torch.no_grad():
        said = torch.cat([both.opinion(both.maps(p[None].float() / 255)) for p in scored.pictures])
    assert np.corrcoef(said, scored.quality)[0, 1] > 0.8


def test_a_network_without_imagenet_has_no_second_opinion():
    with pytest.raises(UserError, match="lite0"):
        network.build("quick", branches=("score", "opinion"))


def test_the_command_makes_a_model_and_then_one_of_all_pictures(contents, tmp_path, capsys):
    pristine, folder = tmp_path / "pristine", tmp_path / "set"
    pristine.mkdir()
    folder.mkdir()
    rows = []
    for k, content in enumerate(contents):
        images.write(content, pristine / f"c{k}.png")
        for j in range(5):
            name = f"p{k}{j}.png"
            images.write((content.float() * (0.4 + 0.15 * j)).clamp(0, 255).to(torch.uint8), folder / name)
            rows.append({"image": name, "score": 0.1 + 0.2 * j, "group": f"g{k}", "subset": "ab"[k % 2],
                         "split": "test" if k == 9 else "train"})
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    given = {"data": pristine, "dataset": "folder", "dataset_path": folder, "csv": folder / "scores.csv",
             "csv_group": "group", "csv_subset": "subset", "csv_split": "split", "split": "official", "max_side": 96,
             "preset": "lite", "finetune_crop": 64, "finetune_epochs": 0, "finetune_steps": 2, "finetune_batch": 6,
             "precision": "fp32", "run": tmp_path / "run"}
    command = ["bundle", *(f"-p={name}={value}" for name, value in given.items()), "--target", "a set"]
    assert main([*command, "--everything"]) == 2
    assert "calibration.json" in capsys.readouterr().err
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "map hits" in said and "90 % interval holds" in said
    facts = json.loads((tmp_path / "run" / "calibration.json").read_text())
    _, meta = checkpoints.load(tmp_path / "run" / "judging.safetensors")
    assert meta["sigma_scale"] == facts["sigma_scale"] and meta["data"]["pictures"] < 45
    assert main([*command, "--everything", "-o", str(tmp_path / "all")]) == 0
    shipped = Scorer(tmp_path / "all" / "model.onnx", "cpu").engine.meta
    assert shipped["data"]["pictures"] == 50 and shipped["temperature"] == facts["temperature"]
    assert shipped["target"] == "mean opinion of a set's viewers"
