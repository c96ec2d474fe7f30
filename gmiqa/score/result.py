"""The score of one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z90 = 1.6449  # a Gaussian holds 90 % of its mass within this many sigmas


@dataclass(frozen=True)
class Score:
    """The score of one picture, how sure it is, and why.

    quality, low, high and sigma are on 0..100, higher is better; low..high should hold the mean opinion of `target`
    with 90 % probability. percentile is the share of the target data set's pictures that score lower (0..100).
    distortions are (name, probability), most probable first. severity, on 0..1, is 1 - quality on KADID-10k's scale.
    A picture that could not be read has `error`, and NaN for every number.
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


def distortion_name(index: int) -> str:
    """0 -> "none of these"; 1..25 -> the title of the distortion type."""
    from gmiqa.data.distortions import TYPES

    return "none of these" if index == 0 else TYPES[index - 1].title
