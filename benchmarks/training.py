"""Cost of a step: plain, meta, graphs, fine-tuning; with the pool that distorts pictures meanwhile; the pool alone.

    python -m benchmarks.training                          # quick preset, on the GPU where there is one
    python -m benchmarks.training --preset paper --side 224 --pictures 32 --only plain,pool,graph,maml1

Every arm sees 2 n pictures a step (a plain batch, or one task of n support and n query pictures), graphs three times
as many. An arm that fails says so, and the next one runs. `same` compares recorded with usual passes, `chaos` shows
what rounding alone does to a training, and `types` compares the distortions of a card with the CPU's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch._dynamo

from gmiqa import recorded
from gmiqa.data import synthetic
from gmiqa.data.distortions import TYPES, distort
from gmiqa.data.pictures import Pictures
from gmiqa_core import backbone, finetuning, meta_learning, network, pretraining, training
from gmiqa_core.batch import Batch
from gmiqa_core.step import usual

REUSE = 4


class Still:
    """A pool whose pictures are at hand: what remains is the network's own time."""

    def __init__(self, side: int, n: int, device: torch.device):
        drawn = synthetic.Pool(synthetic.references("embedded", limit=4), types=[1, 11], crop=side, per_cell=1,
                               reuse=10**6).batch(0, 10)
        self.all = drawn[torch.arange(n) % 10].to(device)

    def batch(self, step: int, n: int) -> Batch:
        return self.all[:n]

    def task(self, step: int, type: int, support: int, query: int) -> tuple[Batch, Batch]:
        return self.all[:support], self.all[support : support + query]

    def triplet(self, step: int, n: int) -> tuple[Batch, Batch, Batch]:
        return self.all[:n], self.all[n : 2 * n], self.all[2 * n : 3 * n]


class Bench:
    """The arms: each prints its row of the table."""

    def __init__(self, preset: str, side: int, n: int, steps: int, compile: str):
        self.preset, self.side, self.n, self.steps, self.compile = preset, side, n, steps, compile
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.still = Still(side, 6 * n, self.device)
        self.usual = 0.0  # seconds of a plain step

    def whole(self) -> network.GMIQA:
        torch.manual_seed(0)
        return network.build(self.preset).to(self.device)

    def regressor(self) -> network.QualityRegressor:
        return network.QualityRegressor(self.whole()).to(self.device)

    def seconds(self, model: torch.nn.Module, objective: Any, compile: str = "") -> float:
        """Of a step, the mean of so many after as many to warm up, timed through the loop itself."""
        times: list[float] = []

        def report(*_: Any) -> None:
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

        # Two logs: between them the steps run as they do in training, without a wait for the device.
        with tempfile.TemporaryDirectory() as folder:
            training.train(model, objective, steps=2 * self.steps, lr=1e-4, folder=folder, log_every=self.steps,
                           report=report, checkpoint_every=10**9, passes=recorded.passes(compile or self.compile))
        return (times[-1] - times[-2]) / self.steps

    def row(self, name: str, pictures: int, seconds: float, note: str = "") -> None:
        self.usual = self.usual or seconds
        print(f"| {name} | {seconds:.4f} | {seconds / self.usual:.2f} | {pictures / seconds:.0f} |{note}", flush=True)

    def plain(self) -> None:
        self.row("plain", 2 * self.n, self.seconds(self.regressor(), self._plain(self.still)))

    def off(self) -> None:
        objective = self._plain(self.still)
        self.row("plain, not recorded", 2 * self.n, self.seconds(self.regressor(), objective, "off"))

    def tuned(self) -> None:
        """With the fastest of cuDNN's ways for each convolution."""
        torch.backends.cudnn.benchmark = True
        try:
            self.row("plain, cuDNN tuned", 2 * self.n, self.seconds(self.regressor(), self._plain(self.still)))
        finally:
            torch.backends.cudnn.benchmark = False

    def compiled(self) -> None:
        """With the blocks of the backbone compiled."""
        torch._dynamo.config.recompile_limit = 64
        model, began = self.regressor(), time.perf_counter()
        for module in model.backbone.modules():
            if isinstance(module, backbone.Block):
                module.compile(dynamic=False)
        seconds = self.seconds(model, self._plain(self.still))
        self.row("plain, blocks compiled", 2 * self.n, seconds, f" {time.perf_counter() - began:.0f} s in all")

    def _plain(self, pool: Any) -> meta_learning.PlainObjective:
        return meta_learning.PlainObjective(pool, 2 * self.n, 1)

    def _meta(self, name: str, algorithm: str, first_order: bool) -> None:
        model = meta_learning.MetaLearner(self.regressor(), algorithm, first_order)
        tasks = meta_learning.MetaObjective(self.still, [1], 1, self.n, self.n)
        self.row(name, 2 * self.n, self.seconds(model, tasks))

    def maml1(self) -> None:
        self._meta("maml, first order", "maml", True)

    def maml2(self) -> None:
        self._meta("maml, second order", "maml", False)

    def metasgd2(self) -> None:
        self._meta("meta-sgd, second order", "meta-sgd", False)

    def graph(self) -> None:
        n = 2 * self.n
        objective = pretraining.GraphObjective(self.still, sizes=[n], batch=n, mixed=0)
        self.row(f"graph triplets, N = {n}", 3 * n, self.seconds(self.whole(), objective))

    def scores(self) -> None:
        scored = Pictures.of_batch(self.still.all[: 2 * self.n]).on(self.device)
        objective = finetuning.Objective(lambda k: scored.batch(0, k, 2 * self.n, self.side))
        self.row("fine-tuning", 2 * self.n, self.seconds(self.whole(), objective))

    def _pool(self, background: bool) -> synthetic.Pool:
        return synthetic.Pool(synthetic.references("embedded", limit=8), crop=self.side, draws=2 * self.n, reuse=REUSE,
                              background=background, device=self.device)

    def pool(self) -> None:
        """A plain step whose pictures are distorted meanwhile, once the first round is there."""
        drawn = self._pool(True)
        drawn.batch(0, 2 * self.n)
        drawn.waited, began = 0.0, time.perf_counter()
        seconds = self.seconds(self.regressor(), self._plain(drawn))
        share = drawn.waited / (time.perf_counter() - began)
        self.row(f"plain, with pool, reuse {REUSE}", 2 * self.n, seconds, f" {share:.0%} of the time waited for it")
        drawn.background = False

    def alone(self) -> None:
        """How many pictures a second the pool distorts, by itself."""
        pool, count = self._pool(False), 256 if self.device.type == "cuda" else 64
        pool._fill(list(range(8)))  # threads and codecs are there
        began, spent = time.perf_counter(), time.process_time()
        for first in (count, 2 * count):
            pool._fill(list(range(first, first + count)))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        made, seconds = 2 * count, time.perf_counter() - began
        print(f"The pool alone, {torch.get_num_threads()} threads of PyTorch: {made / seconds:.0f} pictures/s, "
              f"{1000 * (time.process_time() - spent) / made:.1f} ms of this process a picture.", flush=True)

    def same(self) -> None:
        """Gradients of recorded passes against those of usual ones, at the same weights in each step of a training, in
        single precision. Losses of two trainings would not do: see `chaos`."""
        for name, make in self._short().items():
            model, objective, accumulate = make()
            gaps: list[tuple[float, float]] = []
            self._losses(model, objective, accumulate, partial(_compared, gaps))
            loss, gradient = (max(values) for values in zip(*gaps, strict=True))
            print(f"{name}: {len(gaps)} passes, recorded against usual at the same weights: losses at most {loss:.1e} "
                  f"apart, gradients {gradient:.1e} of their length", flush=True)

    def chaos(self) -> None:
        """How far rounding alone drives two trainings apart: gradients are changed by a millionth, as adding in another
        order changes them."""
        for name, make in self._short().items():
            unchanged, changed = (self._losses(*make(), partial(_rounded, share)) for share in (0.0, 1e-6))
            gaps = ", ".join(f"{abs(a - b) / abs(a):.0e}" for a, b in zip(unchanged, changed, strict=True))
            print(f"{name}: losses of {len(unchanged)} steps, gradients changed by 1e-6 against unchanged: {gaps} "
                  "apart", flush=True)

    def _short(self) -> dict[str, Callable[[], tuple[Any, Any, int]]]:
        return {
            "plain": lambda: (self.regressor(), meta_learning.PlainObjective(self.still, self.n, 2), 2),
            "maml": lambda: (meta_learning.MetaLearner(self.regressor()),
                             meta_learning.MetaObjective(self.still, [1], 1, self.n // 2, self.n // 2), 1),
        }

    def _losses(self, model: Any, objective: Any, accumulate: int, passes: Any) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            history = training.train(model, objective, steps=8, lr=1e-4, folder=folder, accumulate=accumulate,
                                     precision="fp32", log_every=1, report=lambda *_: None, passes=passes)
        return [row[3] for row in history.rows if row[2] == "loss"]

    def types(self) -> None:
        """Largest and mean difference between a card's distortions and the CPU's, in levels of 255."""
        contents = [synthetic.bring_to_size(c.image) for c in synthetic.references("embedded", limit=3)]
        pictures = torch.stack([c[:, :256, :256] for c in contents]).float() / 255
        for level in (2, 5):
            found = []
            for entry in TYPES:
                here, there = (distort(pictures.to(device), entry.id, level, [1, 2, 3]).cpu()
                               for device in ("cpu", self.device))
                gap = 255 * (here - there).abs()
                found.append((gap.mean().item(), (gap > 1).float().mean().item(), entry.name))
            print(f"level {level}, {self.device} against cpu: mean difference at most "
                  f"{max(found)[0]:.4f} of 255 ({max(found)[2]}); more than 1 of 255 apart: "
                  + ", ".join(f"{name} {share:.1e}" for _, share, name in found if share), flush=True)


def _compared(gaps: list[tuple[float, float]], model: Any, *rest: Any) -> Callable[[int, int], Any]:
    """Passes that are run both ways; the usual way's result is taken."""
    ways = [make(model, *rest) for make in (recorded.recorded, usual)]
    params = list(model.parameters())

    def run(step: int, micro: int) -> Any:
        before, found = [p.grad for p in params], []
        for way in ways:
            for p in params:
                p.grad = None
            outcome = way(step, micro)
            gradients = [p.grad.flatten() for p in params if p.grad is not None]
            found.append((outcome[0].item(), torch.cat(gradients)))
        (a, mine), (b, theirs) = found
        gaps.append((abs(a - b) / abs(b), ((mine - theirs).norm() / theirs.norm()).item()))
        for p, old in zip(params, before, strict=True):
            if old is not None:
                p.grad = old if p.grad is None else p.grad + old
        return outcome

    return run


def _rounded(share: float, model: Any, *rest: Any) -> Callable[[int, int], Any]:
    """The usual passes, with a random share of each gradient added."""
    passed, generator = usual(model, *rest), torch.Generator().manual_seed(1)

    def run(step: int, micro: int) -> Any:
        outcome = passed(step, micro)
        for p in model.parameters():
            if share and p.grad is not None:
                p.grad.mul_(1 + share * torch.randn(p.grad.shape, generator=generator).to(p.device))
        return outcome

    return run


ARMS = ("plain", "off", "tuned", "compiled", "maml1", "maml2", "metasgd2", "graph", "scores", "pool", "alone",
        "same", "chaos", "types")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--side", type=int, default=96, help="crop, px")
    parser.add_argument("--pictures", type=int, default=16, help="support pictures, and query pictures")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--compile", default="auto", choices=("auto", "off"))
    parser.add_argument("--only", default=",".join(ARMS), help="some of these, with commas between")
    given = parser.parse_args()
    if unknown := set(given.only.split(",")) - set(ARMS):
        parser.error(f"no arm {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
    bench = Bench(given.preset, given.side, given.pictures, given.steps, given.compile)
    arithmetic = str(training.arithmetic("auto", bench.device) or torch.float32).removeprefix("torch.")
    print(f"{given.preset} preset, {2 * given.pictures} pictures of {given.side} px a step, {bench.device}, "
          f"{arithmetic}")
    print("| step | s | against plain | images/s |\n|---|---|---|---|")
    for name in given.only.split(","):
        arm: Callable[[], None] = getattr(bench, name)
        began = time.perf_counter()
        try:
            arm()
        except Exception as error:  # the others can still be measured
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
        if bench.device.type == "cuda":
            print(f"({name}: {time.perf_counter() - began:.0f} s in all, at most "
                  f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GB)", flush=True)
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
