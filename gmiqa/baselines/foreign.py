"""Any metric of pyiqa by name, where the user has installed it and its weights are at hand."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch

from gmiqa.baselines.base import OneNumber
from gmiqa.data import images
from gmiqa_core.errors import UserError


class Pyiqa(OneNumber):
    """`pyiqa:hyperiqa`: the metric as its authors trained it; the training part sets only the scale."""

    def __init__(self, metric: str, max_side: int = 512, device: str | torch.device = "cpu"):
        self.metric, self.title, self.max_side, self.device = metric, f"pyiqa:{metric}", max_side, device
        if importlib.util.find_spec("pyiqa") is None:
            raise UserError(f"{self.title} needs the package pyiqa, which is not installed: pip install pyiqa, or take "
                            "it off the list of baselines")  # fmt: skip
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
            import pyiqa

            try:
                self._model = pyiqa.create_metric(self.metric, device=torch.device(self.device))
            except Exception as error:  # unknown names, and every way in which a download can fail
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(f"{self.title} is not at hand ({reason}): its name must be one of pyiqa's, and its "
                                "weights are fetched by pyiqa once, with a network") from error  # fmt: skip
            self.rises = not self._model.lower_better
        return self._model
