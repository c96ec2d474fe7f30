"""Edge GCN: factorised against dense, time and memory over N; and the graph's share of a training step.

    python -m benchmarks.graph            # width 256 -> 64, then width 2048 (repo), over N
    python -m benchmarks.graph --quick    # N = 64 and 256 alone
    python -m benchmarks.graph --step     # paper preset at 224 px, N = 64: the graph's modules against the backbone

Every measurement is a process of its own: forward and backward of the three layers in float32. Memory is what the
process's peak rose by while the passes ran.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

WIDTHS = {256: (128, 64, 64), 2048: (1024, 512, 64)}
LARGEST_DENSE = {256: 96, 2048: 64}  # the matrix alone has N^4 numbers, and autograd keeps several of them


def measure(width: int, n: int, dense: bool, repeats: int) -> tuple[float, float]:
    """Seconds of the fastest pass, and MB that the peak memory rose by."""
    import torch

    from gmiqa_core.graph import EdgeBuilder

    torch.manual_seed(0)
    builder, V = EdgeBuilder(width, WIDTHS[width], dense=dense), torch.rand(n, width, requires_grad=True)
    small = torch.rand(2, width, requires_grad=True)
    builder(small).sum().backward()  # loads libraries and kernels, so that they count for neither
    start_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        builder(V).square().sum().backward()
        best = min(best, time.perf_counter() - start)
    return best, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start_memory) / 1024


def child(width: int, n: int, dense: bool, repeats: int) -> tuple[float, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.graph", "--one"]
    command += [str(int(number)) for number in (width, n, dense, repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split()[-2:])
    return seconds, megabytes


def table(width: int, sizes: list[int], repeats: int) -> None:
    print(f"\nEdge GCN {width} -> {' -> '.join(map(str, WIDTHS[width]))}, forward and backward, float32")
    print("| N | factorised s | MB | dense s | MB | times faster | times less memory |")
    print("|---|---|---|---|---|---|---|")
    for n in sizes:
        seconds, megabytes = child(width, n, False, repeats)
        row = f"| {n} | {seconds:.4f} | {megabytes:.0f} "
        if n <= LARGEST_DENSE[width]:
            dense_s, dense_mb = child(width, n, True, repeats)
            row += f"| {dense_s:.4f} | {dense_mb:.0f} | {dense_s / seconds:.1f} | {dense_mb / max(1, megabytes):.1f} |"
        else:
            row += f"| matrix alone: {n**4 * 4 / 1e9:.1f} GB | | | |"
        print(row, flush=True)


def step() -> None:
    from gmiqa.experiments import cost
    from gmiqa_core import network

    costs = cost.by_module(network.build("paper"), 224, 64, training=True, repeats=1)
    graph = costs.loc[["edge_builder", "type_branch", "level_branch", "score_head"]].sum()
    print("\nOne training step of `paper` at 224 px: a graph of 64 pictures, forward and backward, float32")
    print("| module | parameters | GFLOP | ms |\n|---|---|---|---|")
    for name, row in costs.iterrows():
        print(f"| {name} | {int(row['parameters']):,} | {row['gflop']:.2f} | {row['ms']:.1f} |")
    backbone = costs.loc["backbone"]
    print(f"\nThe graph takes {100 * graph['gflop'] / backbone['gflop']:.2f} % of the backbone's FLOPs and "
          f"{100 * graph['ms'] / backbone['ms']:.2f} % of its time.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, one repeat")
    parser.add_argument("--step", action="store_true", help="the graph's share of a training step")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        width, n, dense, repeats = map(int, arguments.one)
        print(*measure(width, n, bool(dense), repeats))
    elif arguments.step:
        step()
    else:
        table(256, [64, 256] if arguments.quick else [8, 16, 32, 48, 64, 96, 128, 256], 2 if arguments.quick else 3)
        table(2048, [64] if arguments.quick else [16, 32, 64], 1)
