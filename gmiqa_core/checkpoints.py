"""A model as one file: safetensors, with the options and the meta data in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gmiqa_core.errors import UserError
from gmiqa_core.files import written_atomically
from gmiqa_core.network import GMIQA


def save(model: GMIQA, path: str | Path, dtype: torch.dtype | None = None, **meta: Any) -> Path:
    """Weights, options and `meta` (JSON-able) in one safetensors file.

    dtype    torch.float16 halves the size of the file; load still returns float32
    """
    tensors = {key: value.to(dtype) if dtype and value.is_floating_point() else value
               for key, value in model.state_dict().items()}
    return write(path, tensors, gmiqa=json.dumps({"config": model.config, "start": model.start, "meta": meta}))


def write(path: str | Path, tensors: Mapping[str, torch.Tensor], **header: str) -> Path:
    """Write one safetensors file; a run that is killed leaves the old file or none."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(path) as beside:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, beside, metadata=header)
    return path


def read(path: str | Path, expected: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file; `expected` says what it should be, for the error message."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable {expected} ({error}).") from error


def load(path: str | Path, device: str | torch.device = "cpu") -> tuple[GMIQA, dict[str, Any]]:
    """The model in a file that `save` wrote, in eval mode on `device`, and its meta data."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist.")
    tensors, metadata = read(path, "checkpoint of gmiqa")
    header = json.loads(metadata.get("gmiqa", "null"))
    if header is None:
        raise UserError(f"{path} is a safetensors file, but not a checkpoint of gmiqa; expected one written by a run.")
    model = GMIQA(**header["config"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the network its header describes: {error}") from error
    model.start = header["start"]
    return model.to(device).eval(), header["meta"]
