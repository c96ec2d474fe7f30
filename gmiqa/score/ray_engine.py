"""Scoring through Ray Data: the same scores from many processes, on one machine or a cluster.

Every actor holds a Scorer of one thread, so the scores are those of the local engine to the last bit (on a CPU). Ray
starts a new actor where one dies and gives it the pictures that were in work: nothing is lost. On a cluster, pictures
and checkpoint must have the same path on every machine; RAY_ADDRESS names the cluster, otherwise Ray starts here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gmiqa.score.result import Score
from gmiqa.score.scorer import Scorer
from gmiqa.threads import cores
from gmiqa_core.errors import UserError

BATCH = 16  # pictures handed to an actor at a time; if one dies, they are scored again
STORE = 200_000_000  # bytes of Ray's shared memory on this machine; only paths and scores pass through it


class RayScorer:
    """Stands in for a Scorer where paths are scored in bulk. workers: actors (default: the cores of this machine)."""

    def __init__(self, checkpoint: str | Path | None = None, device: str = "auto", *, workers: int | None = None):
        self.workers = workers or cores()
        start_ray(self.workers)
        self._arguments = (os.path.abspath(checkpoint) if checkpoint else None, device)
        first = Scorer(*self._arguments, workers=1)  # a mistake in the call must be reported here, in words
        self.target, self._gpus = first.target, float(first.device == "cuda")
        first.close()

    def score_many(self, paths: Iterable[str | os.PathLike]) -> Iterator[Score]:
        """Score a stream of paths, in their order."""
        import ray.data

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        rows = [{"path": os.fsencode(os.path.abspath(path)), "shown": os.fsencode(path)} for path in paths]
        if not rows:
            return
        blocks = max(self.workers, min(-(-len(rows) // BATCH), 64 * self.workers))
        scored = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            Actor,
            fn_constructor_args=self._arguments,
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_cpus=1,
            num_gpus=self._gpus / self.workers,
        )
        for row in scored.iter_rows():
            yield _score(row)


class Actor:
    """One process: a Scorer of one thread, batches of paths in, columns of scores out."""

    def __init__(self, checkpoint: str | None, device: str) -> None:
        self.scorer = Scorer(checkpoint, device, workers=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """path and shown (bytes) -> the fields of Score as columns."""
        scores = list(self.scorer.score_many([os.fsdecode(bytes(path)) for path in batch["path"]]))
        columns: dict[str, list] = {name: [getattr(score, name) for score in scores] for name in NUMBERS}
        columns["path"] = [bytes(shown) for shown in batch["shown"]]
        columns["error"] = [os.fsencode(score.error) for score in scores]
        columns["target"] = [score.target for score in scores]
        columns["names"] = ["\n".join(name for name, _ in score.distortions) for score in scores]
        columns["probabilities"] = [[p for _, p in score.distortions] for score in scores]
        return columns


NUMBERS = ("quality", "low", "high", "sigma", "percentile", "severity", "width", "height")


def _score(row: dict[str, Any]) -> Score:
    names = row["names"].split("\n") if row["names"] else []
    return Score(
        **{name: row[name] for name in NUMBERS},
        distortions=tuple(zip(names, map(float, row["probabilities"]), strict=True)),
        target=row["target"],
        path=os.fsdecode(row["path"]),
        error=os.fsdecode(row["error"]),
    )


def start_ray(workers: int) -> None:
    """Join the cluster of RAY_ADDRESS, or start Ray on this machine."""
    try:
        import ray
    except ImportError:
        raise UserError("Ray is an extra and not installed: pip install 'ray[data]' -c constraints.txt") from None
    if ray.is_initialized():
        return
    place = {"num_cpus": workers, "object_store_memory": STORE, "include_dashboard": False}
    try:
        ray.init(**({} if os.environ.get("RAY_ADDRESS") else place), log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises bare Exceptions, ConnectionErrors and more here
        raise UserError(f"Ray does not start ({error}); without it: --engine local") from None
