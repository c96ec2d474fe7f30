"""One picture -> its score, how sure it is, and why.

The same picture gives the same score on every run, alone or among others, from a path or an array: a pass of the
network holds one picture and, on a CPU, runs on one thread; as many pictures are in work as there are workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gmiqa.data import pixels
from gmiqa.score import engine as engines
from gmiqa.score import quality_map as maps
from gmiqa.score.model import Judged, ScoringModel
from gmiqa.score.prepare import Prepared, path_of, prepare
from gmiqa.score.quality_map import QualityMap
from gmiqa.score.result import Score
from gmiqa.threads import cores
from gmiqa_core.errors import UserError

BUNDLED = Path(__file__).parents[1] / "bundled" / "model.onnx"


class Scorer:
    """Scores pictures with a model: the bundled one, a file of `gmiqa export`, a checkpoint of a training (which needs
    torch), or a network in hand (`model=`, with its `meta=`).

    meta (all optional): target, names of the types, quality_percentiles (101 scores in 0..1), sigma_scale, temperature,
    max_side, network_side (the longer side that the network sees of a picture of max_side); views, crop and turn as
    notebook 40 saves them: a score is then the mean over that many crops, as in its tests, else that of the whole
    picture.
    workers: pictures in work side by side (default: the cores that this process may use).
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        *,
        workers: int | None = None,
        model: Any = None,
        meta: dict[str, Any] | None = None,
    ) -> None:
        if model is None:
            self.engine = engines.load(checkpoint or _bundled(), device)
        else:
            from gmiqa.torch_engine import TorchEngine

            self.engine = TorchEngine(model, meta or {}, device)
        self.model = ScoringModel(self.engine)
        self.target, self.device = self.model.target, self.engine.device
        self.workers = workers or cores()
        self._pool = self.engine.pool(self.workers)

    def score(self, picture: Any, *, with_map: bool = False) -> Score:
        """Score one picture: a path, bytes, PIL image, array (H,W,3 or H,W) or tensor (3,H,W). Raises ImageError.
        with_map: the score's `map` says where the picture is bad, see gmiqa.score.quality_map."""
        prepared = self._pool.submit(prepare, picture, self.model.max_side).result()
        judged = self._judge_all(self.model.inputs(prepared.x))
        return self._score(judged, prepared, self._map(judged, prepared, self._judge_all) if with_map else None)

    def score_many(self, pictures: Iterable[Any], *, with_map: bool = False) -> Iterator[Score]:
        """Score a stream of pictures, in order, with bounded memory; an unreadable one gives a Score with `error`."""
        yield from pixels.ahead(self._pool, partial(self._one, with_map=with_map), pictures, 2 * self.workers)

    def quality_map(self, picture: Any) -> QualityMap:
        """Where the picture is bad, see gmiqa.score.quality_map: a path, bytes, PIL image, array or tensor."""
        prepared = self._pool.submit(prepare, picture, self.model.max_side).result()
        return self._map([], prepared, self._judge_all)

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def _judge_all(self, inputs: list[np.ndarray], longer: int = 0) -> list[Judged]:
        """What the network says about each input, side by side."""
        return list(self._pool.map(lambda x: self.model.judge(x, longer), inputs))

    def _map(self, judged: list[Judged], prepared: Prepared, judge_all: Any) -> QualityMap:
        """judged: what is known already about the whole picture."""
        whole = judged[0] if len(judged) == 1 else judge_all([prepared.x[None]])[0]
        if "places" in whole:
            values = maps.shared_out(float(whole["mu"][0].clip(0, 1)), whole["places"][0])
        else:
            tiles = maps.Tiles.covering(*prepared.x.shape[1:])
            parts = judge_all(tiles.cut(prepared.x), max(prepared.x.shape[1:]))
            values = tiles.blend(100 * np.concatenate([part["mu"] for part in parts]).astype(float).clip(0, 1))
        return QualityMap(values, prepared.width, prepared.height)

    def _score(self, judged: list[Judged], prepared: Prepared, quality_map: QualityMap | None) -> Score:
        return replace(self.model.score(judged), width=prepared.width, height=prepared.height,
                       path=path_of(prepared.picture), map=quality_map)

    def _one(self, picture: Any, with_map: bool) -> Score:
        """One picture's score, or its error, in one thread of the pool."""
        def judge_all(inputs: list[np.ndarray], longer: int = 0) -> list[Judged]:
            return [self.model.judge(x, longer) for x in inputs]

        try:
            prepared = prepare(picture, self.model.max_side)
        except UserError as error:
            message = str(error).removeprefix(f"cannot read {path_of(picture)}: ")
        except MemoryError:
            message = "too large for this machine's memory"
        except Exception as error:  # a decoder may raise anything on a hostile file; one picture never stops the others
            message = f"{type(error).__name__}: {error}"
        else:
            judged = judge_all(self.model.inputs(prepared.x))
            return self._score(judged, prepared, self._map(judged, prepared, judge_all) if with_map else None)
        return Score(path=path_of(picture), error=message)


def _bundled() -> Path:
    if not BUNDLED.is_file():
        raise UserError(
            f"this installation holds no bundled model ({BUNDLED}): give a checkpoint, for example the one that "
            "notebook 40_fine_tuning saves, as Scorer(checkpoint) or with --checkpoint FILE"
        )
    return BUNDLED
