"""The one training loop: mixed precision, accumulation, schedule, checkpoints, resume, several processes."""

from gmiqa_core.training.checkpoint import load_checkpoint, save_checkpoint
from gmiqa_core.training.launch import launch
from gmiqa_core.training.loop import History, Objective, arithmetic, learning_rate_factor, lines, train

__all__ = ["History", "Objective", "arithmetic", "launch", "learning_rate_factor", "lines", "load_checkpoint",
           "save_checkpoint", "train"]
