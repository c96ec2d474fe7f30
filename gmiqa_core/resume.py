"""Checkpoints: one file, written atomically, read without executing anything, exact to the last bit."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmiqa_core.errors import UserError
from gmiqa_core.files import written_atomically

FORMAT = "gmiqa training checkpoint 1"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a kill leaves the old file or the new one."""
    with written_atomically(path) as beside, open(beside, "wb") as file:
        torch.save({"format": FORMAT, **state}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; for a foreign or damaged file, a UserError names it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is not a readable training checkpoint ({type(error).__name__}): "
                        "delete it to start anew, or restore it from a copy") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this training loop (expected '{FORMAT}'): move it elsewhere")
    return state


def copy_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def fingerprint(model: nn.Module) -> str:
    """Digest of the weights that a run starts from: a run with another start is another run and is not resumed."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
