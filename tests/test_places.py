"""Places: what is learned from partly distorted pictures finds the spoiled part of others; the file, and the map."""

import numpy as np
import pytest
import torch

from gmiqa_core import network, synthetic
from gmiqa_core.distortions import distort
from gmiqa_core.scoring import Scorer, places
from gmiqa_core.scoring.places import Places, look, partly_distorted
from gmiqa_core.scoring.scorer import BUNDLED
from gmiqa_core.settings import UserError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return network.build("tiny", statistics=True, stem_start="dct").eval()


@pytest.fixture(scope="module")
def seeing():
    """The bundled network: a random one hardly sees noise."""
    return network.load(BUNDLED, "cpu")[0]


@pytest.fixture(scope="module")
def learned(seeing):
    scenes = [c.image for c in synthetic.contents("embedded", limit=20) if c.kind == "generated"]
    return places.fit(seeing, scenes, 256, seed=0, count=160, steps=500)


def test_statistics_of_a_place_are_those_of_its_window(model):
    x = torch.rand(3, 160, 224)
    seen = look(model, x)
    stage = model.backbone((x[None] - model.mean) / model.std)[0][0]  # stride 4: a place is 8 x 8, its window 24 x 24
    window = stage[:, 8:32, 16:40].flatten(1)
    n = len(stage)
    assert seen.shape[1:] == (5, 7)
    torch.testing.assert_close(seen[:n, 2, 3], window.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(seen[n:2 * n, 2, 3], window.std(1, correction=0), atol=2e-3, rtol=1e-3)
    assert look(model, torch.rand(3, 33, 400)).shape[1:] == (1, 12)


def test_a_partly_distorted_picture_differs_where_its_severity_says():
    x, rng = torch.rand(3, 96, 128), np.random.default_rng(0)
    seen = [partly_distorted(x, rng) for _ in range(30)]
    assert any(not severity.any() for _, severity in seen)  # undistorted ones are among them
    for y, severity in seen:
        outside = severity == 0
        assert torch.equal((y * 255).round()[:, outside], (x * 255).round()[:, outside]) and severity.max() <= 1
        if not outside.all():
            assert not torch.equal(y, x)
    again = partly_distorted(x, np.random.default_rng(0))
    assert torch.equal(again[0], seen[0][0])


def test_the_spoiled_quadrant_of_an_unseen_picture_is_found(seeing, learned):
    hits = []
    for number, content in enumerate(synthetic.contents("embedded", limit=4)):
        x = next(synthetic.test_batches([content], types=[0], whole=(192, 256))).images[0]
        for place, kind in enumerate(("white_noise", "impulse_noise", "quantisation", "denoise_dct")):
            h, w = x.shape[1] // 2, x.shape[2] // 2
            part = (slice(h * (place // 2), h * (place // 2) + h), slice(w * (place % 2), w * (place % 2) + w))
            spoiled = x.clone()
            spoiled[:, *part] = distort(x[None], kind, 5, [number])[0][:, *part]
            severity = learned.severity(seeing, spoiled)
            rows, columns = severity.shape
            row, column = divmod(int(severity.argmax()), columns)
            hits.append((row + 0.5 >= rows / 2, column + 0.5 >= columns / 2) == (place // 2 == 1, place % 2 == 1))
    assert np.mean(hits) > 0.6, hits  # chance is 0.25


def test_a_file_gives_the_same_places_and_the_map_shares_the_score_out(seeing, learned, tmp_path):
    learned.save(tmp_path / "places.safetensors")
    checkpoint = network.save(seeing, tmp_path / "model.safetensors", places="places.safetensors", max_side=256)
    scorer = Scorer(checkpoint, "cpu")
    x = synthetic.contents("embedded", limit=1)[0].image
    assert Places.load(tmp_path / "places.safetensors").severity(seeing, torch.rand(3, 64, 64)).shape == (2, 2)
    values = scorer.quality_map(x).values
    assert values.mean() == pytest.approx(scorer.score(x).quality, abs=2) and values.std() > 0
    assert np.array_equal(values, Scorer(checkpoint, "cpu", workers=1).quality_map(x).values)


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_foreign_file_is_no_model_of_places(content, tmp_path):
    path = tmp_path / "places.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="places.safetensors"):
        Places.load(path)
    with pytest.raises(UserError, match="0.weight"):
        Places({})
