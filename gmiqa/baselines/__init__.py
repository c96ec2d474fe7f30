"""What we compare with, trained on the same splits: `make("brisque_svr").fit(paths, quality).predict(paths)`."""

from __future__ import annotations

from typing import Any

from gmiqa.baselines.base import Baseline
from gmiqa.baselines.extraction import matrix
from gmiqa_core.errors import UserError, did_you_mean

NAMES = ("mean", "file_size", "brightness", "sharpness", "niqe", "brisque_svr", "nss_svr", "cnniqa", "resnet")
FOREIGN = ("image-quality-ai", "capturetrust")  # packages to install for a comparison
COMMON = ("max_side", "cache", "seed", "device", "pristine")

__all__ = ["FOREIGN", "NAMES", "Baseline", "make", "matrix"]


def make(name: str, **options: Any) -> Baseline:
    """A new baseline by name, one of NAMES, FOREIGN or "pyiqa:METRIC"; options that it does not know are refused.

    These options may be given to every method, and those that do not use them ignore them: max_side (longer pictures
    are shrunk first), cache (folder for features), seed, device, pristine (pictures that NIQE learns from). Learned
    methods take steps, too.
    """
    if name.startswith("pyiqa:"):
        from gmiqa.baselines.foreign import Pyiqa

        return _made(name, Pyiqa, {"metric": name.removeprefix("pyiqa:")}, options)
    if name in FOREIGN:
        from gmiqa.baselines.foreign import Rules

        return _made(name, Rules, {"package": name}, options)
    if name in ("cnniqa", "resnet"):
        from gmiqa.baselines.deep import CNNIQA, PlainResNet

        return _made(name, CNNIQA if name == "cnniqa" else PlainResNet, {}, options)
    if name == "niqe":
        from gmiqa.baselines.niqe import NIQE

        return _made(name, NIQE, {}, options)
    from gmiqa.baselines.svr import FeatureSVR
    from gmiqa.baselines.trivial import FileSize, Mean, Measured

    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "mean": (Mean, {}),
        "file_size": (FileSize, {}),
        "brightness": (Measured, {"name": "brightness"}),
        "sharpness": (Measured, {"name": "sharpness"}),
        "brisque_svr": (FeatureSVR, {"features": "brisque", "title": "BRISQUE + SVR"}),
        "nss_svr": (FeatureSVR, {"features": "extended", "title": "extended NSS + SVR"}),
    }
    if name not in known:
        raise UserError(f"there is no baseline {name!r}{did_you_mean(name, (*NAMES, *FOREIGN))}; there are "
                        f"{', '.join((*NAMES, *FOREIGN))} and pyiqa:METRIC")  # fmt: skip
    return _made(name, *known[name], options)


def _made(name: str, kind: Any, fixed: dict[str, Any], options: dict[str, Any]) -> Baseline:
    import inspect

    takes = [parameter for parameter in inspect.signature(kind).parameters if parameter not in fixed]
    options = {option: value for option, value in options.items() if option in takes or option not in COMMON}
    for option in options:
        if option not in takes:
            raise UserError(f"baseline {name} has no option {option!r}; it takes {', '.join(takes) or 'none'}")
    return kind(**fixed, **options)
