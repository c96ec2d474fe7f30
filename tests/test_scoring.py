"""Scoring: one picture, many, and the map. The model is untrained: properties are tested, not its opinion."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gmiqa.data import images
from gmiqa.score import QualityMap, Scorer
from gmiqa.score import scorer as scorer_module
from gmiqa_core import checkpoints, network, prediction
from gmiqa_core.errors import UserError

META = {
    "target": "the mean opinion of a test",
    "quality_percentiles": [i / 100 for i in range(101)],
    "sigma_scale": 1.5,
    "temperature": 2.0,
    "max_side": 128,
    "crop": 64, "views": 3, "turn": True,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    return checkpoints.save(network.build("tiny"), tmp_path_factory.mktemp("model") / "model.safetensors", **META)


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return Scorer(checkpoint, "cpu", workers=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve small pictures of five sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        images.write(picture(i), folder / f"{i:02d}.png")
    return folder


def picture(i: int) -> torch.Tensor:
    sizes = [(96, 128), (128, 96), (200, 160), (40, 300), (20, 24)]
    generator = torch.Generator().manual_seed(i)
    coarse = torch.rand(1, 3, 6, 7, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, sizes[i % 5], mode="bicubic").clamp(0, 1)[0]
    return (smooth * 255).round().to(torch.uint8)


def same(a, b):
    return (a.quality, a.sigma, a.severity, a.distortions) == (b.quality, b.sigma, b.severity, b.distortions)


def test_a_score_has_ranges_and_says_whose_opinion_it_is(scorer, folder):
    score = scorer.score(folder / "00.png")
    assert 0 <= score.low <= score.quality <= score.high <= 100
    assert score.sigma > 0 and 0 <= score.severity <= 1
    assert score.percentile == pytest.approx(score.quality)  # the fixture's percentiles are the identity
    assert (score.width, score.height, score.target) == (128, 96, META["target"])
    assert len(score.distortions) == 26 and sum(p for _, p in score.distortions) == pytest.approx(1)
    assert score.probability == max(p for _, p in score.distortions)
    assert str(score).startswith("quality ")


def test_a_network_tuned_on_crops_scores_as_in_its_own_tests(scorer, folder):
    score, shown = scorer.score(folder / "02.png"), images.Decoded([folder / "02.png"], 128)
    expected = prediction.predict(scorer.model.network, shown, crops=3, crop=64, turn=True)
    assert score.quality == pytest.approx(100 * expected.mu[0], abs=1e-3)
    assert score.sigma == pytest.approx(150 * expected.sigma[0], rel=1e-4)
    whole = prediction.predict(scorer.model.network, shown).mu[0]
    assert abs(score.quality / 100 - whole) > 1e-4, "crops and the whole agree: this test shows nothing"


def test_a_network_tuned_on_whole_pictures_sees_them_whole(folder):
    scorer = Scorer(model=network.build("tiny"), meta={"max_side": 128, "crop": 0, "views": 8}, device="cpu")
    expected = prediction.predict(scorer.model.network, images.Decoded([folder / "02.png"], 128))
    assert scorer.score(folder / "02.png").quality == pytest.approx(100 * expected.mu[0], abs=1e-3)


def test_the_same_picture_gives_exactly_the_same_score_from_everywhere(scorer, folder):
    for i in range(5):
        path = folder / f"{i:02d}.png"
        score = scorer.score(path)
        array = np.array(Image.open(path))
        for source in (
            str(path),
            path.read_bytes(),
            Image.open(path),
            array,
            images.read(path),
            images.read(path) / 255,
        ):
            assert same(scorer.score(source), score)


def test_alone_and_in_a_stream_scores_are_bitwise_equal_and_in_order(scorer, folder):
    paths = sorted(folder.iterdir())
    many = list(scorer.score_many(paths))
    assert [s.path for s in many] == [str(path) for path in paths]
    assert all(same(scorer.score(path), s) for path, s in zip(paths, many, strict=True))
    assert all(same(a, b) for a, b in zip(many, reversed(list(scorer.score_many(reversed(paths)))), strict=True))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(checkpoint, scorer, folder, workers):
    other = Scorer(checkpoint, "cpu", workers=workers)
    pairs = zip(other.score_many(folder.iterdir()), scorer.score_many(folder.iterdir()), strict=True)
    assert all(same(a, b) for a, b in pairs)


def test_pictures_of_equal_size_share_a_pass_on_a_gpu_and_agree(checkpoint, scorer, folder, monkeypatch):
    """The GPU's route, run on a CPU: batched scores agree with single ones to 0.01 of 100."""
    batched = Scorer(checkpoint, "cpu")
    monkeypatch.setattr(batched, "device", torch.device("meta"))
    monkeypatch.setattr(batched, "model", scorer.model)
    monkeypatch.setattr(scorer_module, "GPU_BATCH", 5)
    paths = [*sorted(folder.iterdir()), folder / "missing.png"]
    scores = list(batched.score_many(paths))
    assert [s.path for s in scores] == [str(p) for p in paths] and scores[-1].error
    for path, score in zip(paths[:-1], scores, strict=False):
        assert score.quality == pytest.approx(scorer.score(path).quality, abs=0.01)


def test_an_unreadable_picture_is_an_error_alone_and_a_row_in_a_stream(scorer, folder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((folder / "00.png").read_bytes()[:200])
    with pytest.raises(images.ImageError, match="broken.png"):
        scorer.score(broken)
    good, bad, after = scorer.score_many([folder / "00.png", broken, folder / "01.png"])
    assert not good.error and not after.error and math.isnan(bad.quality)
    assert bad.path == str(broken) and "broken.png" not in bad.error and bad.distortion == ""


def test_a_stream_is_consumed_only_a_little_ahead(scorer, folder):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield folder / "00.png"

    stream = scorer.score_many(endless())
    for _ in range(3):
        next(stream)
    stream.close()
    assert len(taken) <= 3 + 2 * scorer.workers


def test_scoring_leaves_its_input_and_torchs_threads_alone(scorer):
    x = torch.rand(3, 64, 80)
    before, threads = x.clone(), torch.get_num_threads()
    scorer.score(x)
    assert torch.equal(x, before) and torch.get_num_threads() == threads


def test_extreme_shapes_are_scored(scorer):
    for shape in ((1, 1), (1, 3000), (3000, 1), (31, 33)):
        score = scorer.score(np.full((*shape, 3), 90, np.uint8))
        assert 0 <= score.quality <= 100 and (score.height, score.width) == shape


def test_the_map_covers_the_picture_and_points_at_its_lowest_cell(scorer, folder):
    quality_map = scorer.quality_map(folder / "02.png")
    assert (quality_map.width, quality_map.height) == (160, 200)
    assert quality_map.values.shape[0] > quality_map.values.shape[1] and quality_map.values.min() >= 0
    values = np.full((8, 10), 50.0)
    values[6, 1] = 10
    x, y = QualityMap(values, 200, 80).worst
    assert (x, y) == (30, 65)


def test_a_map_of_one_bad_quadrant_is_lowest_there(checkpoint, monkeypatch):
    """With a network that sees noise (here: its variance), the blending keeps the place."""
    scorer = Scorer(checkpoint, "cpu")
    scorer.model.max_side = 512
    monkeypatch.setattr(scorer.model, "forward", lambda x, *longer: 1 - x.var().double().expand(1, 29))
    for quadrant in range(4):
        x = torch.full((3, 384, 512), 0.5)
        top, left = 192 * (quadrant // 2), 256 * (quadrant % 2)
        x[:, top : top + 192, left : left + 256] = torch.rand(3, 192, 256, generator=torch.manual_seed(0))
        column, row = scorer.quality_map(x).worst
        assert top <= row < top + 192 and left <= column < left + 256


def test_without_a_bundled_model_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(scorer_module, "BUNDLED", tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="--checkpoint"):
        Scorer()


def test_the_checkpoint_that_notebook_40_saves_scores_pictures(tmp_path):
    made = checkpoints.save(network.build("tiny"), tmp_path / "finetuned.safetensors", stage="40_fine_tuning",
                            max_side=64,
                        dataset="synthetic", split="0", seed=0, held_out=[10], crop=32, views=8, turn=True)
    score = Scorer(made, "cpu").score(np.zeros((48, 80, 3), np.uint8))
    assert 0 <= score.quality <= 100 and score.sigma > 0


def test_foreign_checkpoints_and_devices_are_refused_by_name(tmp_path, checkpoint):
    foreign = tmp_path / "model.pt"
    torch.save({"weights": torch.zeros(3)}, foreign)
    truncated = tmp_path / "half.safetensors"
    truncated.write_bytes(checkpoint.read_bytes()[:5000])
    for path in (foreign, truncated, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match=path.name):
            Scorer(path)
    with pytest.raises(UserError, match="gpu9"):
        Scorer(checkpoint, "gpu9")
    with pytest.raises(UserError, match="score head"):
        Scorer(model=network.build("tiny", branches=("type", "level")))


def test_a_model_with_a_score_head_alone_still_scores(folder):
    score = Scorer(model=network.build("tiny", branches=("score",)), device="cpu").score(folder / "00.png")
    assert 0 <= score.quality <= 100 and score.distortion == "" and math.isnan(score.severity)


def test_importing_the_package_loads_no_torch():
    code = "import sys, gmiqa; assert 'torch' not in sys.modules; gmiqa.Scorer; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
