"""From a checkpoint to scores with their uncertainty, a reason and a map, for one picture or a folder of them."""

from gmiqa.score.quality_map import QualityMap
from gmiqa.score.result import Score
from gmiqa.score.scorer import Scorer

__all__ = ["QualityMap", "Score", "Scorer"]
