"""What others have published: any metric of pyiqa by name, and two packages that score a picture by hand-made rules.

None of them is needed by this project: each is used where the user has installed it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

from gmiqa.baselines.base import OneNumber
from gmiqa.data import images
from gmiqa_core.errors import UserError


class Pyiqa(OneNumber):
    """`pyiqa:hyperiqa`: the metric as its authors trained it; the training part sets only the scale."""

    def __init__(self, metric: str, max_side: int = 512, device: str | torch.device = "cpu"):
        self.metric, self.title, self.max_side, self.device = metric, f"pyiqa:{metric}", max_side, device
        self._pyiqa = _installed("pyiqa", self.title)
        self._model: Any = None

    def numbers(self, pictures: list[Any]) -> np.ndarray:
        model = self._loaded()
        result = []
        with torch.inference_mode():
            for picture in pictures:
                image = images.to_float(images.limit(images.from_any(picture), self.max_side))
                result.append(float(model(image[None].to(self.device))))
        return np.array(result)

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                self._model = self._pyiqa.create_metric(self.metric, device=torch.device(self.device))
            except Exception as error:  # unknown names, and every way in which a download can fail
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(f"{self.title} is not at hand ({reason}): its name must be one of pyiqa's, and its "
                                "weights are fetched by pyiqa once, with a network") from error  # fmt: skip
            self.rises = not self._model.lower_better
        return self._model


class Rules(OneNumber):
    """`image-quality-ai` and `capturetrust` (both MIT): a score from 0 to 100, higher is better. The training part sets
    only the scale, so of its pictures only `learn` are scored."""

    rises = True
    score: ClassVar[dict[str, Callable[[Any, np.ndarray], Any]]] = {
        "image-quality-ai": lambda package, rgb: package.assess(rgb).score,
        "capturetrust": lambda package, rgb: package.inspect_array(rgb[..., ::-1].copy()).score}

    def __init__(self, package: str, learn: int = 100):
        self.title, self.learn, self._package = package, learn, _installed(package, package)

    def _fit(self, pictures: list[Any], quality: np.ndarray) -> None:
        some = np.linspace(0, len(pictures) - 1, min(self.learn, len(pictures))).astype(int)
        super()._fit([pictures[i] for i in some], quality[some])

    def numbers(self, pictures: list[Any]) -> np.ndarray:
        score = self.score[self.title]
        samples = (np.asarray(images.to_pil(images.to_uint8(images.from_any(picture)))) for picture in pictures)
        return np.array([float(score(self._package, rgb)) for rgb in samples])


def _installed(package: str, title: str) -> Any:
    try:
        return importlib.import_module(package.replace("-", "_"))
    except ImportError:
        raise UserError(f"{title} needs the package {package}, which is not installed: pip install {package}, or take "
                        "it off the list of baselines") from None
