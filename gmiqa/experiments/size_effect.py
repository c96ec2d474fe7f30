"""What the rule for large pictures does to scores: blur and noise shrink with a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from gmiqa.data.images import Decoded
from gmiqa_core.network import GMIQA
from gmiqa_core.prediction import predict


def size_effect(model: GMIQA, pictures: Sequence[Tensor], sides: Sequence[int], **seen: Any) -> pd.DataFrame:
    """Scores under several limits of the longer side: DataFrame picture, max_side, mu, sigma. A limit beyond the
    picture's own side leaves it as it is. seen: options of `predict`, those of the network's tests."""
    parts = [pd.DataFrame(vars(predict(model, Decoded(pictures, side), **seen))) for side in sides]
    return pd.concat([part.assign(max_side=side, picture=range(len(pictures)))
                      for side, part in zip(sides, parts, strict=True)], ignore_index=True)
