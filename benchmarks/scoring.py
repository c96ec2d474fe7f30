"""Scoring: the command's start, speed and memory, beside another version of it; and a step of the explorer.

    python -m benchmarks.scoring [--pictures 400] [--checkpoint FILE | --preset lite] [--against FOLDER]

--preset measures an untrained network, exported (speed does not depend on training). --against names a checkout of
another version, which is timed in turns with this one and scores with its own bundled model: a busy machine slows both
alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from gmiqa.data import embedded, images
from gmiqa.data.distortions import TYPES
from gmiqa.release.export import to_onnx
from gmiqa.score import Scorer
from gmiqa.torch_engine import NAMES
from gmiqa.widgets.distortion_explorer import Steps
from gmiqa_core import network

ROOT = Path(__file__).parents[1]
BLOCKS = 4
DIFFERENT = 64  # distinct pictures; the others are links to them
# VmHWM belongs to the new program; ru_maxrss would still hold the peak of the process that started it
MEASURE = (
    "import re, sys, time; from gmiqa.cli import main; code = main(sys.argv[1:]); "
    "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1], time.process_time(), file=sys.stderr); "
    "sys.exit(code)"
)


@dataclass
class Run:
    """Of one call of the command: seconds to its first score, then pictures a second; its peak memory in MB and its
    processor time in seconds, which a busy machine changes less."""

    first: float
    rate: float
    peak: float
    processor: float


def call(paths: list[Path], checkpoint: str | None, root: Path = ROOT) -> Run:
    """Score some pictures with the version of gmiqa in `root`."""
    arguments = [*map(str, paths), "--json", "--device", "cpu", *(["--checkpoint", checkpoint] if checkpoint else [])]
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-Pu", "-c", MEASURE, "score", *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)})
    assert process.stdout and process.stderr
    times = [time.perf_counter() for _ in process.stdout]
    peak, processor = map(float, process.stderr.read().split()[-2:])
    assert process.wait() == 0
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    return Run(times[0] - began, rate, peak / 1000, processor)


def fill(folder: Path, count: int) -> list[Path]:
    """`count` JPEGs of 512 x 512 pixels, in BLOCKS folders."""
    sources = [folder / f"source{i}.jpg" for i in range(min(DIFFERENT, count))]
    photographs = list(embedded.photographs().values())
    for i, path in enumerate(sources):
        x = images.to_float(photographs[i % len(photographs)]).roll(37 * i, -1)
        images.write(torch.nn.functional.interpolate(x[None], (512, 512), mode="bilinear")[0], path, quality=90)
    blocks = [folder / f"block{b}" for b in range(BLOCKS)]
    for b, block in enumerate(blocks):
        block.mkdir()
        for i in range(b, count, BLOCKS):
            os.link(sources[i % len(sources)], block / f"{i:06d}.jpg")
    return blocks


def versions(blocks: list[Path], checkpoint: str | None, other: Path | None) -> None:
    """Start, speed and memory of this version and the other, block by block in turns, each after a single picture."""
    roots = {"this version": (checkpoint, ROOT), **({"the other": (None, other)} if other else {})}
    count = len(list(blocks[0].iterdir()))
    took: dict[str, list[float]] = {name: [] for name in roots}  # processor time of a picture, start-up left out
    for block in blocks:
        for name, arguments in roots.items():
            one, all_ = call([next(block.iterdir())], *arguments), call([block], *arguments)
            took[name].append((all_.processor - one.processor) / (count - 1))
            print(f"{name}: first score after {one.first:.2f} s (processor: {one.processor:.2f} s); {count} pictures: "
                  f"{all_.rate:.1f}/s, processor {1000 * took[name][-1]:.0f} ms each, at most {all_.peak:.0f} MB",
                  flush=True)
    if other:
        ratios = [b / a for a, b in zip(*took.values(), strict=True)]
        print(f"processor time of a picture, the other by this version: {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f})")


def large(folder: Path, checkpoint: str | None) -> None:
    """Peak memory for pictures of 100 megapixels."""
    y, x = torch.meshgrid(torch.arange(10_000), torch.arange(10_000), indexing="ij")
    picture = torch.stack([x // 40, y // 40, (x + y) // 80]).to(torch.uint8)
    for name, options in (("large.jpg", {}), ("progressive.jpg", {"progressive": True}), ("large.png", {})):
        images.write(picture, folder / name, **options)
        print(f"{name} of 100 megapixels: at most {call([folder / name], checkpoint).peak:.0f} MB (aim: under 1,000)")
        (folder / name).unlink()


def explorer(scorer: Scorer) -> None:
    """What a step of the slider computes: distort a photograph and score it."""
    steps = Steps(scorer, embedded.photographs()["coffee"], seed=0)
    steps(1, 1)
    wall, processor = {}, {}
    for t in TYPES:
        took = []
        for level in (2, 4, 5):
            began = time.perf_counter(), time.process_time()
            steps(t.id, level)
            took.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        wall[t.title], processor[t.title] = (1000 * statistics.median(times) for times in zip(*took, strict=True))
    for name, times in (("time", wall), ("processor time", processor)):
        slowest = max(times, key=lambda title: times[title])
        print(
            f"explorer step, {name}: median {statistics.median(times.values()):.0f} ms over 25 types, "
            f"slowest {times[slowest]:.0f} ms ({slowest}); aim: under 300 ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--checkpoint")
    parser.add_argument("--preset")
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, checkpoint = Path(name), given.checkpoint
        if given.preset:
            checkpoint = str(folder / "untrained.onnx")
            Path(checkpoint).write_bytes(to_onnx(network.build(given.preset), {"names": NAMES, "max_side": 512}))
        versions(fill(folder, given.pictures), checkpoint, given.against)
        large(folder, checkpoint)
        explorer(Scorer(checkpoint, "cpu"))


if __name__ == "__main__":
    main()
