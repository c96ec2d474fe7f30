"""Local quality: what is learned from locally distorted pictures finds the distorted region of others; file and map."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gmiqa.data import synthetic
from gmiqa.data.distortions import distort
from gmiqa.release import fit_local_quality
from gmiqa.release.fit_local_quality import BATCH, CLEAN, DEGRADED, SeverityLoss, gradually_changed, locally_distorted
from gmiqa.score import Scorer
from gmiqa.score.local_quality import COLOURS, STEP, LocalQuality
from gmiqa.score.quality_map import LARGEST
from gmiqa.score.scorer import BUNDLED
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return network.build("tiny", statistics=True, stem_start="dct").eval()


@pytest.fixture(scope="module")
def seeing():
    """The bundled network: a random one hardly sees noise."""
    return checkpoints.load(BUNDLED, "cpu")[0]


@pytest.fixture(scope="module")
def scenes():
    return [c.image for c in synthetic.references("embedded", limit=20) if c.kind == "generated"]


@pytest.fixture(scope="module")
def learned(seeing, scenes, tmp_path_factory):
    pictures = fit_local_quality.Pictures(scenes, scenes, scenes)
    return fit_local_quality.fit(seeing, pictures, 256, 0, 100, tmp_path_factory.mktemp("training"), side=96)


def test_moments_of_a_place_are_those_of_its_window(model):
    x, untrained = torch.rand(1, 3, 160, 224), LocalQuality.untrained(model).eval()
    got = untrained.windows(x)[0]
    maps = model.backbone((x - model.mean) / model.std)[0][0]  # stride 4: a place is 4 x 4, its window 12 x 12
    window, n, first = maps[:, 4:16, 8:20].flatten(1), len(maps), 2 * COLOURS
    assert got.shape[1:] == (10, 14)
    torch.testing.assert_close(got[first:first + n, 2, 3], window.mean(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got[first + n:first + 2 * n, 2, 3], window.std(1, correction=0), atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(got[:3, 2, 3], x[0, :, 16:64, 32:80].mean((1, 2)), atol=1e-5, rtol=1e-4)
    assert untrained.severity(torch.rand(3, 33, 400)).shape == (2, 25)


def test_crops_are_a_pure_function_of_the_step_and_lists_are_drawn_alike():
    dark, bright = torch.zeros(3, 80, 70, dtype=torch.uint8), torch.full((3, 300, 200), 255, dtype=torch.uint8)
    loss = SeverityLoss([[dark] * 9, [bright]], 256, 64, seed=3)
    drawn = [loss.draw(step) for step in range(4)]
    again = loss.draw(2)
    assert torch.equal(drawn[2][0], again[0]) and torch.equal(drawn[2][1], again[1])
    assert drawn[0][0].shape == (BATCH, 3, 64, 64) and drawn[0][1].shape == (BATCH, 64 // STEP, 64 // STEP)
    share = torch.cat([x.flatten(1).median(1).values > 0.5 for x, _ in drawn]).float().mean()
    assert 0.25 < share < 0.75


def test_mildly_distorted_crops_differ_where_nothing_is_locally_distorted(scenes):
    plain, mild = (SeverityLoss([scenes], 256, 64, 0, replace(CLEAN, mild=share)).draw(0) for share in (0.0, 1.0))
    assert (plain[0] - mild[0]).abs().amax((1, 2, 3)).min() > 0
    assert mild[1].amax((1, 2)).min() < 0.5 < mild[1].max(), "all over is no local distortion, a region of it is"


def test_a_locally_distorted_picture_differs_where_its_severity_says():
    x, rng = torch.rand(3, 96, 128), np.random.default_rng(0)
    seen = [locally_distorted(x, rng) for _ in range(120)]
    assert any(not severity.any() for _, severity in seen)  # undistorted ones are among them
    for y, severity in seen:
        outside = severity == 0
        assert torch.equal((y * 255).round()[:, outside], (x * 255).round()[:, outside]) and severity.max() <= 1
        if not outside.all():
            assert not torch.equal(y, x)
    again = locally_distorted(x, np.random.default_rng(0))
    assert torch.equal(again[0], seen[0][0])


def test_a_gradual_change_has_no_edge():
    x = torch.full((3, 128, 160), 0.5)
    x[:, ::2] += 0.1
    rng, steps = np.random.default_rng(0), []
    for _ in range(40):
        change = (gradually_changed(x, rng) - x)[:, 1::2]
        steps.append(float(change.diff(dim=2).abs().max() / change.abs().max().clamp(min=1e-6)))
    assert max(steps) < 0.15 and gradually_changed(x, np.random.default_rng(3)).ne(x).any()


def test_the_second_phase_has_sharper_edges_and_stronger_levels():
    x, soft, strong = torch.rand(3, 96, 128), {}, {}
    for phase in (CLEAN, DEGRADED):
        rng = np.random.default_rng(1)
        seen = [severity for _, severity in (locally_distorted(x, rng, phase) for _ in range(150)) if severity.any()]
        inside = [severity / severity.max() for severity in seen]
        soft[phase] = float(np.mean([((part > 0.02) & (part < 0.98)).float().mean() for part in inside]))
        strong[phase] = float(np.mean([severity.max() for severity in seen]))
    assert soft[DEGRADED] < 0.7 * soft[CLEAN] and strong[DEGRADED] > strong[CLEAN]


def test_the_distorted_quadrant_of_an_unseen_picture_is_found(seeing, learned):
    hits = []
    for number, content in enumerate(synthetic.references("embedded", limit=4)):
        x = next(synthetic.test_batches([content], types=[0], whole=(192, 256))).images[0]
        for place, kind in enumerate(("white_noise", "impulse_noise", "quantisation", "denoise_dct")):
            h, w = x.shape[1] // 2, x.shape[2] // 2
            part = (slice(h * (place // 2), h * (place // 2) + h), slice(w * (place % 2), w * (place % 2) + w))
            distorted = x.clone()
            distorted[:, *part] = distort(x[None], kind, 5, [number])[0][:, *part]
            severity = learned.severity(distorted)
            rows, columns = severity.shape
            row, column = divmod(int(severity.argmax()), columns)
            hits.append((row + 0.5 >= rows / 2, column + 0.5 >= columns / 2) == (place // 2 == 1, place % 2 == 1))
    assert np.mean(hits) > 0.6, hits  # chance is 0.25


def test_a_file_gives_the_same_map_which_shares_the_score_out(seeing, learned, tmp_path):
    learned.save(tmp_path / "places.safetensors")
    checkpoint = checkpoints.save(seeing, tmp_path / "model.safetensors", places="places.safetensors", max_side=256)
    scorer = Scorer(checkpoint, "cpu")
    x = synthetic.references("embedded", limit=1)[0].image
    assert LocalQuality.load(tmp_path / "places.safetensors").severity(torch.rand(3, 64, 64)).shape == (4, 4)
    values = scorer.quality_map(x).values
    assert values.mean() == pytest.approx(scorer.score(x).quality, abs=2) and values.std() > 0
    assert np.array_equal(values, Scorer(checkpoint, "cpu", workers=1).quality_map(x).values)
    large = torch.rand(3, 660, 880)
    assert scorer.quality_map(large).values.shape == (LARGEST * 3 // 4 // STEP, LARGEST // STEP), "not shrunk to 256"


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_foreign_file_is_refused(content, tmp_path):
    path = tmp_path / "places.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="places.safetensors"):
        LocalQuality.load(path)


def test_tensors_of_another_network_are_refused(seeing, tmp_path):
    checkpoints.save(seeing, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="model of places"):
        LocalQuality.load(tmp_path / "model.safetensors")
