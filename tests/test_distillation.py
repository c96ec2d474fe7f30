"""MobileNetV2's weights from a file, and a network that learns its maps."""

import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gmiqa.data.pictures import Pictures
from gmiqa.distillation import TAPS, Distillation
from gmiqa.experiments.backbones import Stages, base_network
from gmiqa.mobilenet import MobileNetV2
from gmiqa_core import finetuning, network
from gmiqa_core.errors import UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Both kinds of weights files, of random numbers."""
    from torchvision.models import mobilenet_v2

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(mobilenet_v2().state_dict(), folder / "mobilenet_v2-0.pth")
    layers = [m for m in mobilenet_v2(num_classes=1001).modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    rng, numbers = np.random.default_rng(0), {}
    for k, layer in enumerate(layers):
        shape = (*layer.weight.shape, 1, 1)[:4]
        numbers[f"conv{k:02d}.weight_q"] = rng.integers(-127, 128, shape).astype(np.int8)
        numbers[f"conv{k:02d}.scale"] = (0.02 / np.sqrt(np.prod(shape[1:])) * np.ones(shape[0])).astype(np.float32)
        numbers[f"conv{k:02d}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
    np.savez(folder / "numbers.npz", **numbers)
    return folder


def test_torchvisions_file_gives_torchvisions_features(files):
    from torchvision.models import mobilenet_v2

    theirs = mobilenet_v2()
    theirs.load_state_dict(torch.load(files / "mobilenet_v2-0.pth", weights_only=True))
    theirs.classifier = torch.nn.Identity()
    x = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(MobileNetV2(files / "mobilenet_v2-0.pth")(x)[-1].mean((2, 3)), theirs.eval()(x))


def test_numbers_of_tensorflow_compute_with_its_padding(files):
    model = MobileNetV2(files / "numbers.npz").train()  # folded batch norm stays as it is
    x = torch.rand(1, 3, 32, 48)
    with np.load(files / "numbers.npz") as z:
        weight = torch.from_numpy(z["conv00.weight_q"].astype(np.float32) * z["conv00.scale"].reshape(-1, 1, 1, 1))
        bias = torch.from_numpy(z["conv00.bias"])
    expected = F.relu6(F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2))
    torch.testing.assert_close(model(x, (0,))[0], expected)
    assert [tuple(m.shape[2:]) for m in model(x, TAPS)] == [(32 // s, 48 // s) if s < 32 else (1, 2)
                                                                 for s in TAPS.values()]


@pytest.mark.parametrize("content", [b"", b"no weights", None])
@pytest.mark.parametrize("name", ["weights.npz", "weights.pth"])
def test_a_wrong_file_is_refused_by_name(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        MobileNetV2(tmp_path / name)


def test_a_file_of_other_shapes_is_refused(tmp_path, files):
    with np.load(files / "numbers.npz") as z:
        np.savez(tmp_path / "other.npz", **{**z, "conv05.weight_q": z["conv06.weight_q"]})
    with pytest.raises(UserError, match="other.npz.*conv05"):
        MobileNetV2(tmp_path / "other.npz")


@pytest.mark.parametrize("options", [{}, dict(statistics=False)])
def test_the_loss_is_the_share_that_is_missed_and_the_network_is_left_as_it_was(files, options):
    torch.manual_seed(0)
    model, teacher = network.build("tiny", **options), Distillation(files / "numbers.npz")
    names, x = list(model.state_dict()), torch.rand(4, 3, 64, 64)
    expected = model.eval()(x)
    teacher.attach(model)
    torch.testing.assert_close(model(x), expected)
    # at first they predict a map's mean, which misses all of its variance
    assert teacher(model).item() == pytest.approx(1.0, abs=1e-3)
    teacher.detach(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(x), expected)


def test_fine_tuning_with_a_teacher_learns_its_maps_and_goes_on_after_a_kill(tmp_path, files):
    g = torch.Generator().manual_seed(0)
    made = [torch.randint(0, 256, (3, 32, 32), generator=g).byte() for _ in range(8)]
    data = Pictures(made, torch.rand(8, generator=g), torch.zeros(8))

    def tuned(folder, **options):
        torch.manual_seed(0)
        options = {"report": lambda *_: None, **options}
        how = finetuning.ScoreTraining("nll", batch=4, crop=0, turn=False, lr_backbone=3e-4, lr_head=3e-3, share=0.0)
        return finetuning.finetune(network.build("tiny"), data, how, steps=12, folder=folder, log_every=1,
                                   teacher=Distillation(files / "numbers.npz"), checkpoint_every=5, **options)

    model, history = tuned(tmp_path / "whole")
    misses = history.metrics.query("name == 'imitation'")["value"].to_numpy()
    assert len(misses) == 12 and misses[-1] < misses[0] <= 1.001
    assert not any(name.startswith("imitation") for name in model.state_dict())

    def killed(step, *_):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "killed", report=killed)
    again, _ = tuned(tmp_path / "killed")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_teacher_can_be_sent_to_workers(files):
    teacher = pickle.loads(pickle.dumps(Distillation(files / "numbers.npz", 0.5)))
    assert teacher.weight == 0.5 and teacher.file.endswith("numbers.npz")


def test_a_base_network_starts_from_the_file(files):
    model = base_network("mobilenet_v2", "imagenet", files / "numbers.npz")
    assert "numbers.npz" in model.start and model.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    model(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in model.trunk.features.parameters())


def test_the_maps_are_those_at_the_end_of_torchvisions_stages(files):
    """The same rule as for every other network of torchvision: the last map of each shape."""
    trunk, x = MobileNetV2(files / "mobilenet_v2-0.pth"), torch.rand(1, 3, 64, 96)
    for a, b in zip(trunk(x), Stages(*trunk.features).eval()(x), strict=True):
        torch.testing.assert_close(a, b)
