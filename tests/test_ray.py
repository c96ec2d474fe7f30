"""Ray: the same rows as the local engine, also when a worker is killed. Skipped without the extra gmiqa[ray]."""

import sys

import pytest
import torch

from gmiqa.cli import main
from gmiqa.data import images
from gmiqa.score import ray_engine
from gmiqa_core import checkpoints, network
from gmiqa_core.errors import UserError


def test_without_ray_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="not installed"):
        ray_engine.start_ray(1)


def test_a_score_survives_the_way_through_rays_columns(tmp_path):
    torch.manual_seed(0)
    checkpoint = checkpoints.save(network.build("tiny"), tmp_path / "m.safetensors", max_side=64)
    images.write(torch.rand(3, 40, 50), tmp_path / "a.png")
    actor = ray_engine.Actor(str(checkpoint), "cpu")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "none.png")]
    columns = actor({"path": [p.encode() for p in paths], "shown": [b"a.png", b"caf\xe9.png"]})
    rows = [{name: values[i] for name, values in columns.items()} for i in range(2)]
    good, bad = map(ray_engine._score, rows)
    alone = actor.scorer.score(paths[0])
    assert (good.quality, good.sigma, good.distortions) == (alone.quality, alone.sigma, alone.distortions)
    assert good.path == "a.png" and bad.error and bad.path == "caf\udce9.png"


@pytest.mark.timeout(300)
def test_both_engines_write_the_same_table(tmp_path):
    pytest.importorskip("ray", reason="the extra gmiqa[ray] is not installed")
    torch.manual_seed(0)
    checkpoint = checkpoints.save(network.build("tiny"), tmp_path / "m.safetensors", max_side=64)
    (tmp_path / "pictures").mkdir()
    for i in range(60):
        images.write(torch.rand(3, 40, 50, generator=torch.manual_seed(i)), tmp_path / "pictures" / f"{i:02d}.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no")
    for engine in ("local", "ray"):
        arguments = ["--csv", str(tmp_path / f"{engine}.csv"), "--checkpoint", str(checkpoint), "--device", "cpu"]
        assert main(["score", str(tmp_path / "pictures"), *arguments, "--engine", engine, "--workers", "2"]) == 3
    assert (tmp_path / "local.csv").read_bytes() == (tmp_path / "ray.csv").read_bytes()
