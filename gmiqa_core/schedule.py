"""What can be set for a training: the loop's settings, the learning rate over the steps, the precision."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gmiqa_core.errors import UserError


@dataclass(frozen=True)
class Loop:
    """How a training runs.

    lr, warmup         the rate rises to lr over that share of the steps; then a half cosine brings it down to 0
    accumulate         micro-batches per update; the loss of a step is their mean
    precision          auto, fp32 or bf16, see `arithmetic`
    weight_decay       decoupled (AdamW); clip: largest gradient norm
    ema                decay of a running mean of the weights, which is then what is evaluated and kept
    every, patience    steps between evaluations; evaluations without a better score before the training stops
    select             "last" or "best": which weights the model holds at the end
    resume             "auto": continue the run in `folder` if it is this one (same settings, same initial weights,
                       same identity); "never": start anew
    """

    steps: int
    lr: float
    folder: str | Path
    warmup: float = 0.05
    accumulate: int = 1
    precision: str = "auto"
    weight_decay: float = 0.0
    clip: float | None = None
    ema: float | None = None
    every: int | None = None
    patience: int | None = None
    select: str = "last"
    resume: str = "auto"
    seed: int = 0
    checkpoint_every: int | None = None
    log_every: int = 10
    label: str = "training"

    def __post_init__(self) -> None:
        if self.select not in ("last", "best") or self.resume not in ("auto", "never"):
            raise UserError(f"select = {self.select!r}, resume = {self.resume!r}: expected last or best, auto or never")
        object.__setattr__(self, "folder", Path(self.folder))
        object.__setattr__(self, "every", self.every or max(1, self.steps // 10))
        object.__setattr__(self, "checkpoint_every", self.checkpoint_every or max(50, self.steps // 20))

    def identity(self, dtype: torch.dtype | None) -> dict[str, Any]:
        """The settings that identify a run."""
        names = ("steps", "lr", "warmup", "accumulate", "weight_decay", "clip", "ema", "seed", "every", "patience")
        return {name: value for name, value in asdict(self).items() if name in names} | {"precision": str(dtype)}


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over the first `warmup` share of the steps, then half a cosine down to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising + 1) / max(1, steps - rising + 1)))


def arithmetic(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type of `precision`, None for float32; auto is bf16 where the hardware multiplies in it."""
    if precision not in ("auto", "fp32", "bf16"):
        raise UserError(f"precision = {precision!r}: expected auto, fp32 or bf16")
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and fast) else None
