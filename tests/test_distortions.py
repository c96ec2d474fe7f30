"""The 25 distortions: properties that every one has, and values worked out by other means (scipy, Pillow, by hand)."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import interpolate, ndimage, stats

from gmiqa.data.distortions import (
    GROUPS,
    TYPES,
    calibration,
    checksum,
    codec_process,
    colourspaces,
    distort,
    filters,
    stretch_range,
    type_id,
)  # fmt: skip
from gmiqa.data.distortions.reference_metric import haarpsi
from gmiqa.data.distortions.tone import quantisation

ALL = [t.id for t in TYPES]
NAMES = [t.name for t in TYPES]
RANDOM = [t.id for t in TYPES if t.random]


def picture(h=40, w=56, seed=0):
    """Smooth colours, edges and some texture, stretched to [0,1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w] / 20
    planes = [np.sin(x * (1 + c) + seed) + np.cos(y * (2 - c / 2)) + (x + y > 2 + c / 3) for c in range(3)]
    image = np.stack(planes) + 0.15 * rng.standard_normal((3, h, w))
    return stretch_range(torch.from_numpy(image).float()[None])


def test_threads_pass_jpeg2000_to_other_processes_and_get_the_same_pictures():
    x, levels = torch.cat([picture(64, 80, seed) for seed in range(6)]), torch.tensor([1, 2, 3, 4, 5, 1])
    here = distort(x, "jpeg2000", levels)
    assert not codec_process._idle
    with ThreadPoolExecutor(2) as threads:
        there = list(threads.map(lambda i: distort(x[i : i + 1], "jpeg2000", levels[i].item()), range(6)))
        assert torch.equal(torch.cat(there), here)
        assert 1 <= len(codec_process._idle) <= 2
        for process in codec_process._idle:
            process.kill()
            process.wait()
        again = threads.submit(distort, x[:1], "jpeg2000", 1).result()  # a killed one is noticed
        assert torch.equal(again, here[:1])
    codec_process._end()
    assert not codec_process._idle


@pytest.mark.parametrize("type", RANDOM)
def test_a_known_checksum_gives_the_same_picture(type):
    x = torch.cat([picture(), picture(seed=1)])
    wanted = distort(x, type, 3, [4, 5])
    assert torch.equal(distort(x, type, 3, [4, 5], checksums=[checksum(i) for i in x]), wanted)
    assert not torch.equal(distort(x, type, 3, [4, 5], checksums=[1, 2]), wanted)


def plain(image, type, level, **options):
    return distort(image, type, level, stretch=False, **options)


@pytest.mark.parametrize("type", ALL, ids=NAMES)
def test_input_is_unchanged_and_shape_dtype_and_range_are_kept(type):
    x = torch.cat([picture(), picture(seed=1)])
    before = x.clone()
    for dtype in (torch.float32, torch.float64, torch.float16):
        y = distort(x.to(dtype), type, 4)
        assert y.shape == x.shape and y.dtype == dtype and y.is_contiguous()
        assert y.min() >= 0 and y.max() <= 1 and torch.isfinite(y).all()
    assert torch.equal(x, before)
    assert y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("type", ALL, ids=NAMES)
@pytest.mark.parametrize("size", [(16, 16), (17, 33), (1, 1), (3, 40)], ids=str)
def test_small_and_odd_sizes_and_grey_pictures_work(type, size):
    grey = picture(*size)[:, :1].expand(-1, 3, -1, -1)
    for x in (picture(*size), grey, torch.full((1, 3, *size), 0.5)):
        y = distort(x, type, 5)
        assert y.shape == x.shape and torch.isfinite(y).all()


def test_alone_in_a_batch_in_any_order_and_shared_between_threads_are_the_same():
    x = torch.cat([picture(seed=s) for s in range(5)] * 10)
    types = torch.tensor(ALL * 2)
    levels = 1 + torch.arange(50) % 5
    together = distort(x, types, levels, seed=3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shuffled = distort(x[order], types[order], levels[order], seed=3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(shuffled, together[order])
    for i in range(50):
        assert torch.equal(distort(x[i : i + 1], int(types[i]), int(levels[i]), seed=3)[0], together[i])


@pytest.mark.parametrize("type", RANDOM, ids=[TYPES[t - 1].name for t in RANDOM])
def test_randomness_follows_seed_level_and_content_and_nothing_else(type):
    x = torch.cat([picture(), picture(), picture(seed=1)])
    torch.manual_seed(5)
    first = distort(x, type, 5, seed=1)
    torch.manual_seed(6)
    assert torch.equal(distort(x, type, 5, seed=1), first)
    assert torch.equal(first[0], first[1]), "the same picture twice is the same twice"
    assert not torch.equal(distort(x, type, 5, seed=2)[0], first[0])


def test_two_pictures_never_share_their_noise():
    x = torch.stack([torch.full((3, 32, 32), v) for v in (0.5, 0.5001)])
    noise = plain(x, "white_noise", 3) - x
    assert abs(np.corrcoef(noise.flatten(1).numpy())[0, 1]) < 0.1


def test_seeds_may_differ_per_picture():
    x = picture().repeat(2, 1, 1, 1)
    y = distort(x, 11, 3, seed=[4, 5])
    assert torch.equal(y[0], distort(x[:1], 11, 3, seed=4)[0]) and torch.equal(y[1], distort(x[:1], 11, 3, seed=5)[0])


@pytest.mark.parametrize("cell", [("mean_shift", 3), ("saturation_lab", 1), ("motion_blur", 1)], ids=str)
def test_identities(cell):
    x = picture()
    torch.testing.assert_close(plain(x, *cell), x, atol=1e-6, rtol=0)
    torch.testing.assert_close(distort(0.2 + 0.5 * x, *cell), x, atol=1e-6, rtol=0)  # the stretch remains


def test_smallest_blur_is_nearly_an_identity_and_contrast_level_3_is_not_one():
    x = picture()
    assert (plain(x, 1, 1) - x).abs().max() < 1e-6
    assert (plain(x, 25, 3) - x).abs().max() > 0.02


def test_a_mean_shift_is_stretched_back():
    x = picture()
    torch.testing.assert_close(distort(x, 18, 1), stretch_range((x + 0.15).clamp(0, 1)))
    assert distort(x, 18, 1).min() == 0 and plain(x, 18, 1).min() == pytest.approx(0.15)


@pytest.mark.parametrize("level", range(1, 6))
def test_gaussian_blur_equals_scipy(level):
    x, sigma = picture(), TYPES[0].levels[level - 1]
    wanted = ndimage.gaussian_filter(
        x.double().numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, *[int(np.ceil(2 * sigma))] * 2)
    )
    np.testing.assert_allclose(plain(x, 1, level).numpy(), wanted, atol=2e-6)


@pytest.mark.parametrize("kernel", ["disk", "line"])
def test_kernels_are_applied_as_scipy_does(kernel):
    x = picture()
    weights = filters.disk_kernel(6.0) if kernel == "disk" else filters.line_kernel(10, 30)
    wanted = ndimage.correlate(x[0, 0].double().numpy(), weights.double().numpy(), mode="nearest")
    np.testing.assert_allclose(filters.convolve(x, weights[None])[0, 0].numpy(), wanted, atol=2e-6)


def test_the_disk_covers_its_area_and_the_line_its_length():
    disk = filters.disk_kernel(4.0)
    assert disk.sum() == pytest.approx(1) and disk.shape == (9, 9)
    assert disk[4, 4] == pytest.approx(1 / (np.pi * 16), rel=1e-3)
    torch.testing.assert_close(disk, disk.T, atol=1e-6, rtol=0)
    line = filters.line_kernel(7, 0)
    torch.testing.assert_close(line[3], torch.full((7,), 1 / 7))
    assert line.sum() == pytest.approx(1) and torch.count_nonzero(line) == 7
    torch.testing.assert_close(filters.line_kernel(7, 90), line.T, atol=1e-6, rtol=0)


def test_lab_equals_scikit_image():
    from skimage import color

    x = picture()
    lab = colourspaces.rgb_to_lab(x)
    wanted = color.rgb2lab(x[0].permute(1, 2, 0).double().numpy())
    np.testing.assert_allclose(lab[0].permute(1, 2, 0).numpy(), wanted, atol=0.02)
    torch.testing.assert_close(colourspaces.lab_to_rgb(lab), x, atol=1e-5, rtol=0)
    ycbcr = color.rgb2ycbcr(x[0].permute(1, 2, 0).double().numpy()) / 255
    np.testing.assert_allclose(colourspaces.rgb_to_ycbcr(x)[0].permute(1, 2, 0).numpy(), ycbcr, atol=1e-5)
    torch.testing.assert_close(colourspaces.ycbcr_to_rgb(colourspaces.rgb_to_ycbcr(x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", range(1, 6))
def test_hsv_saturation_equals_the_colour_space_formula(level):
    from colorsys import hsv_to_rgb, rgb_to_hsv

    factor = TYPES[6].levels[level - 1]
    x = picture(4, 4)
    y = plain(x, 7, level)
    for place in np.ndindex(4, 4):
        h, s, v = rgb_to_hsv(*x[0, :, *place].tolist())
        if factor >= 0:
            np.testing.assert_allclose(y[0, :, *place].numpy(), hsv_to_rgb(h, s * factor, v), atol=1e-6)
        else:  # S below 0: the formula continued, then clipped
            wanted = [min(1.0, v - factor * (v - c)) for c in x[0, :, *place].tolist()]
            np.testing.assert_allclose(y[0, :, *place].numpy(), wanted, atol=1e-6)


def test_jpeg_is_pillows_own():
    x = (picture(48, 64) * 255).round() / 255
    array = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=7)
    np.testing.assert_array_equal((plain(x, "jpeg", 4)[0].permute(1, 2, 0) * 255).round().numpy(), Image.open(buffer))


def test_jpeg2000_takes_the_bytes_that_its_ratio_allows():
    x = picture(128, 192)
    small, large = ((plain(x, 9, level) - x).square().mean() for level in (1, 5))
    assert small < large / 4


def test_colour_quantisation_leaves_that_many_colours():
    for level, colours in enumerate((64, 48, 32, 16, 8), start=1):
        y = plain(picture(64, 96), 6, level)
        assert 2 < len(torch.unique(y[0].flatten(1).T, dim=0)) <= colours


@pytest.mark.parametrize("level", range(1, 6))
def test_noises_have_the_variance_of_the_table(level):
    x = torch.full((1, 3, 128, 128), 0.5)
    variance = [t.levels[level - 1] for t in TYPES]
    assert (plain(x, 11, level) - x).var() == pytest.approx(variance[10], rel=0.05)
    assert (plain(x, 14, level) - x).var() == pytest.approx(variance[13] * 0.25, rel=0.05)
    noise = colourspaces.rgb_to_ycbcr(plain(x, 12, level)) - colourspaces.rgb_to_ycbcr(x)
    torch.testing.assert_close(noise.var(dim=(0, 2, 3)), torch.full((3,), variance[11]), rtol=0.06, atol=0)
    y = plain(x, 13, level)
    assert (y != x).float().mean() == pytest.approx(variance[12], rel=0.25)
    assert (y == 0).sum() == pytest.approx(int((y == 1).sum()), rel=0.4)
    assert plain(x, 15, level).var() < 0.25 * variance[14], "the denoiser removes most of it"


def test_the_denoiser_keeps_a_picture_that_has_no_noise_to_speak_of():
    from gmiqa.data.distortions.noise import denoise_dct

    x = picture(37, 50)
    y = denoise_dct(x, 1e-12, [torch.Generator().manual_seed(0)])
    torch.testing.assert_close(y, x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("level", range(1, 6))
def test_tone_curves_pass_through_the_points_of_the_table(level):
    ramp = torch.linspace(0, 1, 101).expand(1, 3, 1, 101)
    up, down, contrast = (TYPES[t - 1].levels[level - 1] for t in (16, 17, 25))
    curve = interpolate.CubicSpline([0, 0.5, 1], [0, 0.5 - down / 2, 1])(ramp[0, 0, 0].double())
    np.testing.assert_allclose(plain(ramp, 17, level)[0, 0, 0], curve.clip(0, 1), atol=1e-6)
    points = [0, 0.25 - contrast / 4, 0.5, 0.75 + contrast / 4, 1]
    curve = interpolate.CubicSpline([0, 0.3, 0.5, 0.7, 1], points)(ramp[0, 0, 0].double())
    np.testing.assert_allclose(plain(ramp, 25, level)[0, 0, 0], curve.clip(0, 1), atol=1e-5)
    middle = 2 / 3 * min(1, 0.5 + up / 2)
    assert middle < plain(ramp, 16, level)[0, 0, 0, 50] <= middle + 1 / 3


def test_otsu_thresholds_equal_the_exhaustive_ones():
    from skimage.filters import threshold_multiotsu

    x = (picture(24, 24, seed=3) * 255).round() / 255
    for thresholds in (1, 2, 3):
        y = quantisation(x, thresholds)
        wanted = threshold_multiotsu((x[0] * 255).byte().numpy(), classes=thresholds + 1, nbins=256)
        classes = np.digitize((x[0] * 255).round().numpy(), np.asarray(wanted) + 0.5)
        ours = np.unique(y[0].numpy(), return_inverse=True)[1].reshape(classes.shape)
        codes = (x[0] * 255).round().numpy()

        def between(labels, codes=codes):
            groups = [codes[labels == k] for k in np.unique(labels)]
            return sum(g.size * (g.mean() - codes.mean()) ** 2 for g in groups)

        assert between(ours) >= between(classes) * (1 - 1e-6)


def test_quantisation_leaves_one_value_more_than_thresholds_in_every_picture_of_a_batch():
    x = torch.cat([picture(seed=s) for s in range(3)])
    for level, thresholds in enumerate((20, 16, 13, 10, 7), start=1):
        y = plain(x, 22, level)
        assert [len(torch.unique(image)) for image in y] == [thresholds + 1] * 3
        torch.testing.assert_close(torch.stack(torch.aminmax(y)), torch.stack(torch.aminmax(x)))
        torch.testing.assert_close(y.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)), atol=0.02, rtol=0)


def test_pixelation_copies_pixels_of_the_picture():
    y = plain(picture(), 21, 5)
    assert torch.isin(y, picture()).all()
    assert len(torch.unique(y[0, 0])) <= int(np.ceil(40 * 0.2903)) * int(np.ceil(56 * 0.2903))


def test_patches_only_move_pixels_and_their_number_follows_the_area():
    x = torch.arange(384 * 512.0).reshape(1, 1, 384, 512).expand(1, 3, -1, -1) / (384 * 512)
    y = plain(x, 20, 1)
    assert torch.isin(y, x).all()
    parts = (x, x[..., :192, :256])
    share = [float((plain(part, 20, 5) != part).float().mean()) for part in parts]
    assert share[0] == pytest.approx(100 * 256 / (384 * 512), rel=0.3)
    assert share[1] == pytest.approx(share[0], rel=0.35)


def test_colour_blocks_cover_what_the_table_says():
    x = torch.rand(1, 3, 384, 512, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    for level, blocks in enumerate((2, 4, 6, 8, 10), start=1):
        covered = (plain(x, 23, level) != x).any(1).sum()
        assert (blocks - 1.5) * 1024 < covered <= blocks * 1024


def test_jitter_moves_pixels_by_about_its_amount():
    ramp = (torch.arange(200) / 200.0).expand(1, 3, 40, 200)
    moved = (plain(ramp, 19, 3) - ramp)[..., 20:-20] * 200
    assert moved.std() == pytest.approx(0.2 * 5**0.5, rel=0.15)


def test_colour_shift_moves_green_alone():
    x = picture(64, 96)
    y = plain(x, 5, 5)
    assert torch.equal(y[:, 0], x[:, 0]) and torch.equal(y[:, 2], x[:, 2]) and not torch.equal(y[:, 1], x[:, 1])


def test_sharpening_equals_its_formula():
    x = picture()
    lab = colourspaces.rgb_to_lab(x).double().numpy()
    blurred = ndimage.gaussian_filter(lab[0, 0], 3, mode="nearest", radius=6)
    lab[0, 0] += 2 * (lab[0, 0] - blurred)
    wanted = colourspaces.lab_to_rgb(torch.from_numpy(lab).float())
    torch.testing.assert_close(plain(x, 24, 2), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("images", "type", "level", "says"),
    [
        (torch.zeros(1, 3, 8, 8), 0, 1, "1..25"),
        (torch.zeros(1, 3, 8, 8), 26, 1, "1..25"),
        (torch.zeros(1, 3, 8, 8), "jpg", 1, "jpeg"),
        (torch.zeros(1, 3, 8, 8), 1.5, 1, "1..25"),
        (torch.zeros(1, 3, 8, 8), 1, 6, "1..5"),
        (torch.zeros(1, 3, 8, 8), 1, 0, "1..5"),
        (torch.zeros(1, 3, 8, 8), 1, 2.5, "1..5"),
        (torch.zeros(1, 3, 8, 8), 1, "3", "1..5"),
        (torch.zeros(1, 3, 8, 8), [1, 2], 1, "one per image"),
        (torch.full((1, 3, 8, 8), float("nan")), 1, 1, "NaN"),
        (torch.full((1, 3, 8, 8), 1.2), 1, 1, "[0,1]"),
        (torch.full((1, 3, 8, 8), -0.1), 1, 1, "[0,1]"),
        (torch.zeros(3, 8, 8), 1, 1, "(n,3,h,w)"),
        (torch.zeros(1, 1, 8, 8), 1, 1, "grey"),
        (torch.zeros(0, 3, 8, 8), 1, 1, "(n,3,h,w)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 1, 1, "255"),
        (np.zeros((1, 3, 8, 8)), 1, 1, "tensor"),
    ],
)
def test_wrong_input_is_refused_by_name(images, type, level, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")):
        distort(images, type, level)


def test_types_are_known_by_number_and_by_name():
    assert type_id("jpeg") == type_id("10") == type_id(10) == 10
    assert type_id("Lens blur") == type_id("lens-blur") == 2 and type_id("color_shift") == 5
    assert [t.id for t in TYPES] == list(range(1, 26)) and sorted(sum(GROUPS.values(), ())) == ALL
    assert "dct" in TYPES[14].name and "DnCNN" in TYPES[14].note


def test_the_calibration_says_what_kadid_says():
    assert calibration.QUALITY.shape == calibration.SPREAD.shape == (25, 5)
    assert calibration.QUALITY.min() > 0 and calibration.QUALITY.max() < 1
    assert calibration.quality(np.array([1]), np.array([1])) == pytest.approx((4.6122 - 1) / 4)
    falls = (calibration.QUALITY.diff(dim=1) < 0).all(dim=1)
    assert [i + 1 for i in torch.nonzero(~falls).flatten().tolist()] == [5, *calibration.UNORDERED]


def test_the_reference_metric_is_one_for_the_same_and_falls_with_severity():
    x = picture(64, 96)
    assert haarpsi(x, x) == pytest.approx(1, abs=1e-3)
    for type in (1, 8, 10, 11, 24):
        values = haarpsi(plain(x.expand(5, -1, -1, -1), type, [1, 2, 3, 4, 5]), x)
        assert stats.spearmanr(values, range(5)).statistic < -0.89


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("type", ALL, ids=NAMES)
def test_cuda_equals_the_cpu(type):
    """To 2e-5 per pixel; where values are rounded (codecs, Otsu) all but one pixel in a thousand to 1.5/255."""
    x = torch.cat([picture(96, 128, seed=s) for s in range(2)])
    difference = (distort(x.cuda(), type, 4).cpu() - distort(x, type, 4)).abs()
    if type in (6, 9, 10, 22):
        assert (difference > 1.5 / 255).float().mean() < 1e-3
    else:
        assert difference.max() < 2e-5
