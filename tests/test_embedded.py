from hashlib import sha256

import numpy as np
import pytest
import torch

from gmiqa.data import embedded
from gmiqa_core.errors import UserError


def slope(image):
    """Exponent of the amplitude spectrum over spatial frequency; about -1 to -1.6 for photographs."""
    grey = image.float().mean(0).numpy()
    side = min(grey.shape)
    window = np.hanning(side)
    grey = (grey[:side, :side] - grey.mean()) * window[:, None] * window
    power = np.abs(np.fft.fft2(grey)) ** 2
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    edges = np.geomspace(0.02, 0.35, 16)
    bins = [(f >= a) & (f < b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return np.polyfit([np.log(f[b].mean()) for b in bins], [np.log(power[b].mean()) for b in bins], 1)[0] / 2


def test_photographs_are_in_colour():
    photographs = embedded.photographs()
    assert set(photographs) <= set(embedded.PHOTOGRAPHS) and len(photographs) >= 5
    for image in photographs.values():
        assert image.dtype == torch.uint8 and image.shape[0] == 3 and min(image.shape[1:]) >= 300
        assert not torch.equal(image[0], image[2])


def test_photographs_that_are_missing_are_left_out_and_none_at_all_is_said(monkeypatch):
    monkeypatch.setattr(
        embedded, "PHOTOGRAPHS", {"none": ("no_such_package_at_all", "a.png"), "gone": ("sklearn", "a.png")}
    )
    with pytest.raises(UserError, match="reinstall"):
        embedded.photographs()


def test_scenes_repeat_and_do_not_depend_on_how_many_are_asked_for():
    few = embedded.scenes(2, seed=3)
    embedded._scene.cache_clear()
    more = embedded.scenes(3, seed=3)
    assert list(more)[:2] == list(few) and all(torch.equal(more[name], few[name]) for name in few)
    assert not torch.equal(embedded.scenes(1, seed=4)["scene_4_000"], few["scene_3_000"])


def test_scenes_come_in_four_sizes_at_least_and_both_orientations():
    shapes = {image.shape[1:] for image in embedded.scenes(6).values()}
    assert len(shapes) >= 4 and any(h > w for h, w in shapes) and any(h < w for h, w in shapes)


def test_scenes_have_the_statistics_of_photographs():
    scenes = list(embedded.scenes(6).values())
    slopes = [slope(image) for image in scenes]
    assert all(-1.8 < value < -0.8 for value in slopes), slopes
    for image in scenes:
        steps = image.float().mean(0).diff(dim=1).abs()
        assert steps.quantile(0.995) > 40, "sharp edges, so that blur shows"
        assert image.float().std() > 25 and image.min() < 30 and image.max() > 200
        assert (image.float().amax(0) - image.float().amin(0)).mean() > 10, "colour"


def test_the_pool_of_scenes_is_distinct():
    digests = {sha256(image.numpy().tobytes()).hexdigest() for image in embedded.scenes(6).values()}
    assert len(digests) == 6
