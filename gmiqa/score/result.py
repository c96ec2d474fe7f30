"""The score of one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmiqa.score.quality_map import QualityMap

NONE = "none of these"  # the name that comes first among a network's types
Z90 = 1.6449  # a Gaussian holds 90 % of its mass within this many sigmas


@dataclass(frozen=True)
class Score:
    """The score of one picture, how sure it is, and why.

    quality, low, high and sigma are on 0..100, higher is better; low..high should hold the mean opinion of `target`
    with 90 % probability. percentile is the share of the target data set's pictures that score lower (0..100).
    distortions are (name, probability), most probable first. severity, on 0..1, is 1 - quality on KADID-10k's scale.
    A picture that could not be read has `error`, and NaN for every number. `map` is there where it was asked for.
    """

    quality: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sigma: float = math.nan
    percentile: float = math.nan
    distortions: tuple[tuple[str, float], ...] = ()
    severity: float = math.nan
    width: int = 0
    height: int = 0
    target: str = ""
    path: str = ""
    error: str = ""
    map: QualityMap | None = field(default=None, compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and words, as in JSON: None for what is not known; without the map."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("map", "distortions")}
        fields |= {"cause": self.cause, "distortion": self.distortion, "probability": self.probability}
        fields["distortions"] = dict(self.distortions)
        return {name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in fields.items()}

    @property
    def cause(self) -> str:
        """What most probably harms the picture: `distortion`, or "" where that is none of the known ones."""
        return "" if self.distortion == NONE else self.distortion

    @property
    def distortion(self) -> str:
        """The most probable name ("none of these" included), or "" where nothing was read."""
        return self.distortions[0][0] if self.distortions else ""

    @property
    def probability(self) -> float:
        """The probability of `distortion`."""
        return self.distortions[0][1] if self.distortions else math.nan

    @property
    def guess(self) -> str:
        """The most probable name with its probability; with "perhaps" if all others together are more probable."""
        if not self.distortions:
            return "not known"
        return f"{'' if self.probability >= 0.5 else 'perhaps '}{self.distortion} ({self.probability:.0%})"

    def __str__(self) -> str:
        if self.error:
            return f"not scored: {self.error}"
        return (
            f"quality {self.quality:.1f} of 100 (90 %: {self.low:.0f} to {self.high:.0f}); "
            f"{self.guess}, severity {self.severity:.2f}"
        )

