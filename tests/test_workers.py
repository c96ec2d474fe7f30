"""Two processes equal one that runs the same micro-batches: the loop itself, meta-learning and fine-tuning."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import test_finetuning
import test_meta_learning
import test_training
import torch

from gmiqa_core import distributed, finetuning, meta_learning, network, training

PARTS = ("loop", "meta-learning", "fine-tuning")


def run_parts(folder: str, report: object = None) -> dict[str, torch.nn.Module]:
    """Everything trains in one call, so that starting workers is paid once; in float32, where rounding is small."""
    options = dict(precision="fp32", log_every=1)
    loop = test_training.small()
    training.train(loop, test_training.objective, steps=4, lr=1e-2, folder=f"{folder}/loop", accumulate=4, **options)
    meta = meta_learning.MetaLearner(test_meta_learning.regressor(), first_order=False)
    tasks = meta_learning.MetaObjective(test_meta_learning.FakePool(), [1, 2, 3], tasks=3, support=4, query=4)
    meta_learning.train(meta, tasks, steps=2, lr=1e-3, folder=f"{folder}/meta-learning", **options)
    torch.manual_seed(0)
    how = replace(test_finetuning.HOW, batch=4, share=0.5)
    tuned, _ = finetuning.finetune(network.build("tiny"), test_finetuning.pictures(), how, steps=2, accumulate=2,
                                   folder=f"{folder}/fine-tuning", synthetic=test_finetuning.synthetic, **options)
    return {"loop": loop, "meta-learning": meta.model, "fine-tuning": tuned}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, dict, dict]:
    folder = tmp_path_factory.mktemp("workers")
    two = distributed.launch(2, run_parts, str(folder / "2"), report=lambda *_: None)
    return folder, run_parts(str(folder / "1")), two


@pytest.mark.parametrize("part", PARTS)
def test_two_processes_equal_one_that_runs_the_same_micro_batches(runs, part):
    folder, one, two = runs
    for (name, a), b in zip(one[part].state_dict().items(), two[part].state_dict().values(), strict=True):
        # Adam turns the rounding of a gradient near 0 into a part of a step, which is 1e-3 here
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)
    logged = [pd.read_csv(folder / n / part / "metrics.csv") for n in ("1", "2")]
    assert logged[0]["name"].tolist() == logged[1]["name"].tolist()
    assert logged[0]["value"].to_numpy() == pytest.approx(logged[1]["value"].to_numpy(), rel=1e-3, abs=1e-5)
