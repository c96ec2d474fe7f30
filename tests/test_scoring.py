"""Scoring: one picture, many, and the map. The model is untrained: properties are tested, not its opinion."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gmiqa.data import images
from gmiqa.release.export import export
from gmiqa.score import QualityMap, Score, Scorer, crops
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
def trained(tmp_path_factory):
    """A network and its file, in half precision as the bundled one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    checkpoints.save(network.build("tiny"), path, torch.float16, **META)
    return checkpoints.load(path)[0], path


@pytest.fixture(scope="module", params=["safetensors", "onnx"])
def checkpoint(request, trained):
    """The file for PyTorch, and the file for onnxruntime."""
    path = trained[1].with_suffix(f".{request.param}")
    if request.param == "onnx":
        export(trained[1], path)
    return path


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


def test_a_network_tuned_on_crops_scores_as_in_its_own_tests(scorer, trained, folder):
    score, shown = scorer.score(folder / "02.png"), images.Decoded([folder / "02.png"], 128)
    expected = prediction.predict(trained[0], shown, crops=3, crop=64, turn=True)
    assert score.quality == pytest.approx(100 * expected.mu[0], abs=1e-3)
    assert score.sigma == pytest.approx(150 * expected.sigma[0], rel=1e-4)
    whole = prediction.predict(trained[0], shown).mu[0]
    assert abs(score.quality / 100 - whole) > 1e-4, "crops and the whole agree: this test shows nothing"


def test_a_network_tuned_on_whole_pictures_sees_them_whole(folder):
    scorer = Scorer(model=network.build("tiny"), meta={"max_side": 128, "crop": 0, "views": 8}, device="cpu")
    expected = prediction.predict(scorer.engine.network, images.Decoded([folder / "02.png"], 128))
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
    monkeypatch.setattr(scorer.model, "judge", lambda x, *longer: {"mu": 1 - x.var()[None]})
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
    truncated = tmp_path / f"half{checkpoint.suffix}"
    truncated.write_bytes(checkpoint.read_bytes()[:5000])
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    for path in (foreign, truncated, empty, tmp_path / "none.onnx", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match=path.name):
            Scorer(path)
    with pytest.raises(UserError, match="gpu9"):
        Scorer(checkpoint, "gpu9")
    with pytest.raises(UserError, match="score head"):
        Scorer(model=network.build("tiny", branches=("type", "level")))


def test_a_model_with_a_score_head_alone_still_scores(folder):
    score = Scorer(model=network.build("tiny", branches=("score",)), device="cpu").score(folder / "00.png")
    assert 0 <= score.quality <= 100 and score.distortion == "" and math.isnan(score.severity)


def test_a_map_comes_with_the_score_and_is_the_same_alone(scorer, folder):
    alone = scorer.score(folder / "02.png", with_map=True)
    assert same(alone, scorer.score(folder / "02.png")) and scorer.score(folder / "02.png").map is None
    (streamed,) = scorer.score_many([folder / "02.png"], with_map=True)
    for other in (streamed.map, scorer.quality_map(folder / "02.png")):
        assert np.array_equal(alone.map.values, other.values) and (other.width, other.height) == (160, 200)


def test_a_network_that_knows_places_shares_its_score_out_among_them(folder):
    scorer = Scorer(model=network.build("tiny", branches=("score", "local")), meta={"max_side": 128}, device="cpu")
    score = scorer.score(folder / "00.png", with_map=True)
    assert score.map.values.shape == (96 // 16, 128 // 16)
    assert score.map.values.mean() == pytest.approx(score.quality, abs=0.5)


def test_a_score_as_a_dictionary_is_plain_json(scorer, folder):
    score = scorer.score(folder / "00.png", with_map=True)
    plain = json.loads(json.dumps(score.as_dict(), allow_nan=False))
    assert plain["quality"] == score.quality and plain["distortion"] == score.distortion and "map" not in plain
    assert plain["distortions"] == dict(score.distortions) and plain["cause"] in ("", score.distortion)
    assert Score(error="broken").as_dict()["quality"] is None
    assert Score(distortions=(("none of these", 0.9),)).cause == ""


def test_numpy_crops_and_area_averages_are_those_of_the_training():
    x = torch.rand(3, 70, 93, generator=torch.manual_seed(0))
    for k in range(8):
        for crop, turn in ((64, True), (64, False), (200, True)):
            expected = prediction.crop_of(x, k, crop, turn)
            assert np.array_equal(crops.crop_of(x.numpy(), k, crop, turn), expected.numpy())
    for factor in (0.7, 0.5, 0.2):
        size = [max(32, round(side * factor)) for side in x.shape[1:]]
        expected = torch.nn.functional.interpolate(x[None], size, mode="area").numpy()
        assert np.allclose(crops.shrunk(x[None].numpy(), factor), expected, atol=1e-6)
    assert np.array_equal(crops.shrunk(x.numpy(), 1.0), x.numpy())
