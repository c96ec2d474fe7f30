"""One picture -> its score, how sure it is, and why.

The same picture gives the same score alone, among others, from a path or an array, on every run. On a CPU that is
exact: a forward pass holds one picture and runs on one thread, and several pictures run side by side. A batch would
gain nothing there (a ResNet-18 at 384 x 512: 0.124 s a picture in batches of 8, 0.129 s alone) and would change the
last bits. On a GPU pictures of equal size share a forward pass, and scores agree to 0.01 of 100.
"""

from __future__ import annotations

import math
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from gmiqa.data import images
from gmiqa.score.ensemble import SecondOpinion
from gmiqa.score.local_quality import Places
from gmiqa.score.result import Score, distortion_name
from gmiqa_core import prediction
from gmiqa_core.errors import UserError

if TYPE_CHECKING:
    from gmiqa.score.quality_map import QualityMap

BUNDLED = Path(__file__).parents[1] / "bundled" / "model.safetensors"
SMALLEST = 32  # the backbone halves its input five times
LARGE = 24_000_000  # pixels: above this, pictures are decoded one at a time, so that memory stays bounded
GPU_BATCH = 16
Z90 = 1.6449  # a Gaussian holds 90 % of its mass within this many sigmas


@dataclass(frozen=True)
class Prepared:
    """A picture as the network takes it: x float (3,h,w) in [0,1]; width and height are the file's."""

    picture: Any
    x: Tensor
    width: int
    height: int


class Scorer:
    """Scores pictures with a checkpoint: the bundled one, a file, or a model in hand (`model=`, with its `meta=`).

    meta (all optional): target, quality_percentiles (101 scores in 0..1), sigma_scale, temperature, max_side,
    network_side (the longer side that the network sees of a picture of max_side), second_opinion and places (files
    beside the checkpoint, see second_opinion.py and places.py); views, crop and turn as notebook 40 saves them: a score
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
            from gmiqa_core import checkpoints

            checkpoint = _checkpoint(checkpoint)
            model, meta = checkpoints.load(checkpoint, self.device)
        self.model = model.to(self.device).eval()
        self.meta: dict[str, Any] = dict(meta or {})
        self.opinion: SecondOpinion | None = _beside(checkpoint, self.meta.get("second_opinion"), SecondOpinion)
        self.places: Places | None = _beside(checkpoint, self.meta.get("places"), Places)
        if self.places is not None:
            self.places.to(self.device)
        self.branches = tuple(self.model.config["branches"])
        if "score" not in self.branches:
            raise UserError(
                "the model has no score head (its branches: " + ", ".join(self.branches) + "): fine-tune it first"
            )
        self.target: str = self.meta.get("target", "the data set of its training")
        self.max_side = int(self.meta.get("max_side", 512))
        self.network_side = int(self.meta.get("network_side", self.max_side))
        self.views = _views(**prediction.as_tuned(self.meta))
        self.workers = workers or cores()
        self._pool = _single_threaded_pool(self.workers)
        self._large = threading.Lock()

    def score(self, picture: Any) -> Score:
        """Score one picture: a path, bytes, PIL image, array (H,W,3 or H,W) or tensor (3,H,W). Raises ImageError."""
        prepared = self._pool.submit(self.prepare, picture).result()
        return self._finish(torch.cat(self.forward_all([view(prepared.x[None]) for view in self.views])), prepared)

    def score_many(self, pictures: Iterable[Any]) -> Iterator[Score]:
        """Score a stream of pictures, in order, with bounded memory; an unreadable one gives a Score with `error`."""
        if self.device.type == "cpu":
            yield from self._ahead(self._score_or_error, pictures, 2 * self.workers)
            return
        batch: list[Prepared | Score] = []
        for prepared in self._ahead(self._prepare_or_error, pictures, 2 * GPU_BATCH):
            batch.append(prepared)
            if len(batch) == GPU_BATCH:
                yield from self._score_batch(batch)
                batch = []
        yield from self._score_batch(batch)

    def quality_map(self, picture: Any) -> QualityMap:
        """Where the picture is bad: see gmiqa.score.quality_map."""
        from gmiqa.score.quality_map import quality_map

        return quality_map(self, picture)

    def unharmed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A prepared picture (3,h,w) -> its quality, 0..1, and 1 - severity of its places (rows, columns). The places
        are seen as they are: shrinking hides what spoils them."""
        assert self.places is not None, "the checkpoint names no model of places"
        spoiled = self._pool.submit(self.places.severity, x)
        whole = _shrunk(x[None], self.max_side / max(x.shape[1:]))
        quality = self._pool.submit(self.forward, whole).result()[0, 0]
        return quality.clamp(0, 1), 1 - spoiled.result()

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def forward_all(self, inputs: list[Tensor], longer: int = 0) -> list[Tensor]:
        """`forward` over inputs, side by side on a CPU."""
        over = self._pool.map if self.device.type == "cpu" else map
        return list(over(lambda x: self.forward(x, longer), inputs))

    def prepare(self, picture: Any, max_side: int = 0) -> Prepared:
        """Decode, bring to max_side (0: the scorer's), pad: what `forward` takes."""
        size, max_side = file_size(picture), max_side or self.max_side
        with self._large if size[0] * size[1] > LARGE else nullcontext():
            x = as_uint8(images.from_any(picture, max_side if size[0] else None))
            size = size if size[0] else (x.shape[2], x.shape[1])
            return Prepared(picture, to_network(images.limit(x, max_side)), *size)

    @torch.inference_mode()
    def forward(self, x: Tensor, longer: int = 0) -> Tensor:
        """(n,3,h,w) in [0,1], parts of pictures whose longer side is `longer` (0: whole pictures) -> (n,29): quality,
        sigma, severity (NaN without level branch), 26 probabilities (with type branch only).

        The heads see one node at a time: whatever graph the network builds, a score has no batch mates.
        """
        exact = torch.backends.cudnn.flags(True, False, deterministic=True, allow_tf32=False)
        with exact if self.device.type == "cuda" else nullcontext():
            nodes = self.model.nodes(_shrunk(x, self.network_side / (longer or max(x.shape[2:]))).to(self.device))
            rows = torch.stack([self._heads(v) for v in nodes.split(1)]).double().cpu()
        if self.opinion is not None:
            rows[:, 0] = torch.cat([self.opinion.mix(q, y) for q, y in zip(rows[:, :1], x.split(1), strict=True)])
        return rows

    def _heads(self, v: Tensor) -> Tensor:
        parts = list(self.model.score(v))
        parts += [self.model.level(v)[0] if "level" in self.branches else torch.full_like(parts[0], math.nan)]
        if "type" in self.branches:
            parts += [torch.softmax(self.model.classify(v) / float(self.meta.get("temperature", 1.0)), -1)]
        return torch.cat([part.flatten() for part in parts])

    def _finish(self, rows: Tensor, prepared: Prepared) -> Score:
        """rows (views, 29) -> Score. The views' Gaussians are averaged as a mixture."""
        mean = rows.mean(0)
        quality = float(mean[0].clamp(0, 1))
        spread = (rows[:, 1].square().mean() + rows[:, 0].var(unbiased=False)).sqrt()
        sigma = float(spread) * float(self.meta.get("sigma_scale", 1.0))
        grid = self.meta.get("quality_percentiles")
        percentile = float(np.interp(quality, grid, np.linspace(0, 100, len(grid)))) if grid else math.nan
        order = mean[3:].argsort(descending=True, stable=True).tolist()
        return Score(
            quality=100 * quality,
            low=100 * max(0.0, quality - Z90 * sigma),
            high=100 * min(1.0, quality + Z90 * sigma),
            sigma=100 * sigma,
            percentile=percentile,
            distortions=tuple((distortion_name(i), float(mean[3 + i])) for i in order),
            severity=float(mean[2].clamp(0, 1)),
            width=prepared.width,
            height=prepared.height,
            target=self.target,
            path=path_of(prepared.picture),
        )

    def _score_or_error(self, picture: Any) -> Score:
        prepared = self._prepare_or_error(picture)
        if isinstance(prepared, Score):
            return prepared
        return self._finish(torch.cat([self.forward(view(prepared.x[None])) for view in self.views]), prepared)

    def _prepare_or_error(self, picture: Any) -> Prepared | Score:
        try:
            return self.prepare(picture)
        except UserError as error:
            message = str(error).removeprefix(f"cannot read {path_of(picture)}: ")
        except MemoryError:
            message = "too large for this machine's memory"
        except Exception as error:  # a decoder may raise anything on a hostile file; one picture never stops the others
            message = f"{type(error).__name__}: {error}"
        return Score(path=path_of(picture), error=message)

    def _score_batch(self, batch: list[Prepared | Score]) -> list[Score]:
        """GPU: pictures of equal size share a forward pass; the order stays."""
        scores = [item if isinstance(item, Score) else Score() for item in batch]
        groups: dict[torch.Size, list[tuple[int, Prepared]]] = {}
        for i, item in enumerate(batch):
            if isinstance(item, Prepared):
                groups.setdefault(item.x.shape, []).append((i, item))
        for members in groups.values():
            x = torch.stack([item.x for _, item in members])
            rows = torch.stack([self.forward(view(x)) for view in self.views])
            for k, (i, item) in enumerate(members):
                scores[i] = self._finish(rows[:, k], item)
        return scores

    def _ahead(self, function: Callable, items: Iterable, depth: int) -> Iterator:
        """function over items in the worker threads, results in order, at most `depth` in flight."""
        flight: deque[Future] = deque()
        try:
            for item in items:
                flight.append(self._pool.submit(function, item))
                if len(flight) >= depth:
                    yield flight.popleft().result()
            while flight:
                yield flight.popleft().result()
        finally:
            for future in flight:
                future.cancel()


def to_network(x: Tensor) -> Tensor:
    """uint8 (3,h,w) -> float in [0,1], edges repeated up to SMALLEST pixels."""
    y = x[None].float() / 255
    right, bottom = max(0, SMALLEST - x.shape[2]), max(0, SMALLEST - x.shape[1])
    return (pad(y, (0, right, 0, bottom), mode="replicate") if right or bottom else y)[0]


def _shrunk(x: Tensor, factor: float) -> Tensor:
    """Area averaging by `factor` below 1, to SMALLEST pixels at least."""
    if factor >= 1:
        return x
    return interpolate(x, [max(SMALLEST, round(side * factor)) for side in x.shape[2:]], mode="area")


def as_uint8(x: Tensor) -> Tensor:
    """Floats in [0,1] are rounded to 8 bits, so that a tensor scores as the file it came from."""
    return x if x.dtype == torch.uint8 else (x * 255).round().to(torch.uint8)


def file_size(picture: Any) -> tuple[int, int]:
    """(width, height) of a file, from its header; (0, 0) for anything that is no path. Opening a pipe would wait."""
    if not isinstance(picture, str | os.PathLike):
        return 0, 0
    try:
        mode = os.stat(picture).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise images.ImageError(f"cannot read {os.fspath(picture)}: {reason.lower()}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise images.ImageError(f"cannot read {os.fspath(picture)}: it is a pipe, socket or device, expected a file")
    return images.size(picture)


def path_of(picture: Any) -> str:
    """The path as given, "" for anything that is no path."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else ""


def _checkpoint(checkpoint: str | Path | None) -> Path:
    if checkpoint is not None:
        return Path(checkpoint)
    if not BUNDLED.is_file():
        raise UserError(
            f"this installation holds no bundled model ({BUNDLED}): give a checkpoint, for example the one that "
            "notebook 40_fine_tuning saves, as Scorer(checkpoint) or with --checkpoint FILE"
        )
    return BUNDLED


def _beside(checkpoint: str | Path | None, name: str | None, kind: Any) -> Any:
    """What a checkpoint names as lying beside it; None if it names nothing, or has no place."""
    return kind.load(Path(checkpoint).parent / Path(name).name) if name and checkpoint is not None else None


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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _views(crops: int, crop: int, turn: bool) -> list[Callable[[Tensor], Tensor]]:
    """What the network sees of pictures (n,3,h,w): the same crops of each, or the whole."""
    def nth(k: int) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.stack([prediction.crop_of(picture, k, crop, turn) for picture in x])

    return [nth(k) for k in range(crops)] or [lambda x: x]


def _single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Threads that compute on one core each: faster than one picture on many cores, and independent of their number."""
    before = torch.get_num_threads()
    barrier = threading.Barrier(workers)
    pool = ThreadPoolExecutor(workers, "scorer", initializer=lambda: torch.set_num_threads(1))
    list(pool.map(lambda _: barrier.wait(), range(workers)))
    torch.set_num_threads(before)  # a worker's call also moves the default of threads to come
    return pool
