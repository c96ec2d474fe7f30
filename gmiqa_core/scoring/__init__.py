"""A checkpoint -> scores, uncertainty, reason and map, for one picture or a folder of them."""

from gmiqa_core.scoring.quality_map import QualityMap
from gmiqa_core.scoring.score import Score
from gmiqa_core.scoring.scorer import Scorer

__all__ = ["QualityMap", "Score", "Scorer"]
