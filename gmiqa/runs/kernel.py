"""Small helpers between a stage and the kernel that it may run in."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any


def in_kernel() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


def set_threads(wanted: int) -> int:
    """Set the threads of this process and of workers that it starts, 0 for as many as they are; how many they are."""
    import torch
    if wanted:
        torch.set_num_threads(wanted)
        os.environ["OMP_NUM_THREADS"] = str(wanted)
    return torch.get_num_threads()


def seed_everything(seed: int) -> None:
    import numpy as np
    import torch
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def shown_width(png: Path, limit: int = 900) -> int:
    """Pictures are saved at 160 dpi and shown at 100, at most as wide as the page."""
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    return min(limit, round(width / 1.6))


def flat_name(column: Any) -> str:
    """The name of a column; the levels of a MultiIndex in one line."""
    return " ".join(map(str, column)).strip() if isinstance(column, tuple) else str(column)


def plain(value: Any) -> Any:
    """numpy and torch scalars -> Python's; NaN -> None, which JSON has a word for."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value
