"""What computes: an engine turns one picture into the numbers of the network, by name.

    mu, sigma (1,)            quality in 0..1, higher is better, and its spread
    types (1,26)              logits of "none of these" and the 25 distortion types
    severity (1,)             of the distortion, 0..1
    places (1,rows,columns)   severity at places about 16 px apart

The last three are there where the network has these branches. `meta` says what belongs to the network: Scorer has the
list. A model in ONNX runs in onnxruntime; a checkpoint of a training needs torch, which is loaded for it alone.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gmiqa_core.errors import UserError


class Engine(Protocol):
    """device: `cpu` or `cuda`."""

    meta: dict[str, Any]
    device: str

    def judge(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """One picture (1,3,h,w), float32 in [0,1], h and w from 32 -> the arrays above."""

    def pool(self, workers: int) -> Executor:
        """Threads in which `judge` computes on one core each, so that its result does not depend on their number."""


def load(model: str | Path, device: str) -> Engine:
    """The engine of a file: a model in ONNX, or a checkpoint of a training."""
    path = Path(model)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist.")
    if path.suffix == ".onnx":
        return OnnxEngine(path, device)
    try:
        from gmiqa.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path} is a checkpoint of a training, which needs {error.name}, and that is not installed: install the "
            "extra 'lab', or export it where that is installed (gmiqa export CHECKPOINT FILE.onnx) and give FILE.onnx"
        ) from None
    return TorchEngine.load(path, device)


class OnnxEngine:
    """A file that `gmiqa export` wrote, in onnxruntime; one session serves all threads."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # a plan for each shape would take a quarter more memory
        options.log_severity_level = 4
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers)
            self.meta = json.loads(self.session.get_modelmeta().custom_metadata_map["gmiqa"])
            self.meta["names"] = list(self.meta["names"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path} is a model, but not one that `gmiqa export` wrote") from None
        except Exception as error:  # onnxruntime has a dozen kinds of its own
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{path} is not a model that onnxruntime can run ({reason})") from None
        self.device = "cuda" if "CUDA" in self.session.get_providers()[0] else "cpu"
        self._names = [output.name for output in self.session.get_outputs()]

    def judge(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """See Engine."""
        return dict(zip(self._names, self.session.run(None, {"image": x}), strict=True))

    def pool(self, workers: int) -> Executor:
        """See Engine."""
        return ThreadPoolExecutor(workers, "scorer")


def _providers(device: str, available: list[str]) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not number.isdigit()):
        raise UserError(f"device {device!r} cannot be used here: expected auto, cpu or cuda")
    if kind == "cuda" and "CUDAExecutionProvider" not in available:
        raise UserError(f"device {device!r} cannot be used here: the package onnxruntime has no CUDA; install "
                        "onnxruntime-gpu in its place, or take cpu")
    if kind == "cpu" or "CUDAExecutionProvider" not in available:
        return ["CPUExecutionProvider"]
    exact = {"device_id": int(number or 0), "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
    return [("CUDAExecutionProvider", exact), "CPUExecutionProvider"]
