"""One picture -> its score, how sure it is, and why.

The same picture gives the same score on every run, alone or among others, from a path or an array. On a CPU that is
exact: a forward pass holds one picture and runs on one thread, and several pictures run side by side. A batch would
gain nothing there (a ResNet-18 at 384 x 512: 0.124 s a picture in batches of 8, 0.129 s alone) and would change the
last bits. On a GPU pictures of equal size share a forward pass, and scores agree to 0.01 of 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmiqa.data import images
from gmiqa.score import quality_map as maps
from gmiqa.score.model import ScoringModel
from gmiqa.score.prepare import Prepared, path_of, prepare
from gmiqa.score.quality_map import QualityMap
from gmiqa.score.result import Score
from gmiqa.threads import cores, single_threaded_pool
from gmiqa_core.errors import UserError
from gmiqa_core.shapes import by_shape

BUNDLED = Path(__file__).parents[1] / "bundled" / "model.safetensors"
GPU_BATCH = 16


class Scorer:
    """Scores pictures with a checkpoint: the bundled one, a file, or a model in hand (`model=`, with its `meta=`).

    meta (all optional): target, quality_percentiles (101 scores in 0..1), sigma_scale, temperature, max_side,
    network_side (the longer side that the network sees of a picture of max_side); second_opinion and places: files
    beside the checkpoint, see ensemble.py and local_quality.py; views, crop and turn as notebook 40 saves them: a score
    is then the mean over that many crops, as in its tests (prediction.as_tuned), else that of the whole picture.
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
        self.device = _device(device)
        if model is None:
            self.model = ScoringModel.load(_checkpoint(checkpoint), self.device)
        else:
            self.model = ScoringModel(model, meta or {}, self.device, Path(checkpoint).parent if checkpoint else None)
        self.target = self.model.target
        self.workers = workers or cores()
        self._pool = single_threaded_pool(self.workers, "scorer")

    def score(self, picture: Any) -> Score:
        """Score one picture: a path, bytes, PIL image, array (H,W,3 or H,W) or tensor (3,H,W). Raises ImageError."""
        prepared = self._pool.submit(prepare, picture, self.model.max_side).result()
        return self._score(torch.cat(self.forward_all(self.model.inputs(prepared.x[None]))), prepared)

    def score_many(self, pictures: Iterable[Any]) -> Iterator[Score]:
        """Score a stream of pictures, in order, with bounded memory; an unreadable one gives a Score with `error`."""
        if self.device.type == "cpu":
            yield from images.ahead(self._pool, self._score_or_error, pictures, 2 * self.workers)
            return
        batch: list[Prepared | Score] = []
        for prepared in images.ahead(self._pool, self._prepare_or_error, pictures, 2 * GPU_BATCH):
            batch.append(prepared)
            if len(batch) == GPU_BATCH:
                yield from self._score_batch(batch)
                batch = []
        yield from self._score_batch(batch)

    def quality_map(self, picture: Any) -> QualityMap:
        """Where the picture is bad, see gmiqa.score.quality_map: a path, bytes, PIL image, array or tensor."""
        local_quality = self.model.local_quality
        if local_quality is None:
            prepared = prepare(picture, self.model.max_side)
            tiles = maps.Tiles.covering(*prepared.x.shape[1:])
            rows = torch.cat(self.forward_all(tiles.cut(prepared.x), max(prepared.x.shape[1:])))
            return QualityMap(tiles.blend(100 * rows[:, 0].clamp(0, 1)), prepared.width, prepared.height)
        prepared = prepare(picture, maps.LARGEST)  # not at max_side, as shrinking hides local distortions
        severity = self._pool.submit(local_quality.severity, prepared.x)
        quality = self._pool.submit(self.model.whole, prepared.x)
        return QualityMap(maps.shared_out(quality.result(), severity.result()), prepared.width, prepared.height)

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def forward_all(self, inputs: list[Tensor], longer: int = 0) -> list[Tensor]:
        """The model's `forward` on each input, side by side on a CPU."""
        over = self._pool.map if self.device.type == "cpu" else map
        return list(over(lambda x: self.model.forward(x, longer), inputs))

    def _score(self, rows: Tensor, prepared: Prepared) -> Score:
        return replace(self.model.score(rows), width=prepared.width, height=prepared.height,
                       path=path_of(prepared.picture))

    def _score_or_error(self, picture: Any) -> Score:
        prepared = self._prepare_or_error(picture)
        if isinstance(prepared, Score):
            return prepared
        return self._score(torch.cat([self.model.forward(x) for x in self.model.inputs(prepared.x[None])]), prepared)

    def _prepare_or_error(self, picture: Any) -> Prepared | Score:
        try:
            return prepare(picture, self.model.max_side)
        except UserError as error:
            message = str(error).removeprefix(f"cannot read {path_of(picture)}: ")
        except MemoryError:
            message = "too large for this machine's memory"
        except Exception as error:  # a decoder may raise anything on a hostile file; one picture never stops the others
            message = f"{type(error).__name__}: {error}"
        return Score(path=path_of(picture), error=message)

    def _score_batch(self, batch: list[Prepared | Score]) -> list[Score]:
        """GPU: pictures of equal size share a forward pass; the order stays."""
        readable = [(place, item) for place, item in enumerate(batch) if isinstance(item, Prepared)]
        scores = [item if isinstance(item, Score) else Score() for item in batch]
        for positions, x in by_shape((item.x for _, item in readable), GPU_BATCH):
            rows = torch.stack([self.model.forward(part) for part in self.model.inputs(x)])
            for k, position in enumerate(positions):
                place, item = readable[position]
                scores[place] = self._score(rows[:, k], item)
        return scores


def _checkpoint(checkpoint: str | Path | None) -> Path:
    if checkpoint is not None:
        return Path(checkpoint)
    if not BUNDLED.is_file():
        raise UserError(
            f"this installation holds no bundled model ({BUNDLED}): give a checkpoint, for example the one that "
            "notebook 40_fine_tuning saves, as Scorer(checkpoint) or with --checkpoint FILE"
        )
    return BUNDLED


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}): expected auto, cpu or cuda"
        ) from None
    return device
