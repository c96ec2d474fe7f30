"""Backbone: shapes for every input, block equations, ImageNet names."""

import pytest
import torch
from torch.nn import functional as F

from gmiqa.imagenet import imagenet_start, take
from gmiqa_core.backbone import Block, SCResNet, SelfCalibrated, SpatialPyramid, dct_filters
from gmiqa_core.errors import UserError

SMALL = dict(depths=(1, 1), width=4, stem="conv", bottleneck=False)


@pytest.mark.parametrize("stem", ["imagenet", "conv"])
@pytest.mark.parametrize("size", [(32, 32), (32, 100), (65, 47), (128, 96)])
def test_pyramid_length_is_constant_over_sizes(stem, size):
    backbone = SCResNet((1, 1, 1, 1), 4, stem=stem, bottleneck=False).eval()
    pyramid = SpatialPyramid(backbone.outputs, 6, (1, 2, 4)).eval()
    assert pyramid(backbone(torch.rand(2, 3, *size))).shape == (2, 21 * 6) == (2, pyramid.outputs)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_pooling_window_never_exceeds_the_map(side):
    assert SelfCalibrated(4, r=4).eval()(torch.rand(2, 4, side, side)).shape == (2, 4, side, side)


def test_self_calibrated_block_follows_its_equations():
    torch.manual_seed(0)
    block = Block(8, 4, 2, bottleneck=True, self_calibrated=True, r=4, upsample="bilinear").double().eval()
    x = torch.rand(2, 8, 9, 10, dtype=torch.float64)
    a, b = F.relu(block.enter(x)).chunk(2, 1)
    sc = block.conv
    up = F.interpolate(sc.M1(F.avg_pool2d(b, 4)), (9, 10), mode="bilinear", align_corners=False)
    y_b = F.relu(sc.M3(sc.M2(b) * torch.sigmoid(b + up)))
    expected = F.relu(block.leave(torch.cat([F.relu(sc.K1(a)), y_b], 1)) + block.shortcut(x[..., ::2, ::2]))
    torch.testing.assert_close(block(x), expected)


def test_self_calibration_costs_no_parameters_over_a_plain_block_of_its_halves():
    calibrated, plain = (
        sum(p.numel() for p in SCResNet(**SMALL, self_calibrated=flag).parameters()) for flag in (True, False)
    )
    assert calibrated <= 1.02 * plain


def test_resnet50_shape_is_torchvision_s():
    from torchvision.models import resnet50

    with torch.device("meta"):
        plain = SCResNet(self_calibrated=False)
        weights = resnet50(weights=None).state_dict()
    assert plain.outputs == 2048
    assert len(plain.state_dict()) == len(weights) - 2  # without the classifier's weight and bias
    assert sum(p.numel() for p in plain.parameters()) == 23_508_032


def test_imagenet_start_takes_every_tensor_of_a_plain_resnet50(tmp_path):
    from torchvision.models import resnet50

    torch.manual_seed(0)
    reference = resnet50(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "resnet50.pth")
    plain = SCResNet(self_calibrated=False)
    sentence = imagenet_start(plain, str(tmp_path / "resnet50.pth"))
    total = len(plain.state_dict())
    assert f"{total} of {total}" in sentence
    x = torch.rand(1, 3, 64, 64)
    expected = torch.nn.Sequential(*list(reference.children())[:-2])(x)
    torch.testing.assert_close(plain.eval()(x), expected, rtol=1e-4, atol=1e-4)


def test_scnet_s_names_are_all_known():
    """SCNet's names: conv1_a, conv1_b, k1, scconv.k2 (pooling first), k3, k4."""
    backbone = SCResNet((2, 1), 8)
    names, values = {}, backbone.state_dict()
    for key, value in values.items():
        p = key.split(".")
        kind = ("conv", "bn")[int(p[-2])]
        block = f"layer{int(p[1]) + 1}.{p[2]}" if p[0] == "stages" else ""
        if p[0] == "stem":
            names[f"{kind}1.{p[-1]}"] = value
        elif p[3] == "enter":
            a, b = (value, value) if value.ndim == 0 else value.chunk(2)
            names |= {f"{block}.{kind}1_a.{p[-1]}": a, f"{block}.{kind}1_b.{p[-1]}": b}
        elif p[3] in ("leave", "shortcut"):
            names[f"{block}.{kind}3.{p[-1]}" if p[3] == "leave" else f"{block}.downsample.{p[-2]}.{p[-1]}"] = value
        else:
            place = {"K1": "k1.{}", "M1": "scconv.k2.{}", "M2": "scconv.k3.{}", "M3": "scconv.k4.{}"}[p[4]]
            names[f"{block}.{place.format(int(p[-2]) + (p[4] == 'M1'))}.{p[-1]}"] = value
    other = SCResNet((2, 1), 8)
    assert take(other, names) == (len(values), len(values))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in values.items())


def test_imagenet_start_says_what_does_not_fit(tmp_path):
    assert "random" in imagenet_start(SCResNet(**SMALL), "none")
    for source in ("torchvision", "package"):
        with pytest.raises(UserError, match="does not fit"):
            imagenet_start(SCResNet(**SMALL), source)
    with torch.device("meta"):
        paper = SCResNet()
    with pytest.raises(UserError, match="neither none"):
        imagenet_start(paper, str(tmp_path / "missing.pth"))


@pytest.mark.parametrize("wrong", [dict(stem="fold"), dict(stem_start="fft"), dict(upsample="cubic"), dict(width=5)])
def test_unknown_options_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        SCResNet(**(SMALL | wrong))


@pytest.mark.parametrize("size", [7, 8])
def test_shortcut_equals_the_strided_convolution(size):
    block = Block(4, 8, 2, bottleneck=False, self_calibrated=False, r=4, upsample="bilinear").eval()
    x = torch.rand(3, 4, size, size)
    convolution = block.shortcut[0]
    strided = F.conv2d(x, convolution.weight, stride=2)
    torch.testing.assert_close(convolution(x[..., ::2, ::2]), strided)
    # oneDNN corrupts memory in the gradient of such a layer (channels last, 5 pictures, 2 threads).
    pointwise = [m for m in SCResNet().modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1)]
    assert pointwise and all(m.stride == (1, 1) for m in pointwise)


@pytest.mark.parametrize("size", [3, 7])
def test_dct_filters_are_a_basis_and_the_first_is_the_mean(size):
    filters = dct_filters(3 * size**2, size).flatten(1)
    torch.testing.assert_close(filters @ filters.T, torch.eye(3 * size**2), atol=1e-5, rtol=0)
    torch.testing.assert_close(filters[0], torch.full_like(filters[0], (3 * size**2) ** -0.5))


def test_a_dct_start_fills_the_first_convolution_as_far_as_it_goes():
    torch.manual_seed(0)
    for width in (8, 32):
        weight = SCResNet(**(SMALL | dict(width=width)), stem_start="dct").stem[0][0].weight
        known = min(width, 27)
        torch.testing.assert_close(weight[:known], dct_filters(width))
        assert (weight[known:].flatten(1).norm(dim=1) > 0).all()
