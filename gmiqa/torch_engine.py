"""Checkpoints of a training, run in PyTorch: what gmiqa.score uses where a model has not been exported to ONNX."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmiqa.data.distortions import TYPES
from gmiqa.threads import single_threaded_pool
from gmiqa_core import checkpoints
from gmiqa_core.errors import UserError

NAMES = ("none of these", *(type.title for type in TYPES))


class TorchEngine:
    """network: a GMIQA with a score head; meta: what its checkpoint says about it."""

    def __init__(self, network: Any, meta: dict[str, Any], device: str = "auto") -> None:
        self._device = device_of(device)
        self.device = self._device.type
        self.network, self.meta = network.to(self._device).eval(), {"names": NAMES, **meta}
        branches = network.config["branches"]
        if "score" not in branches:
            raise UserError(f"the model has no score head (its branches: {', '.join(branches)}): fine-tune it first")

    @classmethod
    def load(cls, checkpoint: Path, device: str = "auto") -> TorchEngine:
        """The network of a checkpoint."""
        return cls(*checkpoints.load(checkpoint), device)

    @torch.inference_mode()
    def judge(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """One picture (1,3,h,w) in [0,1] -> what GMIQA.judge says of it."""
        exact = torch.backends.cudnn.flags(True, False, deterministic=True, allow_tf32=False)
        with exact if self.device == "cuda" else nullcontext():
            judgement = self.network.judge(torch.from_numpy(x).to(self._device))._asdict()
        return {name: value.float().cpu().numpy() for name, value in judgement.items() if value is not None}

    def pool(self, workers: int) -> ThreadPoolExecutor:
        """Threads in which `judge` computes on one core each."""
        return single_threaded_pool(workers, "scorer")


def device_of(name: str) -> torch.device:
    """The device of that name, auto is a GPU where there is one; a UserError where it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}): expected auto, cpu or cuda"
        ) from None
    return device
