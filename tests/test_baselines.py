"""Properties of the baselines, on small generated pictures."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gmiqa import baselines
from gmiqa.baselines import extraction, make, matrix
from gmiqa.baselines.base import OneNumber
from gmiqa.baselines.niqe import NIQE
from gmiqa.data import embedded, images
from gmiqa.features import FEATURES, FeatureSet, nss
from gmiqa_core.errors import UserError


def blurred(picture, times):
    x = picture.float()
    for _ in range(times):
        x = nss.gaussian(x, 1.0)
    return x.round().to(torch.uint8)


@pytest.fixture(scope="module")
def scored():
    """Pictures of four scenes at six amounts of blur; quality falls with the amount."""
    scenes = [scene[:, 40:168, 40:168] for scene in embedded.scenes(4).values()]
    pairs = [(blurred(scene, k), 1 - k / 6) for scene in scenes for k in range(6)]
    return [picture for picture, _ in pairs], np.array([quality for _, quality in pairs])


def test_the_shape_of_known_distributions_is_recovered():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 500, 500, generator=generator)
    shape, variance = nss.ggd(2 * normal)[0].tolist()
    assert math.isclose(shape, 2, abs_tol=0.05) and math.isclose(variance, 4, rel_tol=0.02)
    uniform = torch.rand(1, 500, 500, generator=generator)
    laplace = -torch.sign(uniform - 0.5) * torch.log1p(-2 * (uniform - 0.5).abs())
    assert math.isclose(float(nss.ggd(laplace)[0, 0]), 1, abs_tol=0.05)
    lopsided = torch.where(normal < 0, normal, 3 * normal)
    shape, mean, left, right = nss.aggd(lopsided)[0].tolist()
    assert math.isclose(left, 1, rel_tol=0.05) and math.isclose(right, 9, rel_tol=0.05) and mean > 0
    shape, mean, left, right = nss.aggd(normal)[0].tolist()
    assert math.isclose(shape, 2, abs_tol=0.08) and abs(mean) < 0.02 and math.isclose(left, right, rel_tol=0.03)


def test_coefficients_are_normalised_and_the_gaussian_equals_scipy():
    from scipy.ndimage import correlate1d

    x = torch.rand(2, 40, 50, generator=torch.Generator().manual_seed(1)) * 255
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    taps /= taps.sum()
    expected = correlate1d(correlate1d(x.numpy(), taps, 1, mode="nearest"), taps, 2, mode="nearest")
    assert np.allclose(nss.gaussian(x), expected, atol=1e-3)
    assert nss.mscn(torch.full((1, 20, 20), 99.0))[0].abs().max() < 1e-3
    coefficients, sigma = nss.mscn(x)
    assert coefficients.shape == sigma.shape == x.shape and coefficients.abs().max() < 3


@pytest.mark.parametrize("name", ["brisque", "extended"])
def test_features_do_not_depend_on_the_batch_and_are_named(name):
    rgb = torch.stack([scene[:, :64, :80].float() for scene in embedded.scenes(3).values()])
    together = FEATURES[name].function(rgb)
    alone = torch.cat([FEATURES[name].function(one[None]) for one in rgb])
    assert together.shape == (3, len(FEATURES[name].names)) and torch.allclose(together, alone, rtol=1e-3, atol=1e-3)
    assert len(set(FEATURES[name].names)) == len(FEATURES[name].names)
    assert torch.equal(FEATURES["brisque"].function(rgb), FEATURES["extended"].function(rgb)[:, :36])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (16, 16), (33, 500)])
def test_features_of_any_size_and_of_flat_pictures_are_finite(size):
    for picture in (torch.zeros(3, *size, dtype=torch.uint8), torch.full((3, *size), 255, dtype=torch.uint8),
                    torch.randint(0, 256, (3, *size), dtype=torch.uint8)):  # fmt: skip
        for name in FEATURES:
            assert np.isfinite(matrix([picture], name)).all()


def test_the_matrix_keeps_the_order_over_sizes_repeats_and_kinds_of_source(tmp_path):
    pictures = [scene[:, : 40 + 8 * (k % 2), :48] for k, scene in enumerate(embedded.scenes(5).values())]
    paths = [images.write(picture, tmp_path / f"{k}.png") for k, picture in enumerate(pictures)]
    expected = np.concatenate([matrix([picture], "brisque") for picture in pictures])
    assert np.allclose(matrix([*paths, paths[1]], "brisque")[:5], expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(matrix([*paths, paths[1]], "brisque")[5], matrix([paths[1]], "brisque")[0])
    assert np.allclose(matrix([p.float() / 255 for p in pictures], "brisque"), expected, rtol=1e-2, atol=1e-2)
    assert matrix([], "brisque").shape == (0, 36)


def test_rows_are_computed_once_and_kept_on_disk(tmp_path, monkeypatch):
    calls = []

    def counted(rgb):
        calls.append(len(rgb))
        return rgb.mean((2, 3))

    monkeypatch.setitem(FEATURES, "counted", FeatureSet(counted, ("r", "g", "b")))
    pictures = [torch.full((3, 8, 8), k, dtype=torch.uint8) for k in range(5)]
    first = matrix(pictures, "counted", cache=tmp_path)
    assert first[:, 0].tolist() == [0, 1, 2, 3, 4] and sum(calls) == 5
    matrix(pictures[::-1], "counted", cache=tmp_path)
    assert sum(calls) == 5
    monkeypatch.setattr(extraction, "_MEMORY", {})
    assert np.array_equal(matrix(pictures, "counted", cache=tmp_path), first) and sum(calls) == 5
    assert len(list(tmp_path.iterdir())) == 1


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / "cut.png").write_bytes(images.encode(torch.zeros(3, 9, 9, dtype=torch.uint8))[:40])
    with pytest.raises(images.ImageError, match="cut.png: the file is damaged"):
        matrix([tmp_path / "cut.png"], "brisque")
    with pytest.raises(images.ImageError, match="no.png: No such file"):
        matrix([tmp_path / "no.png"], "brisque")


@pytest.mark.parametrize("name", ["sharpness", "niqe", "brisque_svr", "nss_svr", "cnniqa"])
def test_methods_order_unseen_pictures_by_blur(scored, name):
    pictures, quality = scored
    options = {"steps": 30, "batch": 24} if name == "cnniqa" else {}
    if name == "niqe":
        options = {"pristine": pictures[:18:6], "patch": 48}
    method = make(name, **options)
    assert method.fit(pictures[:18], quality[:18]) is method
    prediction = method.predict(pictures[18:])
    assert prediction.shape == (6,) and prediction.dtype == np.float64
    assert np.corrcoef(prediction, quality[18:])[0, 1] > (0.2 if name == "cnniqa" else 0.6)
    again = make(name, **options).fit(pictures[:18], quality[:18]).predict(pictures[18:])
    assert np.allclose(again, prediction, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "file_size", "brightness", "resnet"])
def test_the_other_methods_run_and_give_one_number_per_picture(scored, name):
    pictures, quality = scored
    method = make(name, **({"steps": 2, "preset": "tiny", "batch": 4} if name == "resnet" else {}))
    prediction = method.fit(pictures[:8], quality[:8]).predict(pictures[8:12])
    assert prediction.shape == (4,) and np.isfinite(prediction).all() and method.title
    assert method.predict([]).shape == (0,)


def test_the_mean_and_the_line_are_what_they_say(scored):
    pictures, quality = scored
    assert np.allclose(make("mean").fit(pictures, quality).predict(pictures), quality.mean())
    flat = [torch.full((3, 8, 8), k, dtype=torch.uint8) for k in (50, 100, 150)]
    method = make("brightness").fit(flat, [0.2, 0.4, 0.6])
    assert np.allclose(method.predict(flat), [0.2, 0.4, 0.6], atol=1e-6)


def test_niqe_is_the_same_when_everything_is_pristine_and_rises_with_blur():
    photographs = [picture[:, :192, :288] for picture in list(embedded.photographs().values())[:3]]
    niqe = NIQE(photographs)
    sharp, soft = niqe.distances([photographs[0], blurred(photographs[0], 6)])
    assert 0 <= sharp < soft
    assert np.isfinite(niqe.distances([torch.zeros(3, 5, 9, dtype=torch.uint8)])).all()


def test_an_unaware_method_keeps_its_own_direction():
    photographs = [picture[:, :192, :288] for picture in list(embedded.photographs().values())[:2]]
    pictures = [photographs[0], blurred(photographs[0], 6)]
    wrong = NIQE(photographs).fit(pictures, [0.1, 0.9])  # scores that contradict it
    assert wrong.predict(pictures)[0] > wrong.predict(pictures)[1]


@pytest.mark.parametrize("constant", [50.0, 100000.1])
def test_a_number_that_never_changed_says_the_mean(constant):
    class Same(OneNumber):
        rises = True

        def numbers(self, pictures):
            return np.asarray(pictures)

    method = Same().fit([constant] * 10, np.linspace(0.2, 0.8, 10))
    assert np.allclose(method.predict([constant, constant + 0.5]), 0.5)


def test_inputs_are_not_changed(scored):
    pictures, quality = scored
    kept, wanted = [picture.clone() for picture in pictures[:8]], quality[:8].copy()
    for name in ("brisque_svr", "file_size", "niqe"):
        make(name).fit(pictures[:8], quality[:8]).predict(pictures[:8])
    assert all(torch.equal(a, b) for a, b in zip(pictures, kept, strict=False)) and (quality[:8] == wanted).all()


def test_common_options_go_to_those_that_use_them():
    assert all(make(name, max_side=96, seed=3, device="cpu", cache=None) for name in baselines.NAMES)
    assert make("nss_svr", max_side=96).max_side == 96


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"no baseline 'brisque'; did you mean 'brisque_svr'"):
        make("brisque")
    with pytest.raises(UserError, match="mean has no option 'steps'"):
        make("mean", steps=3)
    with pytest.raises(UserError, match="pyiqa:nima needs the package pyiqa, which is not installed"):
        make("pyiqa:nima")
    with pytest.raises(UserError, match="call fit before predict"):
        make("mean").predict([torch.zeros(3, 8, 8)])
    with pytest.raises(UserError, match="1 pictures and 2 scores"):
        make("mean").fit([torch.zeros(3, 8, 8)], [0.1, 0.2])
    with pytest.raises(UserError, match="1 of 2 scores are not numbers"):
        make("mean").fit([torch.zeros(3, 8, 8)] * 2, [0.1, float("nan")])


def test_a_metric_of_pyiqa_by_name(monkeypatch):
    class Metric:
        lower_better = True

        def __call__(self, image):
            assert image.shape[:2] == (1, 3) and image.max() <= 1
            return image.mean()

    def create_metric(name, device):
        if name != "dark":
            raise RuntimeError("no network")
        return Metric()

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    flat = [torch.full((3, 8, 8), k, dtype=torch.uint8) for k in (50, 100, 150)]
    prediction = make("pyiqa:dark").fit(flat, [0.9, 0.5, 0.1]).predict(flat)
    assert np.allclose(prediction, [0.9, 0.5, 0.1], atol=1e-3)
    with pytest.raises(UserError, match=r"pyiqa:other is not at hand \(no network\)"):
        make("pyiqa:other").fit(flat, [0.9, 0.5, 0.1])


def test_log_dct_sees_one_frequency_where_there_is_one():
    """A grating of one DCT frequency has its largest mean in that coefficient."""
    from gmiqa.features.dct import NAMES, log_dct

    k = torch.arange(64, dtype=torch.float64)
    wave = torch.cos(torch.pi / 8 * (k % 8 + 0.5) * 3)
    picture = (128 + 60 * wave).float().expand(1, 3, 64, 64).contiguous()
    row = log_dct(picture)[0]
    means = [(float(row[i]), name) for i, name in enumerate(NAMES) if name.startswith("luminance 1: mean of frequency")]
    assert sorted(means)[-2][1].endswith("0,3") and sorted(means)[-1][1].endswith("0,0")
    assert len(NAMES) == len(row)


@pytest.mark.parametrize(("name", "function"), [("image-quality-ai", "assess"), ("capturetrust", "inspect_array")])
def test_packages_of_rules_rank_as_their_scores_do(monkeypatch, name, function):
    package = SimpleNamespace(**{function: lambda samples: SimpleNamespace(score=int(samples[0, 0, 0]))})
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), package)
    red = np.zeros((3, 8, 8, 3), np.uint8)
    red[..., 0] = np.array([10, 200, 90])[:, None, None]
    red[..., 2] = 255 - red[..., 0]
    prediction = make(name).fit(list(red), [0.3, 0.5, 0.7]).predict(list(red))
    order = [0, 2, 1] if function == "assess" else [1, 2, 0]  # this one takes OpenCV's order of channels
    assert prediction.argsort().tolist() == order
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(UserError, match=f"pip install {name}"):
        make(name)
