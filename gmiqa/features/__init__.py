"""Hand-crafted features of pictures: natural scene statistics, contrast, colour, compression and DCT coefficients.

These are functions of tensors: nothing is learned, read or kept here. `baselines` fits support vector machines to these
features, and `score` stacks such a machine with the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from gmiqa.features import dct, extended, nss


@dataclass(frozen=True)
class FeatureSet:
    """`function` maps RGB (N, 3, H, W) in 0..255 to (N, len(names)). Its columns are the first of the set `within`."""

    function: Callable[[Tensor], Tensor]
    names: tuple[str, ...]
    within: str = ""


def extended_dct(rgb: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) in 0..255 -> (N, d): the extended set, then the DCT's."""
    return torch.cat([extended.extended(rgb), dct.log_dct(rgb)], 1)


def brightness(rgb: Tensor) -> Tensor:
    """RGB images (N, 3, H, W) in 0..255 -> (N, 1): mean luminance."""
    return nss.luminance(rgb).mean((1, 2))[:, None]


FEATURES = {
    "brisque": FeatureSet(nss.brisque, tuple(nss.BRISQUE_NAMES), within="extended"),
    "extended": FeatureSet(extended.extended, tuple(extended.EXTENDED_NAMES)),
    "extended_dct": FeatureSet(extended_dct, (*extended.EXTENDED_NAMES, *dct.NAMES)),
    "brightness": FeatureSet(brightness, ("mean luminance",)),
    "sharpness": FeatureSet(nss.sharpness, ("log mean gradient",)),
}


@lru_cache(maxsize=1)
def version() -> str:
    """Digest of the code that computes features: rows that an earlier version computed are not used."""
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (nss, extended, dct))
    return sha256(code).hexdigest()[:12]
