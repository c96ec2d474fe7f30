"""Export: the ONNX file says what the network says, for pictures of any size, and carries what belongs to it."""

import json

import numpy as np
import pytest
import torch

from gmiqa.cli import main
from gmiqa.data import images
from gmiqa.release.export import LARGEST_HALF, to_onnx
from gmiqa.score import Scorer
from gmiqa.score.engine import OnnxEngine
from gmiqa.torch_engine import NAMES, TorchEngine
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError

SIZES = [(32, 32), (33, 47), (64, 63), (101, 97), (40, 300), (300, 32), (160, 192), (395, 511)]
POINTS = 0.05 / 100  # 0.05 of 100 points
PRESETS = {
    "tiny": {}, "lite": {}, "nearest": {"upsample": "nearest", "pyramid": (1, 2, 4)},
    "alone": {"branches": ("score",)}, "mlp": {"graph": "mlp"}, "pooled": {"edge_init": "pooled"},
    "local": {"branches": ("score", "local"), "r": 3}, "bank": {"finetune_graph": "bank"},
    "opinion": {"branches": ("type", "level", "score", "local", "opinion")},
}  # fmt: skip


def build(preset):
    """A network whose BatchNorm has seen pictures."""
    torch.manual_seed(0)
    name = {"lite": "lite", "opinion": "lite"}.get(preset, "tiny")
    model = network.build(name, **PRESETS[preset])
    with torch.no_grad():
        if preset == "bank":
            model.fill_bank(torch.rand(3, 3, 64, 64))
        for _ in range(5):
            model.train()(torch.rand(4, 3, 96, 96) ** torch.rand(4, 1, 1, 1).exp())
    return model.eval()


def narrowed(model):
    """What a file keeps of its matrices and filters: half precision, and 8 bits of the second opinion's."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("opinion.") and parameter.ndim >= 2:
                scale = parameter.abs().amax(tuple(range(1, parameter.ndim)), keepdim=True) / 127
                parameter.copy_((parameter / scale).round() * scale)
            elif parameter.ndim >= 2:
                parameter.copy_(parameter.half().float())
    return model


@pytest.mark.parametrize("preset", PRESETS)
def test_all_outputs_agree_with_torch_at_every_size(preset, tmp_path):
    model = narrowed(build(preset))
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, {"names": NAMES}))
    exported, original = OnnxEngine(tmp_path / "model.onnx", "cpu"), TorchEngine(model, {}, "cpu")
    for size in SIZES:
        x = torch.rand(1, 3, *size, generator=torch.manual_seed(sum(size))).numpy()
        got, expected = exported.judge(x), original.judge(x)
        assert got.keys() == expected.keys()
        for name, values in expected.items():
            assert got[name].shape == values.shape and got[name].dtype == np.float32
            assert np.abs(got[name] - values).max() < POINTS / 10, (name, size)
    assert len({float(original.judge(np.full((1, 3, 64, 64), v, np.float32))["mu"][0]) for v in (0, 0.5, 1)}) == 3


@pytest.mark.parametrize(("preset", "bytes_a_weight"), [("lite", 2.2), ("opinion", 1.8)])
def test_narrow_weights_cost_less_than_a_twentieth_of_a_point(preset, bytes_a_weight, tmp_path):
    model = build(preset)
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, {"names": NAMES}))
    assert (tmp_path / "model.onnx").stat().st_size < bytes_a_weight * sum(p.numel() for p in model.parameters())
    x = torch.rand(1, 3, 200, 160).numpy()
    got, expected = OnnxEngine(tmp_path / "model.onnx").judge(x), TorchEngine(model, {}, "cpu").judge(x)
    assert all(np.abs(got[name] - expected[name]).max() < POINTS for name in ("mu", "sigma", "severity"))


def test_a_weight_too_large_for_half_precision_stays_as_it_is(tmp_path):
    model = narrowed(build("alone"))
    with torch.no_grad():
        model.score_head.layers[0].weight[0, 0] = 2 * LARGEST_HALF
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, {"names": NAMES}))
    x = torch.rand(1, 3, 64, 64).numpy()
    got, expected = OnnxEngine(tmp_path / "model.onnx").judge(x), TorchEngine(model, {}, "cpu").judge(x)
    assert got["mu"] == pytest.approx(expected["mu"], abs=1e-5)


def test_the_command_exports_what_the_checkpoint_knows_and_the_scores_stay(tmp_path, capsys):
    facts = {"target": "a test", "max_side": 96, "network_side": 64, "temperature": 2.0, "sigma_scale": 1.5,
             "quality_percentiles": [i / 100 for i in range(101)]}
    checkpoint = checkpoints.save(build("tiny"), tmp_path / "model.safetensors", torch.float16, **facts)
    assert main(["export", str(checkpoint), str(tmp_path / "model.onnx")]) == 0
    assert "predicts a test" in capsys.readouterr().out
    photograph = images.encode(torch.rand(3, 70, 130))
    ours, theirs = (Scorer(path, "cpu").score(photograph, with_map=True) for path in
                    (tmp_path / "model.onnx", checkpoint))
    for name in ("quality", "low", "high", "sigma", "percentile", "severity"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=0.05)
    assert ours.target == "a test" and [n for n, _ in ours.distortions] == [n for n, _ in theirs.distortions]
    assert np.abs(ours.map.values - theirs.map.values).max() < 0.05
    meta = OnnxEngine(tmp_path / "model.onnx").meta
    assert json.loads(json.dumps(facts)).items() <= meta.items() and meta["config"]["width"] == 8


def test_mistakes_are_named(tmp_path, capsys):
    other = checkpoints.save(network.build("tiny", branches=("type",)), tmp_path / "other.safetensors")
    for arguments, words in (([str(other), str(tmp_path / "a.onnx")], "no score head"),
                             ([str(other), str(tmp_path / "a.pt")], "ends in .onnx"),
                             ([str(tmp_path / "none"), str(tmp_path / "a.onnx")], "does not exist")):
        assert main(["export", *arguments]) == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()
    (tmp_path / "foreign.onnx").write_bytes(to_onnx(build("alone"), {"a": 1}))
    with pytest.raises(UserError, match="foreign.onnx is a model, but not one"):
        Scorer(tmp_path / "foreign.onnx")
