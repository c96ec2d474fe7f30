"""The loop: resume is exact, processes are equivalent, divergence stops with a message."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from gmiqa_core import distributed, resume, training
from gmiqa_core.errors import UserError


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    # no bias before BatchNorm: its gradient is rounding noise, which Adam would make a full step of
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))


def objective(model, step, micro):
    """Mean of the picture from the picture; module level, so that workers can import it."""
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(100 * step + micro))
    loss = (model(x).squeeze(1) - x.mean((1, 2, 3))).square().mean()
    return loss, {"noise": torch.rand(())}


class Killed(BaseException):
    pass


def killed_at(k: int):
    def wrapped(model, step, micro):
        if step == k:
            raise Killed
        return objective(model, step, micro)
    return wrapped


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "accumulate": 2, "weight_decay": 0.01, "select": "best"}])
def test_killed_at_any_step_and_continued_equals_the_unbroken_run(tmp_path, options):
    def score(model):
        with torch.no_grad():
            return {"score": -float(objective(model, 999, 0)[0])}

    settings = dict(steps=8, lr=1e-2, checkpoint_every=3, log_every=2, every=4, evaluate=score, **options)
    whole = small()
    straight = training.train(whole, objective, folder=tmp_path / "whole", **settings)
    columns = ["step", "part", "name", "value"]
    for k in range(1, 8):
        with pytest.raises(Killed):
            training.train(small(), killed_at(k), folder=tmp_path / str(k), **settings)
        torch.rand(17)  # another process would stand elsewhere in its random stream
        again = small()
        resumed = training.train(again, objective, folder=tmp_path / str(k), **settings)
        assert equal(whole, again), k
        assert straight.best["score"] == resumed.best["score"]
        pd.testing.assert_frame_equal(straight.metrics[columns], resumed.metrics[columns])


def test_a_finished_run_is_not_repeated_and_another_start_is_another_run(tmp_path, capsys):
    model = small()
    training.train(model, objective, steps=3, lr=1e-2, folder=tmp_path)
    follows = torch.rand(3)
    again = small()
    training.train(again, killed_at(0), steps=3, lr=1e-2, folder=tmp_path)
    assert equal(model, again) and torch.equal(follows, torch.rand(3)), "a network drawn next is the same"
    training.train(small(seed=1), objective, steps=3, lr=1e-2, folder=tmp_path)
    assert "holds another run (start" in capsys.readouterr().out
    assert (tmp_path / "previous.ckpt").exists()


@pytest.mark.parametrize("what", ["nan", "explosion"])
def test_divergence_stops_and_names_the_last_good_checkpoint(tmp_path, what):
    def bad(model, step, micro):
        loss, extra = objective(model, step, micro)
        return (loss * (math.nan if what == "nan" else 1e9) if step >= 25 else loss), extra

    with pytest.raises(UserError, match=r"diverged at step .*last\.ckpt.*Lower the learning rate"):
        training.train(small(), bad, steps=40, lr=1e-3, folder=tmp_path, checkpoint_every=5)
    state = resume.load_checkpoint(tmp_path / "last.ckpt")
    assert state["step"] == 25
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_early_stopping_keeps_the_best_weights(tmp_path):
    seen = []

    def worse_and_worse(model):
        seen.append(resume.copy_state(model))
        return {"score": -len(seen)}

    model = small()
    history = training.train(model, objective, steps=50, lr=1e-2, folder=tmp_path, evaluate=worse_and_worse, every=5,
                             patience=2, select="best")
    assert history.last == {"step": 15, "path": tmp_path / "last.ckpt", "stopped_early": True}
    assert history.best["step"] == 5
    assert all(torch.equal(v, seen[0][k]) for k, v in model.state_dict().items())


def test_accumulation_equals_one_large_batch(tmp_path):
    def linear():
        torch.manual_seed(0)
        return nn.Linear(5, 1)

    def part(model, step, micro):
        x = torch.rand(8, 5, generator=torch.Generator().manual_seed(step))[4 * micro: 4 * micro + 4]
        return model(x).square().mean(), {}

    def full(model, step, micro):
        x = torch.rand(8, 5, generator=torch.Generator().manual_seed(step))
        return model(x).square().mean(), {}

    one, two = linear(), linear()
    training.train(one, full, steps=5, lr=1e-2, folder=tmp_path / "a")
    training.train(two, part, steps=5, lr=1e-2, folder=tmp_path / "b", accumulate=2)
    torch.testing.assert_close(one.weight, two.weight)


def test_groups_have_their_own_rates_and_frozen_parameters_stay(tmp_path):
    model = small()
    start = resume.copy_state(model)
    model[0].weight.requires_grad_(False)
    groups = [{"params": model[:2].parameters(), "lr": 0.0}, {"params": model[2:].parameters()}]
    training.train(model, objective, steps=3, lr=1e-2, folder=tmp_path, parameter_groups=groups)
    assert torch.equal(model[1].bias, start["1.bias"])
    assert torch.equal(model[0].weight, start["0.weight"])
    assert not torch.equal(model[6].weight, start["6.weight"])
    with pytest.raises(UserError, match="not part of the model"):
        training.train(model, objective, steps=3, lr=1e-2, folder=tmp_path,
                       parameter_groups=[{"params": [nn.Parameter(torch.zeros(1))]}])


def test_learning_rate_rises_then_falls_to_zero():
    rates = [training.learning_rate_factor(i, 100, 0.1) for i in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == 1
    assert rates[9:] == sorted(rates[9:], reverse=True) and 0 <= rates[-1] < 1e-3


def test_bf16_trains_with_float32_weights(tmp_path):
    model = small()
    history = training.train(model, objective, steps=3, lr=1e-2, folder=tmp_path, precision="bf16", log_every=1)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert history.metrics["value"].notna().all()


def test_a_foreign_checkpoint_is_refused_by_name(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"something else")
    with pytest.raises(UserError, match="last.ckpt"):
        training.train(small(), objective, steps=2, lr=1e-2, folder=tmp_path)


def test_constant_buffers_are_not_moved_by_accumulation(tmp_path):
    model = small()
    model.register_buffer("table", torch.rand(50))
    before = model.table.clone()
    training.train(model, objective, steps=3, lr=1e-2, folder=tmp_path, accumulate=3)
    assert torch.equal(before, model.table)


def test_launch_refuses_what_workers_cannot_import():
    with pytest.raises(UserError, match="importable module"):
        distributed.launch(2, lambda: None)


def test_no_steps_leave_the_model_and_an_empty_table(tmp_path):
    model = small()
    start = resume.copy_state(model)
    history = training.train(model, objective, steps=0, lr=1e-2, folder=tmp_path)
    assert len(history.metrics) == 0 and history.last["step"] == 0
    assert all(torch.equal(v, start[k]) for k, v in model.state_dict().items())


def test_a_training_does_not_load_torchs_compiler(tmp_path):
    """It takes seconds, in each of the notebooks' kernels."""
    code = ("import sys, torch, test_training as t; from gmiqa_core import training\n"
            f"training.train(t.small(), t.objective, steps=2, lr=0.1, folder={str(tmp_path)!r}, ema=0.9, clip=1.0)\n"
            "assert 'torch._dynamo' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent,
                   env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
