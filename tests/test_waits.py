"""A step of training never waits for the device between two logs: counted here, where the device is the CPU, as calls
that would wait on a card."""

from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from gmiqa import base_networks as metaqap
from gmiqa.experiments.backbones import base_network
from gmiqa_core import finetuning, meta_learning, network, pretraining, training
from gmiqa_core.batch import Batch, Target

COUNTED = range(2, 5)  # steps, of six; all are logged together at the end
OPERATORS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal", "aten::masked_select",
             "aten::_unique2"}
FUNCTIONS = {"cpu", "numpy", "tolist", "item", "tensor"}  # tensor: of numbers of the host, which are copied over


@dataclass
class Waits:
    """While `on`, what would make the host wait. AdamW's step is left out: on a CPU it reads its own counters, which
    the fused one of a card keeps there."""

    on: bool = False
    inside: bool = False  # of the optimizer

    def __post_init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def add(self, name: str) -> None:
        if self.on and not self.inside:
            self.seen[name] += 1


class Operators(TorchDispatchMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        masked = name in ("aten::index", "aten::index_put_") and any(i is not None and i.dtype == torch.bool
                                                                    for i in args[1])
        if name in OPERATORS or masked:
            self.waits.add(name)
        return function(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self, waits: Waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in FUNCTIONS or (name == "to" and "cpu" in args[1:]):
            self.waits.add(name)
        return function(*args, **(kwargs or {}))


def still(n: int = 24) -> Batch:
    g = torch.Generator().manual_seed(0)
    quality, kinds = torch.rand(n, generator=g), torch.arange(n) % 5 + 1
    return Batch(torch.rand(n, 3, 32, 32, generator=g), quality, torch.full((n,), 0.1), kinds, kinds, 1 - quality,
                 torch.arange(n))


class Pool:
    """Pictures at hand: drawing is not counted."""

    def __init__(self) -> None:
        self.all = still()

    def batch(self, step, n, *_):
        return self.all[:n]

    def identity(self):
        return {}

    def task(self, step, type, support, query):
        return self.all[:support], self.all[support : support + query]

    def triplet(self, step, n):
        return self.all[:n], self.all[n : 2 * n], self.all[2 * n : 3 * n]


class Scored:
    def batch(self, *_):
        b = still(8)
        return Target(b.images, b.quality, b.spread, b.content)


def tiny(**options) -> nn.Module:
    torch.manual_seed(0)
    return network.build("tiny", **options)


def regressor() -> nn.Module:
    return network.QualityRegressor(tiny())


def fine_tuning(graph: str):
    model, target = tiny(finetune_graph=graph), Scored().batch()
    bank = torch.rand(model.config["bank_size"], 3, 32, 32) if graph == "bank" else None
    return model, finetuning.Objective(lambda k: target, bank=bank)


GRAPH = dict(sizes=[4], batch=8, mixed=8, classify_weight=1.0, quality_weight=1.0)
ARMS = {
    "plain": lambda: (regressor(), meta_learning.PlainObjective(Pool(), 8)),
    "maml, first order": lambda: (meta_learning.MetaLearner(regressor(), "maml", True),
                                  meta_learning.MetaObjective(Pool(), [1], 1, 8, 8)),
    "meta-sgd, second order, adam": lambda: (meta_learning.MetaLearner(regressor(), "meta-sgd", False, inner="adam"),
                                             meta_learning.MetaObjective(Pool(), [1], 1, 8, 8)),
    "graph triplets": lambda: (tiny(), pretraining.GraphObjective(Pool(), **GRAPH)),
    "fine-tuning": lambda: fine_tuning("singleton"),
    "fine-tuning with a bank": lambda: fine_tuning("bank"),
    "MetaQAP pre-training": lambda: (base_network("small"), metaqap.Pretraining(Pool(), 8, 0.25)),
    "MetaQAP fine-tuning": lambda: (base_network("small"),
                                    metaqap.FineTuning(Scored(), 8, 0, 0, (0.5, 0.5), 0.1)),
}


def waits_of(model: nn.Module, objective, folder, accumulate: int = 2) -> Counter:
    waits = Waits()

    def watched(model: nn.Module, step: int, micro: int) -> tuple[Tensor, dict]:
        waits.on = step in COUNTED
        return objective(model, step, micro)

    hooks = [register_optimizer_step_pre_hook(lambda *_: setattr(waits, "inside", True)),
             register_optimizer_step_post_hook(lambda *_: setattr(waits, "inside", False))]
    try:
        with Functions(waits), Operators(waits):
            training.train(model, watched, steps=6, lr=1e-3, folder=folder, accumulate=accumulate, log_every=10,
                           checkpoint_every=10, clip=1.0, ema=0.9, report=lambda *_: None)
    finally:
        for hook in hooks:
            hook.remove()
    return waits.seen


@pytest.mark.parametrize("name", ARMS)
def test_a_step_does_not_wait_for_the_device(tmp_path, name):
    assert not waits_of(*ARMS[name](), tmp_path)


@pytest.mark.parametrize("waiting", [lambda loss: float(loss), lambda loss: bool(loss > 0), lambda loss: loss.cpu(),
                                     lambda loss: loss[None][loss[None] > 0], lambda loss: loss.detach().numpy()])
def test_what_waits_is_counted(tmp_path, waiting):
    def objective(model, step, micro):
        loss = model(still(4).images).square().mean()
        waiting(loss)
        return loss, {}

    assert waits_of(regressor(), objective, tmp_path).total() >= len(COUNTED)
