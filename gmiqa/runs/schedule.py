"""When a stage begins, and on how many threads: one rule for the chain and for its estimate of the time left.

A training's result depends on its number of threads, in the last digits. So the number does not depend on what happens
to run beside it: it follows from the cores and from how many stages may run side by side, and stands in run.json.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from gmiqa.runs.order import NEEDS, SECONDS, needs

# The share of a stage's computing that more threads share out (Amdahl). On two threads notebook 30 was 1.33 times as
# fast as on one (0.26 s a step against 0.35 s), on two cores with AVX512-BF16. No other stage has been measured.
PARALLEL = 0.5
ALONE = ("60_ablations",)  # one thread whatever it is given: its numbers do not depend on the threads
WORTH = 1.02  # a chain this much longer than the shortest is as good, if fewer stages depart from their share
PATH = ("20_meta_pretraining", "30_distortion_graphs", "40_fine_tuning", "50_evaluation")
MEASURED = ("30_distortion_graphs",)  # of the path: its gain from more threads is known, so it may get all cores


@dataclass(frozen=True)
class Task:
    """A stage to come: its seconds on its threads."""

    seconds: float
    threads: int


@dataclass(frozen=True)
class Room:
    """What the stages share: at most ``jobs`` side by side, on ``cores``."""

    jobs: int
    cores: int

    def following(self, waiting: Mapping[str, Task], running: Mapping[str, Task]) -> str | None:
        """The stage to begin now, or None.

        Of those whose needs are met it is the one with the longest path behind it, which decides when the chain ends.
        Where its threads do not fit beside what is running, it waits, and nothing overtakes it.
        """
        unfinished = {*waiting, *running}
        ready = [name for name in waiting if not needs(name, unfinished)]
        if not ready or len(running) >= self.jobs:
            return None
        first = max(ready, key=lambda name: path_seconds(name, waiting))
        used = sum(task.threads for task in running.values())
        return None if running and used + waiting[first].threads > max(self.cores, self.jobs) else first

    def ends(self, waiting: Mapping[str, Task], running: Mapping[str, Task] | None = None) -> dict[str, float]:
        """Seconds from now until each stage ends. ``running`` holds the seconds that those at work still need."""
        waiting, busy = dict(waiting), dict(running or {})
        now, ends = 0.0, {name: task.seconds for name, task in busy.items()}
        while waiting or busy:
            while (name := self.following(waiting, busy)) is not None:
                busy[name] = waiting.pop(name)
                ends[name] = now + busy[name].seconds
            if not busy:
                raise ValueError(f"none of {', '.join(waiting)} can begin")
            over = min(busy, key=lambda name: ends[name])
            now = ends[over]
            del busy[over]
        return ends

    def threads(self, name: str) -> int:
        """The threads of a stage, from the table of seconds alone: what makes the whole chain shortest."""
        return _threads(self)[name]


def path_seconds(name: str, waiting: Mapping[str, Task]) -> float:
    """Seconds of a stage and of the longest row of stages that stand on it."""
    behind = [path_seconds(other, waiting) for other in waiting if name in NEEDS[other]]
    return waiting[name].seconds + max(behind, default=0.0)


def speed(name: str, threads: int) -> float:
    """How much faster a stage is on its threads than on one."""
    return 1.0 if name in ALONE else 1 / (1 - PARALLEL + PARALLEL / threads)


@cache
def _threads(room: Room) -> dict[str, int]:
    """Every stage gets its share of the cores; those of the critical path get all, where that ends the chain sooner."""
    share = max(1, room.cores // room.jobs)

    def chosen(wide: tuple[str, ...]) -> dict[str, int]:
        return {name: max(1, room.cores) if name in wide else share for name in NEEDS}

    def span(wide: tuple[str, ...]) -> float:
        counts = chosen(wide)
        tasks = {name: Task(SECONDS[name] / speed(name, n), n) for name, n in counts.items()}
        return max(room.ends(tasks).values())

    spans = {wide: span(wide) for k in range(len(MEASURED) + 1) for wide in itertools.combinations(MEASURED, k)}
    near = [wide for wide, seconds in spans.items() if seconds <= WORTH * min(spans.values())]
    return chosen(min(near, key=lambda wide: (len(wide), spans[wide])))
