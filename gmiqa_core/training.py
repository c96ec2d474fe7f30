"""The loop. One step = `accumulate` micro-batches, one update; everything random is a function of (seed, step, micro).

Several processes (see launch.py): rank r takes micro-batches r, r + world, ...; one all-reduce of the gradients per
step makes the update equal to one process that runs all of them, to rounding. BatchNorm normalises each micro-batch by
itself; every micro-batch moves the running statistics from the same start and the step keeps the mean of the results,
so that they, too, do not depend on the number of processes.
"""

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn

from gmiqa_core.errors import UserError
from gmiqa_core.memory import keep_memory
from gmiqa_core.resume import (
    copy_state,
    fingerprint,
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)

EXPLOSION = 1000.0  # a run has diverged when its last five losses average this many times the usual loss
COLUMNS = ["step", "part", "name", "value", "seconds"]
Report = Callable[[int, int, dict[str, float]], None]


class Objective(Protocol):
    """Loss of one micro-batch and what to log; its data must be a pure function of (step, micro)."""

    def __call__(self, model: Any, step: int, micro: int) -> tuple[Tensor, Mapping[str, Any]]: ...


@dataclass
class History:
    """metrics: tidy table (step, part = train | validation, name, value, seconds); best: of evaluate()['score']."""

    metrics: pd.DataFrame
    best: dict[str, Any]
    last: dict[str, Any]
    seconds: float


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over the first `warmup` share of the steps, then half a cosine down to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising + 1) / max(1, steps - rising + 1)))


def lines(label: str = "", every: float = 10.0) -> Report:
    """Progress as plain lines, at most one per `every` seconds, for batch runs."""
    state = {"shown": 0.0, "start": time.monotonic(), "first": -1}

    def report(step: int, steps: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        if state["first"] < 0:
            state["first"] = step
        if now - state["shown"] >= every or step == steps:
            state["shown"] = now
            done = step - state["first"]
            left = f"  {(now - state['start']) / done * (steps - step):.0f} s left" if done > 0 else ""
            text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"{label or 'training'}  step {step}/{steps}  {text}{left}", flush=True)

    return report


class _Ranks:
    """This process among the others of the run; alone when torchrun did not start it."""

    def __init__(self) -> None:
        on = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if on else (0, 1)

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self.world == 1:
            return [value]
        boxes: list[Any] = [None] * self.world
        dist.all_gather_object(boxes, value)
        return boxes

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Sum over the ranks, in one all-reduce."""
        if self.world == 1 or not tensors:
            return tensors
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        parts = flat.split([t.numel() for t in tensors])
        return [part.view(t.shape).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]


def _groups(model: nn.Module, lr: float, groups: Iterable[dict[str, Any]] | None,
            weight_decay: float) -> list[dict[str, Any]]:
    """Optimizer groups with their base rate; weight decay spares biases and normalisation (one-dimensional weights)."""
    own = {id(p) for p in model.parameters()}
    result: list[dict[str, Any]] = []
    everything: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    for group in everything if groups is None else groups:
        params = [p for p in group["params"] if p.requires_grad]
        if any(id(p) not in own for p in params):
            raise UserError("parameter_groups holds a parameter that is not part of the model: checkpoints would lose "
                            "it; make it a part of the module that is trained")
        base = {"base_lr": float(group.get("lr", lr)), "lr": 0.0}
        decay = float(group.get("weight_decay", weight_decay))
        for chosen, value in (([p for p in params if p.ndim > 1], decay), ([p for p in params if p.ndim <= 1], 0.0)):
            if chosen:
                result.append({**base, "params": chosen, "weight_decay": value})
    return result


def _seed(seed: int, step: int, micro: int) -> None:
    """Seed every global generator for one micro-batch: its noise depends neither on history nor on the process."""
    value = int(np.random.SeedSequence((seed, step, micro)).generate_state(1)[0])
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


def arithmetic(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of `precision`, None for float32; auto is bf16 where the hardware multiplies in it."""
    if precision not in ("auto", "fp32", "bf16"):
        raise UserError(f"precision = {precision!r}: expected auto, fp32 or bf16")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and fast) else None


def train(model: nn.Module, objective: Objective, *, steps: int, lr: float, folder: str | Path,
          parameter_groups: Iterable[dict[str, Any]] | None = None, warmup: float = 0.05, accumulate: int = 1,
          precision: str = "auto", weight_decay: float = 0.0, clip: float | None = None, ema: float | None = None,
          evaluate: Callable[[Any], Mapping[str, float]] | None = None, every: int | None = None,
          patience: int | None = None, select: str = "last", resume: str = "auto", seed: int = 0,
          checkpoint_every: int | None = None, log_every: int = 10, label: str = "",
          identity: Mapping[str, Any] | None = None, report: Report | None = None,
          channels_last: bool = True) -> History:
    """Train `model` in place with Adam and return what happened.

    parameter_groups   dicts with "params", and "lr" and "weight_decay" where they differ from the common ones
    accumulate         micro-batches per update; the loss of a step is their mean
    weight_decay       decoupled (AdamW); clip: largest gradient norm; ema: decay of a running mean of the weights,
                       which is then what is evaluated and what the model holds at the end
    evaluate, every    evaluate(model) -> {"score": higher is better, ...} every `every` steps and at the end;
                       with `patience`, stop after that many evaluations without a better score
    select             "last" or "best": which weights the model holds at the end
    resume             "auto": continue the run in `folder` if it is this one (same settings, same initial weights,
                       same `identity`: plain values that describe the objective); "never": start anew
    report             report(step, steps, values) at every log and evaluation; default: plain, rate-limited lines
    """
    if select not in ("last", "best") or resume not in ("auto", "never"):
        raise UserError(f"select = {select!r}, resume = {resume!r}: expected last or best, auto or never")
    if (select == "best" or patience is not None) and evaluate is None:
        raise UserError("select = 'best' and patience need evaluate: pass a function that scores a validation part")
    ranks = _Ranks()
    if accumulate < ranks.world:
        raise UserError(f"accumulate = {accumulate} micro-batches cannot occupy {ranks.world} workers: "
                        "raise accumulate or use fewer workers")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    last_path, best_path, csv_path = folder / "last.ckpt", folder / "best.ckpt", folder / "metrics.csv"
    device = next(model.parameters()).device
    dtype = arithmetic(precision, device)
    every = every or max(1, steps // 10)
    checkpoint_every = checkpoint_every or max(50, steps // 20)
    report = report or lines(label)
    identity = {**(identity or {}), "steps": steps, "lr": lr, "warmup": warmup, "accumulate": accumulate,
                "precision": str(dtype), "weight_decay": weight_decay, "clip": clip, "ema": ema, "seed": seed,
                "every": every, "patience": patience, "start": ranks.share(fingerprint(model))}

    if device.type == "cpu":
        keep_memory()
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if ranks.world > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)
    groups = _groups(model, lr, parameter_groups, weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)
    params = [p for group in groups for p in group["params"]]
    average = copy_state(model) if ema else None
    step, best, stale, seconds = 0, {"score": -math.inf, "step": 0}, 0, 0.0
    stopped = False
    recent: list[float] = []
    pending: list[dict[str, float]] = []
    rows = pd.DataFrame(columns=COLUMNS)

    if resume == "auto" and last_path.exists():
        state = load_checkpoint(last_path)
        if state["identity"] == identity:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            set_random_states(state["random"])
            step, best, stale, stopped = state["step"], state["best"], state["stale"], state["stopped"]
            recent, pending, seconds = state["recent"], state["pending"], state["seconds"]
            average = {k: v.to(device) for k, v in state["average"].items()} if ema else None
            if csv_path.exists():
                rows = pd.read_csv(csv_path)
                rows = rows[rows["step"] <= state["logged"]]
            if ranks.rank == 0:
                print(f"{label or 'training'}: continues {folder} at step {step} of {steps}", flush=True)
        elif ranks.rank == 0:
            changed = ", ".join(f"{k} {state['identity'].get(k)} -> {v}" for k, v in identity.items()
                                if state["identity"].get(k) != v)
            os.replace(last_path, folder / "previous.ckpt")
            print(f"{label or 'training'}: {folder} holds another run ({changed}), kept as previous.ckpt; "
                  "starting anew", flush=True)
    if ranks.rank == 0:
        rows.to_csv(csv_path, index=False)
    begin = time.monotonic() - seconds
    logged = int(rows["step"].max()) if len(rows) else 0

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def log(part: str, values: Mapping[str, float]) -> None:
        if ranks.rank == 0:
            new = pd.DataFrame([(step, part, k, v, round(time.monotonic() - begin, 3)) for k, v in values.items()],
                               columns=COLUMNS)
            new.to_csv(csv_path, mode="a", header=False, index=False)

    def state_now() -> dict[str, Any]:
        return {"identity": identity, "model": copy_state(model), "optimizer": optimizer.state_dict(), "step": step,
                "average": average, "random": random_states(), "best": best, "stale": stale, "stopped": stopped,
                "recent": recent, "pending": pending, "logged": logged, "seconds": time.monotonic() - begin}

    def stop_diverged(what: str) -> None:
        good = f"the last good checkpoint is {last_path}" if last_path.exists() else "no checkpoint was written yet"
        raise UserError(f"{label or 'training'} diverged at step {step}: {what}; {good}. "
                        f"Lower the learning rate ({lr:g}), lengthen the warm-up or set clip, then start anew")

    while step < steps and not stopped:
        model.train()
        factor = learning_rate_factor(step, steps, warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        optimizer.zero_grad(set_to_none=True)
        values = _micro_batches(model, objective, step, accumulate, seed, ranks, params, autocast)
        if not math.isfinite(values["loss"]):
            stop_diverged(f"the loss is {values['loss']}")
        norm = float(torch.nn.utils.clip_grad_norm_(params, clip or math.inf))
        if not math.isfinite(norm):
            stop_diverged(f"the gradient norm is {norm} (loss {values['loss']:.4g})")
        recent = [*recent, abs(values["loss"])][-200:]
        if len(recent) >= 20 and statistics.fmean(recent[-5:]) > EXPLOSION * max(0.1, statistics.median(recent)):
            stop_diverged(f"the loss rose to {values['loss']:.4g} from about {statistics.median(recent):.4g}")
        optimizer.step()
        step += 1
        if average is not None and ema is not None:
            _move_average(average, model, min(ema, step / (step + 9)))
        pending.append({**values, "grad_norm": norm, "lr": lr * factor})

        if step % log_every == 0 or step == steps:
            mean = {k: statistics.fmean(row[k] for row in pending if k in row) for k in dict.fromkeys(
                k for row in pending for k in row)}
            log("train", mean)
            pending, logged = [], step
            if ranks.rank == 0:
                report(step, steps, mean)
        if evaluate is not None and (step % every == 0 or step == steps):
            raw = copy_state(model) if average is not None else None
            if average is not None:
                model.load_state_dict(average)
            scores = dict(_evaluate(model, evaluate, autocast)) if ranks.rank == 0 else {}
            scores = ranks.share(scores)
            better = scores["score"] > best["score"]
            if better:
                best, stale = {**scores, "step": step}, 0
                if ranks.rank == 0:
                    save_checkpoint(best_path, {"model": copy_state(model), "best": best, "identity": identity})
            else:
                stale += 1
            if raw is not None:
                model.load_state_dict(raw)
            log("validation", scores)
            logged = step
            if ranks.rank == 0:
                report(step, steps, {f"validation {k}": v for k, v in scores.items()})
            stopped = patience is not None and stale >= patience
        if ranks.rank == 0 and (step % checkpoint_every == 0 or step == steps or stopped):
            save_checkpoint(last_path, state_now())

    if select == "best" and best["step"]:
        ranks.share(None)  # wait for rank 0's file
        model.load_state_dict(load_checkpoint(best_path)["model"])
    elif average is not None:
        model.load_state_dict(average)
    model.eval()
    metrics = ranks.share(pd.read_csv(csv_path) if ranks.rank == 0 else None)
    return History(metrics, {**best, "path": best_path}, {"step": step, "path": last_path, "stopped_early": stopped},
                   time.monotonic() - begin)


def _evaluate(model: nn.Module, evaluate: Callable[[Any], Mapping[str, float]],
              autocast: Callable[[], Any]) -> dict[str, float]:
    model.eval()
    with autocast():
        return {name: float(value) for name, value in evaluate(model).items()}


def _move_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - decay)
            else:
                average[name].copy_(value)


def _micro_batches(model: nn.Module, objective: Objective, step: int, accumulate: int, seed: int, ranks: _Ranks,
                   params: list[nn.Parameter], autocast: Callable[[], Any]) -> dict[str, float]:
    """Gradients of one step, summed over the processes, and its metrics, each averaged over where it was given."""
    buffers = list(model.buffers())
    start = [b.detach().clone() for b in buffers] if accumulate > 1 else []
    moves = [torch.zeros_like(b) for b in start]
    given: dict[str, list[Any]] = {}
    for micro in range(ranks.rank, accumulate, ranks.world):
        for buffer, value in zip(buffers, start, strict=False):
            buffer.copy_(value)
        _seed(seed, step, micro)
        with autocast():
            loss, extra = objective(model, step, micro)
        (loss / accumulate).backward()
        for name, metric in {"loss": loss, **extra}.items():
            given.setdefault(name, []).append(metric.detach() if isinstance(metric, Tensor) else metric)
        for buffer, value, move in zip(buffers, start, moves, strict=False):
            move += buffer - value
    numbers = ranks.gather({name: [float(v) for v in values] for name, values in given.items()})
    if ranks.world > 1:
        present = torch.tensor([float(p.grad is not None) for p in params], device=params[0].device)
        floats = [move for move in moves if move.is_floating_point()]
        summed = ranks.sum([present, *(torch.zeros_like(p) if p.grad is None else p.grad for p in params), *floats])
        for p, grad, there in zip(params, summed[1:], summed[0].tolist(), strict=False):
            p.grad = grad if there else None
        for move, total in zip(floats, summed[1 + len(params):], strict=True):
            move.copy_(total)
    for buffer, value, move in zip(buffers, start, moves, strict=False):
        if buffer.is_floating_point():  # counters (num_batches_tracked) have moved by one, as in one process
            buffer.copy_(value + move / accumulate)
    names = dict.fromkeys(name for part in numbers for name in part)
    return {name: statistics.fmean(v for part in numbers for v in part.get(name, [])) for name in names}
