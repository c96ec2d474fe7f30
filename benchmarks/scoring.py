"""Scoring: the command's speed against decode + forward alone, its memory, and a step of the explorer.

    python -m benchmarks.scoring [--pictures 2000] [--checkpoint FILE]

Without a checkpoint: the bundled model, or an untrained one of its size where there is none (speed does not depend on
training). Parts and whole are timed in turns, a block of pictures at a time, so that a busy machine slows all alike.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path

import torch

from gmiqa.cli import main as gmiqa
from gmiqa.data import embedded, images
from gmiqa.data.distortions import TYPES
from gmiqa.score import Scorer
from gmiqa.score.prepare import to_network
from gmiqa.score.scorer import BUNDLED
from gmiqa.widgets.distortion_explorer import Steps
from gmiqa_core import checkpoints, network

BLOCKS = 8
DIFFERENT = 64  # distinct pictures; the others are links to them
# VmHWM belongs to the new program; ru_maxrss would still hold the peak of the process that started it
MEASURE = (
    "import re, sys; from gmiqa.cli import main; code = main(sys.argv[1:]); "
    "print(int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) / 1024); sys.exit(code)"
)


def fill(folder: Path, count: int) -> list[Path]:
    """`count` JPEGs of 512 x 512 pixels, in BLOCKS folders."""
    sources = [folder / f"source{i}.jpg" for i in range(min(DIFFERENT, count))]
    photographs = list(embedded.photographs().values())
    for i, path in enumerate(sources):
        x = images.to_float(photographs[i % len(photographs)]).roll(37 * i, -1)
        images.write(torch.nn.functional.interpolate(x[None], (512, 512), mode="bilinear")[0], path, quality=90)
    blocks = []
    for b in range(BLOCKS):
        block = folder / f"block{b}"
        block.mkdir()
        for i in range(b, count, BLOCKS):
            os.link(sources[i % len(sources)], block / f"{i:06d}.jpg")
        blocks.append(block)
    return blocks


def throughput(scorer: Scorer, checkpoint: str, blocks: list[Path], folder: Path) -> None:
    decode = forward = command = 0.0
    count = 0
    scorer.score(next(blocks[0].iterdir()))
    with ThreadPoolExecutor(scorer.workers) as pool:
        for block in blocks:
            paths = sorted(block.iterdir())
            count += len(paths)
            began = time.perf_counter()
            decoded = list(pool.map(lambda path: images.read(path, scorer.model.max_side), paths))
            decode += time.perf_counter() - began
            inputs = [part for x in decoded for part in scorer.model.inputs(to_network(x)[None])]
            began = time.perf_counter()
            scorer.forward_all(inputs)
            forward += time.perf_counter() - began
            del decoded, inputs
            began = time.perf_counter()
            with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
                arguments = ["--csv", str(folder / f"{block.name}.csv"), "--checkpoint", checkpoint, "--worst", "0"]
                assert gmiqa(["score", str(block), *arguments, "--device", "cpu"]) == 0
            command += time.perf_counter() - began
    crops = scorer.model.test_crops["crops"]
    seen = f"{crops} crops each" if crops else "seen whole"
    print(f"{count} pictures of 512 x 512, {seen}, {scorer.workers} workers")
    rates = {"decode alone": decode, "forward alone": forward, "command": command}
    print(", ".join(f"{name} {count / seconds:.1f}/s" for name, seconds in rates.items()))
    print(f"command / (1 / (decode + forward)): {(decode + forward) / command:.2f} (aim: at least 0.85)")


def memory(folder: Path, blocks: list[Path]) -> None:
    """Peak memory of the whole process, with a tiny network so that only the pictures differ."""
    torch.manual_seed(0)
    checkpoint = checkpoints.save(network.build("tiny"), folder / "tiny.safetensors", max_side=512)
    peaks = {}
    for name, chosen in (("one block", blocks[:1]), ("all blocks", blocks)):
        peaks[name] = peak([*map(str, chosen), "--csv", str(folder / f"{name}.csv")], checkpoint)
    files = [sum(1 for block in chosen for _ in block.iterdir()) for chosen in (blocks[:1], blocks)]
    print(f"peak memory: {peaks['one block']:.0f} MB for {files[0]} files, {peaks['all blocks']:.0f} MB for {files[1]}")
    y, x = torch.meshgrid(torch.arange(10_000), torch.arange(10_000), indexing="ij")
    large = torch.stack([x // 40, y // 40, (x + y) // 80]).to(torch.uint8)
    images.write(large, folder / "large.jpg", quality=85)
    images.write(large, folder / "large.png")
    del x, y, large
    for name in ("large.jpg", "large.png"):
        megabytes = peak([str(folder / name)], checkpoint)
        print(f"peak memory: {megabytes:.0f} MB for {name} of 100 megapixels (limit: 2000)")


def peak(arguments: list[str], checkpoint: Path) -> float:
    command = [sys.executable, "-c", MEASURE, "score", *arguments, "--checkpoint", str(checkpoint), "--device", "cpu"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


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
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--checkpoint")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = given.checkpoint or (str(BUNDLED) if BUNDLED.is_file() else "")
        if not checkpoint:
            print("no bundled model: an untrained one of its size")
            meta = {"max_side": 512}
            checkpoint = str(checkpoints.save(network.build("cpu"), folder / "untrained.safetensors", **meta))
        scorer = Scorer(checkpoint, "cpu")
        blocks = fill(folder, given.pictures)
        explorer(scorer)
        throughput(scorer, checkpoint, blocks, folder)
        memory(folder, blocks)


if __name__ == "__main__":
    main()
