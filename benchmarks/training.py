"""Cost of a step: plain, first-order and second-order meta-step of the same pictures; images/s; waiting for data.

    python -m benchmarks.training                          # quick preset, on the GPU where there is one
    python -m benchmarks.training --preset paper --side 224

Every arm sees 2 * n pictures a step: a plain batch of 2 n, or one task of n support and n query pictures. The row "with
pool" draws the pictures from a synthetic.Pool that is filled in the background, as training does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from gmiqa.data import synthetic
from gmiqa.data.pictures import Pictures
from gmiqa_core import finetuning, meta_learning, network, pretraining, training


class Still:
    """A pool whose pictures are at hand: what remains is the network's own time."""

    def __init__(self, side: int, device: torch.device):
        contents = synthetic.references("embedded", limit=4)
        pool = synthetic.Pool(contents, types=[1, 11], crop=side, per_cell=1, reuse=10**6)
        self.parts = [pool.batch(i, 128).to(device) for i in range(2)]

    def batch(self, step: int, n: int) -> Any:
        return self.parts[0][:n]

    def task(self, step: int, type: int, support: int, query: int) -> tuple[Any, Any]:
        return self.parts[0][:support], self.parts[1][:query]

    def triplet(self, step: int, n: int) -> tuple[Any, Any, Any]:
        return self.parts[0][:n], self.parts[0][:n], self.parts[1][:n]


def seconds_per_step(model: torch.nn.Module, objective: Any, steps: int) -> float:
    """Mean of so many steps after as many to warm up, timed through the loop itself."""
    times: list[float] = []

    def report(step: int, total: int, values: dict[str, float]) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    # Two logs: between them the steps run as they do in training, without a wait for the device.
    with tempfile.TemporaryDirectory() as folder:
        training.train(model, objective, steps=2 * steps, lr=1e-4, folder=folder, log_every=steps, report=report,
                       checkpoint_every=10**9)
    return (times[-1] - times[-2]) / steps


def with_pool(side: int, n: int, device: torch.device, model: torch.nn.Module, steps: int, plain: float) -> None:
    """A plain step whose pictures are distorted meanwhile, once the first round is there; and the pool by itself."""
    def pool(background: bool) -> synthetic.Pool:
        return synthetic.Pool(synthetic.references("embedded", limit=8), crop=side, draws=2 * n, reuse=4,
                              background=background, device=device)

    drawn = pool(True)
    drawn.batch(0, 2 * n)
    drawn.waited = 0.0
    began = time.perf_counter()
    seconds = seconds_per_step(model, meta_learning.PlainObjective(drawn, 2 * n, 1), steps)
    share = drawn.waited / (time.perf_counter() - began)
    print(f"| plain, with pool, reuse 4 | {seconds:.3f} | {seconds / plain:.2f} | {2 * n / seconds:.0f} |")
    print(f"{share:.0%} of that time went to waiting for distorted pictures.")
    alone = pool(False)
    alone.batch(0, 8)  # threads and codecs are there
    began, spent = time.perf_counter(), time.process_time()
    alone.batch(0, 125)
    if device.type == "cuda":
        torch.cuda.synchronize()
    made = len(alone._pictures) - 8
    print(f"The pool alone, {torch.get_num_threads()} threads of PyTorch: {made / (time.perf_counter() - began):.0f} "
          f"pictures/s, {1000 * (time.process_time() - spent) / made:.1f} ms of processor a picture.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--side", type=int, default=96, help="crop, px")
    parser.add_argument("--pictures", type=int, default=16, help="support pictures, and query pictures")
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    n, still = given.pictures, Still(given.side, device)

    def regressor() -> network.QualityRegressor:
        torch.manual_seed(0)
        return network.QualityRegressor(network.build(given.preset)).to(device)

    def meta(algorithm: str, first_order: bool) -> meta_learning.MetaLearner:
        return meta_learning.MetaLearner(regressor(), algorithm, first_order)

    scored = Pictures.of_batch(still.parts[0]).on(device)
    tasks = meta_learning.MetaObjective(still, [1], 1, n, n)
    arms: dict[str, Callable[[], tuple[torch.nn.Module, Any]]] = {
        "plain": lambda: (regressor(), meta_learning.PlainObjective(still, 2 * n, 1)),
        "maml, first order": lambda: (meta("maml", True), tasks),
        "maml, second order": lambda: (meta("maml", False), tasks),
        "meta-sgd, second order": lambda: (meta("meta-sgd", False), tasks),
        "graph triplets (3 x 2n / 3)": lambda: (
            network.build(given.preset).to(device),
            pretraining.GraphObjective(still, sizes=[1, 4], batch=2 * n // 3, mixed=0)),
        "fine-tuning": lambda: (network.build(given.preset).to(device), finetuning.Objective(
            lambda k: scored.batch(0, k, 2 * n, given.side))),
    }
    print(f"{given.preset} preset, {2 * n} pictures of {given.side} px a step, {device}, "
          f"{training.arithmetic('auto', device) or torch.float32}".replace("torch.", ""))
    print("| step | s | against plain | images/s |\n|---|---|---|---|")
    plain = None
    for name, make in arms.items():
        seconds = seconds_per_step(*make(), given.steps)
        plain = plain or seconds
        print(f"| {name} | {seconds:.3f} | {seconds / plain:.2f} | {2 * n / seconds:.0f} |", flush=True)

    with_pool(given.side, n, device, regressor(), given.steps, plain or 1.0)
    if device.type == "cuda":
        print(f"GPU memory, peak: {torch.cuda.max_memory_allocated() / 2**30:.2f} GB")


if __name__ == "__main__":
    main()
