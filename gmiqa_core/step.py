"""One step of the loop: gradients of its micro-batches, parameter groups, the running mean of the weights.

Several processes (see distributed.py): rank r takes micro-batches r, r + world, ...; one all-reduce of the gradients
per step makes the update equal to one process that runs all of them, to rounding. BatchNorm normalises each micro-batch
by itself; every micro-batch moves the running statistics from the same start and the step keeps the mean of the
results, so that they, too, do not depend on the number of processes.
"""

import ctypes
import inspect
import platform
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gmiqa_core.distributed import Ranks
from gmiqa_core.errors import UserError


def grouped(model: nn.Module, lr: float, groups: Iterable[dict[str, Any]] | None,
            weight_decay: float) -> list[dict[str, Any]]:
    """Optimizer groups with their base rate; weight decay spares biases and normalisation (one-dimensional weights)."""
    known = {id(p) for p in model.parameters()}
    result: list[dict[str, Any]] = []
    everything: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    for group in everything if groups is None else groups:
        params = [p for p in group["params"] if p.requires_grad]
        if any(id(p) not in known for p in params):
            raise UserError("parameter_groups holds a parameter that is not part of the model: checkpoints would lose "
                            "it; make it a part of the module that is trained")
        base = {"base_lr": float(group.get("lr", lr)), "lr": 0.0}
        decay = float(group.get("weight_decay", weight_decay))
        for chosen, value in (([p for p in params if p.ndim > 1], decay), ([p for p in params if p.ndim <= 1], 0.0)):
            if chosen:
                result.append({**base, "params": chosen, "weight_decay": value})
    return result


class AdamW(torch.optim.AdamW):
    """torch.optim.AdamW, which would load torch's compiler before its first step, for seconds and to no use."""

    step, *others = (inspect.unwrap(getattr(torch.optim.AdamW, name)) for name in (
        "step", "add_param_group", "zero_grad", "state_dict", "load_state_dict"))
    step, (add_param_group, zero_grad, state_dict, load_state_dict) = torch.no_grad()(step), others


def keep_memory() -> None:
    """Ask glibc to reuse memory until the process ends, in place of returning it to the system after every step."""
    if platform.libc_ver()[0] == "glibc":
        for option, value in ((-4, 0), (-1, -1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD
            ctypes.CDLL(None).mallopt(option, value)


def seed_everything(seed: int, step: int, micro: int) -> None:
    """Seed every global generator for one micro-batch: its noise depends neither on history nor on the process."""
    value = int(np.random.SeedSequence((seed, step, micro)).generate_state(1)[0])
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


class TwoPart:
    """An objective in two parts: inputs(step, micro), the tensors and plain values that it draws, and
    outcome(model, inputs), its loss and what to log, which depend on nothing else: a card can record them."""

    inputs: Callable[..., Any]
    outcome: Callable[..., tuple[Tensor, dict[str, Any]]]

    def __call__(self, model: Any, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        return self.outcome(model, self.inputs(step, micro))


def usual(model: nn.Module, objective: Any, accumulate: int, autocast: Callable[[], Any]) -> Callable[..., Any]:
    """run(step, micro): a forward and backward pass; returns the loss and what to log."""
    def run(step: int, micro: int) -> tuple[Tensor, Any]:
        with autocast():
            loss, values = objective(model, step, micro)
        (loss / accumulate).backward()
        return loss, values

    return run


@torch.no_grad()
def move_average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """Move the running mean of the weights towards the model; counters are copied."""
    state = model.state_dict(keep_vars=True)
    floats = [name for name, value in state.items() if value.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in floats], [state[name] for name in floats], 1 - decay)
    for name in state.keys() - floats:
        average[name].copy_(state[name])


def gradients(model: nn.Module, run: Callable[[int, int], tuple[Tensor, Any]], key: tuple[int, int], accumulate: int,
              ranks: Ranks, params: list[nn.Parameter]) -> dict[str, list[Any]]:
    """Gradients of step key = (seed, step), summed over the processes; returns what this process's micro-batches gave
    to log, still on the device. `run`: see `usual`."""
    buffers = list(model.buffers()) if accumulate > 1 else []
    floats, counters = ([b for b in buffers if b.is_floating_point() == kind] for kind in (True, False))
    start, counted = [b.clone() for b in floats], [b.clone() for b in counters]
    moves = [torch.zeros_like(b) for b in floats]
    values: dict[str, list[Any]] = {}
    for micro in range(ranks.rank, accumulate, ranks.world):
        for now, before in ((floats, start), (counters, counted)):
            if now:
                torch._foreach_copy_(now, before)
        seed_everything(*key, micro)
        loss, extra = run(key[1], micro)
        for name, metric in {"loss": loss, **extra}.items():
            values.setdefault(name, []).append(metric.detach() if isinstance(metric, Tensor) else metric)
        if floats:
            torch._foreach_add_(moves, torch._foreach_sub(floats, start))
    ranks.sum_gradients(params, moves)
    if floats:  # counters (num_batches_tracked) have moved by one, as in one process
        torch._foreach_copy_(floats, torch._foreach_add(start, torch._foreach_div(moves, accumulate)))
    return values
