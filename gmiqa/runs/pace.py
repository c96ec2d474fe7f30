"""How this machine's seconds compare with the expected ones, from the stages that have ended and those at work."""

from __future__ import annotations

from collections.abc import Iterable


class Pace:
    """Seconds that stages took, over the seconds that were expected of them."""

    def __init__(self) -> None:
        self._took = self._expected = 0.0

    def ended(self, took: float, expected: float) -> None:
        self._took += took
        self._expected += expected

    def ratio(self, running: Iterable[tuple[float, float]] = ()) -> float:
        """1 as long as nothing is known. ``running``: what each stage at work takes at least, and what was expected.

        A stage at work counts once it is sure to take longer than the others make one expect: nothing is known yet of
        one that may turn out quicker.
        """
        ratio = self._took / self._expected if self._expected else 1.0
        late = [(least, expected) for least, expected in running if least > ratio * expected]
        took = self._took + sum(least for least, _ in late)
        expected = self._expected + sum(expected for _, expected in late)
        return took / expected if expected else 1.0
