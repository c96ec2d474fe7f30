"""The loop. One step = `accumulate` micro-batches, one update; everything random is a function of (seed, step, micro).

    history = train(model, objective, steps=1000, lr=1e-3, folder="outputs/x")      continues the run in that folder

Nothing inside a step waits for the device: losses stay there until they are logged. Divergence is checked then, and
before anything is saved, so that no diverged state is ever kept.
"""

import csv
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gmiqa_core import resume
from gmiqa_core.distributed import Ranks
from gmiqa_core.errors import UserError
from gmiqa_core.schedule import Loop, arithmetic, learning_rate_factor
from gmiqa_core.step import AdamW, gradients, grouped, keep_memory, move_average, seed_everything, usual

EXPLOSION = 1000.0  # a run has diverged when its last five losses average this many times the usual loss
COLUMNS = ("step", "part", "name", "value", "seconds")
Report = Callable[[int, int, dict[str, float]], None]
Evaluate = Callable[[Any], Mapping[str, float]]


class Objective(Protocol):
    """Loss of one micro-batch and what to log; its data must be a pure function of (step, micro)."""

    def __call__(self, model: Any, step: int, micro: int) -> tuple[Tensor, Mapping[str, Any]]: ...


@dataclass
class History:
    """rows: (step, part = train | validation, name, value, seconds); best: of evaluate()['score']."""

    rows: list[tuple[int, str, str, float, float]]
    best: dict[str, Any]
    last: dict[str, Any]
    seconds: float

    @property
    def metrics(self) -> Any:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS))


def lines(label: str = "training", every: float = 10.0) -> Report:
    """Progress as plain lines, at most one per `every` seconds, for batch runs."""
    shown = 0.0

    def report(step: int, steps: int, values: dict[str, float]) -> None:
        nonlocal shown
        if time.monotonic() - shown >= every or step == steps:
            shown = time.monotonic()
            print(f"{label}  step {step}/{steps}", *(f"{name} {v:.4g}" for name, v in values.items()), sep="  ",
                  flush=True)

    return report


def train(model: nn.Module, objective: Objective, *, parameter_groups: Iterable[dict[str, Any]] | None = None,
          evaluate: Evaluate | None = None, identity: Mapping[str, Any] | None = None, report: Report | None = None,
          passes: Any = usual, **loop: Any) -> History:
    """Train `model` in place with Adam and return what happened.

    parameter_groups   dicts with "params", and "lr" and "weight_decay" where they differ from the common ones
    evaluate           model -> {"score": higher is better, ...}, called every `every` steps and at the end
    identity           plain values that describe the objective: a run with others is another run
    report             report(step, steps, values) at every log and evaluation; default: plain, rate-limited lines
    passes             how forward and backward passes are run, see step.usual and gmiqa.recorded
    loop               see Loop
    """
    return _Trainer(model, objective, Loop(**loop), parameter_groups, evaluate, identity, report, passes).run()


class _Trainer:
    """One training: set-up, steps, evaluations, checkpoints."""

    def __init__(self, model: nn.Module, objective: Objective, loop: Loop,
                 parameter_groups: Iterable[dict[str, Any]] | None, evaluate: Evaluate | None,
                 identity: Mapping[str, Any] | None, report: Report | None, passes: Any):
        self.model, self.objective, self.loop, self.evaluate = model, objective, loop, evaluate
        self.ranks = Ranks()
        if (loop.select == "best" or loop.patience is not None) and evaluate is None:
            raise UserError("select = 'best' and patience need evaluate: pass a function that scores a validation part")
        if loop.accumulate < self.ranks.world:
            raise UserError(f"accumulate = {loop.accumulate} micro-batches cannot occupy {self.ranks.world} workers: "
                            "raise accumulate or use fewer workers")
        self.report = report or lines(loop.label)
        self.folder = Path(loop.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.last_path, self.best_path, self.csv = (self.folder / n for n in ("last.ckpt", "best.ckpt", "metrics.csv"))
        device = next(model.parameters()).device
        self.device, self.dtype = device, arithmetic(loop.precision, device)
        start = self.ranks.share(resume.fingerprint(model))
        self.identity = {**(identity or {}), **loop.identity(self.dtype), "start": start}
        if device.type == "cpu":
            keep_memory()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ranks.copy_first([*model.state_dict().values()])
        groups = grouped(model, loop.lr, parameter_groups, loop.weight_decay)
        self.optimizer = AdamW(groups, lr=loop.lr, weight_decay=0.0, fused=device.type == "cuda" or None)
        self.params = [p for group in groups for p in group["params"]]
        self.average = resume.copy_state(model) if loop.ema else None
        self.step, self.best, self.stale, self.stopped = 0, {"score": -math.inf, "step": 0}, 0, False
        self.recent: list[float] = []
        self.pending: list[dict[str, float]] = []  # steps since the last log, as numbers
        self.waiting: list[tuple[dict[str, list[Any]], Tensor, float]] = []  # steps still on the device
        self.rows: list[tuple[int, str, str, float, float]] = []
        self.run_pass = passes(model, objective, loop.accumulate, self._autocast)
        self.begin = time.monotonic()

    def run(self) -> History:
        if self.loop.resume == "auto" and self.last_path.exists():
            self._resume()
        if self.ranks.rank == 0:
            self._write_rows(self.rows, "w")
        while self.step < self.loop.steps and not self.stopped:
            self._update()
            at_end = self.step == self.loop.steps
            if self.step % self.loop.log_every == 0 or at_end:
                self._log()
            if self.evaluate is not None and (self.step % (self.loop.every or 1) == 0 or at_end):
                self._evaluate(self.evaluate)
            if self.step % (self.loop.checkpoint_every or 1) == 0 or at_end or self.stopped:
                self._settle()
                if self.ranks.rank == 0:
                    resume.save_checkpoint(self.last_path, self._state())
        return self._finish()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def _update(self) -> None:
        loop = self.loop
        self.model.train()
        factor = learning_rate_factor(self.step, loop.steps, loop.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        values = gradients(self.model, self.run_pass, (loop.seed, self.step), loop.accumulate, self.ranks, self.params)
        norm = torch.nn.utils.clip_grad_norm_(self.params, loop.clip or math.inf)
        self.optimizer.step()
        self.step += 1
        if self.average is not None and loop.ema is not None:
            move_average(self.average, self.model, min(loop.ema, self.step / (self.step + 9)))
        self.waiting.append((values, norm, loop.lr * factor))

    def _settle(self) -> None:
        """Bring the waiting numbers from the device, and stop if a loss or a gradient among them has diverged."""
        first = self.step - len(self.waiting) + 1
        merged = self.ranks.merge([{**values, "grad_norm": [norm]} for values, norm, _ in self.waiting])
        for step, (values, (_, _, rate)) in enumerate(zip(merged, self.waiting, strict=True), first):
            self._check(step, values["loss"], norm := values.pop("grad_norm"))
            self.pending.append({**values, "grad_norm": norm, "lr": rate})
        self.waiting = []

    def _check(self, step: int, loss: float, norm: float) -> None:
        self.recent = [*self.recent, abs(loss)][-200:]
        usual, latest = statistics.median(self.recent), statistics.fmean(self.recent[-5:])
        reason = ""
        if not math.isfinite(loss + norm):
            reason = f"the loss is {loss:.4g}, the gradient norm {norm:.4g}"
        elif len(self.recent) >= 20 and latest > EXPLOSION * max(0.1, usual):
            reason = f"the loss rose to {loss:.4g} from about {usual:.4g}"
        if reason:
            there = self.last_path.exists()
            good = f"the last good checkpoint is {self.last_path}" if there else "no checkpoint was written yet"
            raise UserError(f"{self.loop.label} diverged at step {step}: {reason}; {good}. Lower the learning rate "
                            f"({self.loop.lr:g}), lengthen the warm-up or set clip, then start anew")

    def _log(self) -> None:
        self._settle()
        names = dict.fromkeys(name for row in self.pending for name in row)
        mean = {name: statistics.fmean(row[name] for row in self.pending if name in row) for name in names}
        self._record("train", mean)
        self.pending = []
        if self.ranks.rank == 0:
            self.report(self.step, self.loop.steps, mean)

    def _evaluate(self, evaluate: Evaluate) -> None:
        self._settle()
        raw = resume.copy_state(self.model) if self.average is not None else None
        if self.average is not None:
            self.model.load_state_dict(self.average)
        scores: dict[str, float] = {}
        if self.ranks.rank == 0:
            self.model.eval()
            with self._autocast():
                scores = {name: float(value) for name, value in evaluate(self.model).items()}
        scores = self.ranks.share(scores)
        if scores["score"] > self.best["score"]:
            self.best, self.stale = {**scores, "step": self.step}, 0
            if self.ranks.rank == 0:
                resume.save_checkpoint(self.best_path, {"model": resume.copy_state(self.model), "best": self.best,
                                                 "identity": self.identity})
        else:
            self.stale += 1
        if raw is not None:
            self.model.load_state_dict(raw)
        self._record("validation", scores)
        if self.ranks.rank == 0:
            self.report(self.step, self.loop.steps, {f"validation {name}": v for name, v in scores.items()})
        self.stopped = self.loop.patience is not None and self.stale >= self.loop.patience

    def _record(self, part: str, values: Mapping[str, float]) -> None:
        seconds = round(time.monotonic() - self.begin, 3)
        rows = [(self.step, part, name, value, seconds) for name, value in values.items()]
        self.rows += rows
        if self.ranks.rank == 0:
            self._write_rows(rows, "a")

    def _write_rows(self, rows: Iterable[tuple], mode: str) -> None:
        with open(self.csv, mode, newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows] if mode == "w" else rows)

    def _state(self) -> dict[str, Any]:
        names = ("identity", "step", "average", "best", "stale", "stopped", "recent", "pending", "rows")
        return {name: getattr(self, name) for name in names} | {
            "model": resume.copy_state(self.model), "optimizer": self.optimizer.state_dict(),
            "seconds": time.monotonic() - self.begin}

    def _resume(self) -> None:
        """Take up the run in the folder if it is this one; else keep its checkpoint under another name."""
        state, label = resume.load_checkpoint(self.last_path), self.loop.label
        if state["identity"] == self.identity and "rows" in state:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.best, self.stale, self.stopped = (state[n] for n in ("step", "best", "stale", "stopped"))
            self.recent, self.pending, self.rows = state["recent"], state["pending"], state["rows"]
            if self.average is not None:
                self.average = {k: v.to(self.device) for k, v in state["average"].items()}
            self.begin = time.monotonic() - state["seconds"]
            if self.ranks.rank == 0:
                print(f"{label}: continues {self.folder} at step {self.step} of {self.loop.steps}", flush=True)
        elif self.ranks.rank == 0:
            changed = ", ".join(f"{k} {state['identity'].get(k)} -> {v}" for k, v in self.identity.items()
                                if state["identity"].get(k) != v)
            os.replace(self.last_path, self.folder / "previous.ckpt")
            print(f"{label}: {self.folder} holds another run ({changed}), kept as previous.ckpt; starting anew",
                  flush=True)

    def _finish(self) -> History:
        if self.loop.select == "best" and self.best["step"]:
            self.ranks.share(None)  # wait for rank 0's file
            self.model.load_state_dict(resume.load_checkpoint(self.best_path)["model"])
        elif self.average is not None:
            self.model.load_state_dict(self.average)
        self.model.eval()
        seed_everything(self.loop.seed, self.loop.steps, 0)  # what follows draws the same after a stop
        return History(self.rows, {**self.best, "path": self.best_path},
                       {"step": self.step, "path": self.last_path, "stopped_early": self.stopped},
                       time.monotonic() - self.begin)
