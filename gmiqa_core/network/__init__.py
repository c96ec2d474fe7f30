"""GMIQA: `model` is the network, `presets` its options, `files` saves and loads it, `cost` measures its modules."""

from gmiqa_core.network.cost import cost
from gmiqa_core.network.files import load, read, save, write
from gmiqa_core.network.model import GMIQA, QualityRegressor, build
from gmiqa_core.network.presets import PAPER, PRESETS

__all__ = ["GMIQA", "PAPER", "PRESETS", "QualityRegressor", "build", "cost", "load", "read", "save", "write"]
