"""Scoring a picture stands on few rooms: no training, no data sets, no synthetic pools, no baselines."""

import json
import subprocess
import sys

import pytest

SCORE_ONE = """
import json, sys
import numpy as np
from gmiqa.score import Scorer
from gmiqa.score import folder, contact_sheet
scorer = Scorer(device="cpu", workers=1)
scorer.score(np.full((64, 64, 3), 90, np.uint8))
scorer.quality_map(np.full((64, 64, 3), 90, np.uint8))
print(json.dumps(sorted(sys.modules)))
"""
FORBIDDEN = (
    "gmiqa_core.training", "gmiqa_core.finetuning", "gmiqa_core.pretraining", "gmiqa_core.meta_learning",
    "gmiqa.base_networks", "gmiqa.distillation", "gmiqa_core.distributed", "gmiqa_core.resume", "gmiqa.baselines",
    "gmiqa.data.datasets", "gmiqa.data.synthetic", "gmiqa.data.embedded", "gmiqa.data.pictures", "gmiqa.evaluate",
    "gmiqa.experiments", "gmiqa.release", "gmiqa.figures", "gmiqa.settings", "gmiqa.runs", "gmiqa.widgets", "pandas",
    "sklearn", "scipy", "torchvision", "torch_geometric", "learn2learn", "matplotlib",
)


@pytest.fixture(scope="module")
def loaded():
    done = subprocess.run([sys.executable, "-c", SCORE_ONE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_scoring_a_picture_does_not_load(loaded, room):
    assert not [name for name in loaded if name == room or name.startswith(f"{room}.")]
