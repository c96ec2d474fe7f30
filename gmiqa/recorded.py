"""A card repeats a recording of the forward and backward pass (a CUDA graph) in place of taking orders for each part.

A pass of a deep network is thousands of small orders. A host gives about a hundred thousand a second, so it is the host
and not the card that sets the pace. A recording is one order, and its numbers are those of the pass that it recorded,
to rounding. It needs an objective of two parts (step.TwoPart): what it draws is copied into the recording's own
tensors, and whatever else its computation depends on is a value that it also draws.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from gmiqa_core.batch import Batch, upload
from gmiqa_core.step import TwoPart, usual

USUAL = 3  # passes of each form of inputs that run as usual before one is recorded
MOST = 8  # recordings of a training; forms that come after them run as usual

Outcome = tuple[Tensor, dict[str, Any]]
tree.register_dataclass(Batch)


def passes(compile: str) -> Callable[..., Any]:
    """How training.train runs its passes: `auto` records them on a card, `off` does not."""
    return recorded if compile == "auto" else usual


def recorded(model: nn.Module, objective: Any, accumulate: int, autocast: Callable[[], Any]) -> Callable[..., Outcome]:
    """run(step, micro): recorded passes on a card, the usual ones elsewhere."""
    recordable = next(model.parameters()).device.type == "cuda" and isinstance(objective, TwoPart)
    parts = model, objective, accumulate, autocast
    return Recorded(*parts, Card()) if recordable else usual(*parts)


class Recorded:
    """run(step, micro) -> loss and what to log; the gradients of loss / accumulate are added to those of the weights.

    record    work -> (repeat, what work returned); `repeat` computes the same into the same memory
    """

    def __init__(self, model: nn.Module, objective: Any, accumulate: int, autocast: Callable[[], Any],
                 record: Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]):
        self.model, self.objective, self.accumulate, self.autocast = model, objective, accumulate, autocast
        self.record, self.params = record, [p for p in model.parameters() if p.requires_grad]
        self.device = self.params[0].device
        self.seen: Counter[Any] = Counter()
        self.recordings: dict[Any, tuple] = {}
        self.broken = False

    def __call__(self, step: int, micro: int) -> Outcome:
        leaves, form = tree.tree_flatten(self.objective.inputs(step, micro))
        leaves = [upload(x, self.device) if isinstance(x, Tensor) else x for x in leaves]
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        key = (str(form), *((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in leaves))
        if key not in self.recordings:
            self.seen[key] += 1
            late = self.seen[key] > USUAL and len(self.recordings) < MOST and not self.broken
            if not late or not self._recorded(key, leaves, form):
                return self._pass(tree.tree_unflatten(leaves, form))
        repeat, inputs, names, numbers, gradients = self.recordings[key]
        for mine, new in zip(inputs, tensors, strict=True):
            mine.copy_(new)
        repeat()
        self._add(gradients)
        loss, *values = numbers.clone().unbind()
        return loss, dict(zip(names, values, strict=True))

    def _pass(self, inputs: Any) -> Outcome:
        with self.autocast():
            loss, values = self.objective.outcome(self.model, inputs)
        (loss / self.accumulate).backward()
        return loss.detach(), values

    def _recorded(self, key: Any, leaves: list[Any], form: Any) -> bool:
        """Record the pass of these inputs; False if that fails."""
        mine = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
        before = [p.grad for p in self.params]
        names: list[str] = []

        def work() -> Tensor:
            loss, values = self._pass(tree.tree_unflatten(mine, form))
            names[:] = values
            return torch.stack([v.detach().double() for v in (loss, *values.values())])

        for p in self.params:
            p.grad = None
        try:
            repeat, numbers = self.record(work)
            gradients = [(p, p.grad) for p in self.params if p.grad is not None]
        except RuntimeError as error:
            self.broken = True
            print("Passes run as usual, since they cannot be recorded:", str(error).partition("\n")[0], flush=True)
            return False
        finally:
            for p, gradient in zip(self.params, before, strict=True):
                p.grad = gradient
        inputs = [x for x in mine if isinstance(x, Tensor)]
        self.recordings[key] = repeat, inputs, list(names), numbers, gradients
        return True

    def _add(self, gradients: list[tuple[nn.Parameter, Tensor]]) -> None:
        """The first micro-batch of several gets a copy, because the recording's own memory is written again."""
        fresh = [(p, g) for p, g in gradients if p.grad is None]
        others = [(p.grad, g) for p, g in gradients if p.grad is not None]
        if others:
            torch._foreach_add_(*map(list, zip(*others, strict=True)))
        for p, g in fresh:
            p.grad = g if self.accumulate == 1 else g.clone()


class Card:
    """Records on a CUDA device; all recordings of a training share their memory, as one runs at a time."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        gc.collect()  # what an earlier pass left would be freed in the middle
        graph = torch.cuda.CUDAGraph()
        # other threads, which prepare pictures, go on meanwhile
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result
