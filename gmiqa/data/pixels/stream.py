"""Many pictures: work on them in a pool, in order, a few ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 16


def ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item],
          depth: int = AHEAD) -> Iterator[Result]:
    """function over items in the workers of a pool: results in order, at most `depth` of them in work."""
    flight: deque[Future[Result]] = deque()
    try:
        for item in items:
            flight.append(pool.submit(function, item))
            if len(flight) >= depth:
                yield flight.popleft().result()
        while flight:
            yield flight.popleft().result()
    finally:
        for future in flight:
            future.cancel()
