"""Distortions: images/s per type and for the uniform mix, peak memory; what a training step waits for the pool.

``python -m benchmarks.distortions [--threads 2] [--device cuda]``; ``--order FOLDER`` checks the order of the levels: a
full-reference metric of our output against the human scores of KADID-10k, for every type, on the pictures of a folder.
"""

import argparse
import resource
import time

import numpy as np
import torch
from torch import Tensor

from gmiqa.data.distortions import TYPES, calibration, distort, every_level, stretch_range
from gmiqa.data.distortions.reference_metric import haarpsi
from gmiqa.data.synthetic import Pool, bring_to_size, references, split_references

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--order", metavar="FOLDER", help="pristine pictures, or `embedded`")
    parser.add_argument("--every", type=int, default=1, help="with --order: take every n-th picture")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.order:
        return order(options.order, options.every)
    for size in ((256, 256), (384, 512)):
        speed(size, options.device, options.threads)
    if options.device == "cpu":
        pool_share()


def speed(size: tuple[int, int], device: str, threads: int) -> None:
    """Images/s of each type over levels 1 to 5, and of batches that mix all 125 cells."""
    pictures = [bring_to_size(c.image, (800, 800), max(size)) for c in references("embedded", limit=8)]
    few = torch.stack([p[:, : size[0], : size[1]] for p in pictures]).float() / 255
    batch = few.repeat(BATCH // len(few), 1, 1, 1).to(device)
    print(f"\nbatch of {BATCH}, 3x{size[0]}x{size[1]}, {device}, {threads} threads")
    print("images per second of time, of processor time, share of the mix's rate")
    levels = 1 + torch.arange(BATCH) % 5
    each = {entry.name: BATCH / timed(batch, [entry.id] * BATCH, levels) for entry in TYPES}
    # Every cell once in 125 pictures, three of them twice: four batches.
    cells = torch.randperm(125, generator=torch.Generator().manual_seed(0))
    cells = torch.cat([cells, cells[:3]]).reshape(4, BATCH)
    times = [timed(batch, (c // 5 + 1).tolist(), c % 5 + 1) for c in cells]
    mix = BATCH / np.mean(times, axis=0)
    plain = [t.id for t in TYPES if not t.codec]
    without = BATCH / timed(batch, [plain[i % len(plain)] for i in range(BATCH)], levels)
    for name, rates in {**each, "MIX of the 125 cells": mix, "mix without the codecs": without}.items():
        print(f"  {name:28s} {rates[0]:8.0f} {rates[1]:8.0f}   {rates[0] / mix[0]:6.2f}")
    slowest = min(each, key=lambda name: each[name][0])
    print(f"  slowest: {slowest}, {each[slowest][0]:.0f} images/s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory of the process so far {peak:.0f} MB (the batch itself {batch.nbytes / 2**20:.0f} MB)")


def timed(batch: Tensor, types: list[int], levels: Tensor, repeats: int = 3) -> np.ndarray:
    """(seconds, seconds of processor time), the best of some runs: other programs only ever slow one down."""
    best = np.full(2, np.inf)
    for _ in range(repeats):
        synchronise(batch)
        began = np.array([time.perf_counter(), time.process_time()])
        distort(batch, types, levels)
        synchronise(batch)
        best = np.minimum(best, np.array([time.perf_counter(), time.process_time()]) - began)
    return best


def synchronise(batch: Tensor) -> None:
    if batch.is_cuda:
        torch.cuda.synchronize()


def pool_share(steps: int = 24, crop: int = 128, n: int = 32) -> None:
    """Training from a cold start: how much of the time it waits for its pool, and what each costs the processor."""
    from gmiqa_core import network

    model = network.build("quick").train()
    reuse = 8
    pool = Pool(split_references(references("embedded"))[0], crop=crop, draws=n, reuse=reuse)
    model.nodes(pool.batch(0, n).images).square().mean().backward()
    waited, began = pool.waited, time.perf_counter()
    for step in range(1, steps):
        batch = pool.batch(step, n)
        model.nodes(batch.images).square().mean().backward()
    total = time.perf_counter() - began
    print(f"\npool, crop {crop}, batch {n}, reuse {reuse}, {steps} steps from a cold start: "
          f"{(pool.waited - waited) / total:.1%} of the time is waiting for it (quick network)")
    alone = Pool(pool.contents, crop=crop, draws=n, background=False)
    spent = [time.process_time()]
    alone.batch(0, n)
    spent.append(time.process_time())
    model.nodes(batch.images).square().mean().backward()
    spent.append(time.process_time())
    picture, step_cost = (spent[1] - spent[0]) / n, spent[2] - spent[1]
    print(f"processor time: {1000 * picture:.0f} ms a distorted picture, so {1000 * picture * n / reuse:.0f} ms a "
          f"step once under way; {1000 * step_cost:.0f} ms for the step itself")


def order(folder: str, every: int) -> None:
    """Spearman of the metric's mean over contents with the human scores, per type and over all cells."""
    from scipy.stats import spearmanr

    pictures = [stretch_range(bring_to_size(c.image)[None].float() / 255) for c in references(folder)[::every]]
    metric = torch.zeros(25, 5)
    for x in pictures:
        for entry, levels in every_level(x[0]):
            metric[entry.id - 1] += haarpsi(levels, x)
    metric /= len(pictures)
    print(f"HaarPSI of our output over {len(pictures)} pictures against KADID-10k's mean scores")
    for entry, ours, people in zip(TYPES, metric, calibration.QUALITY, strict=True):
        rho = spearmanr(ours, people).statistic
        values = " ".join(f"{v:.3f}" for v in ours.tolist()) + "  | " + " ".join(f"{v:.3f}" for v in people.tolist())
        note = "levels are no order of severity" if entry.id in calibration.UNORDERED else ""
        print(f"{entry.id:3d} {entry.name:26s} {values}  Spearman {rho:5.2f} {note}")
    print(f"all 125 cells: Spearman {spearmanr(metric.flatten(), calibration.QUALITY.flatten()).statistic:.3f}")


if __name__ == "__main__":
    main()
