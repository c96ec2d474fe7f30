"""What each module of the network costs: parameters, FLOPs, time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gmiqa_core.graph import type_adjacency
from gmiqa_core.network import GMIQA

TIMED = 2  # pictures for timing the backbone, pyramid and NodeBuilder, whose cost is proportional to the pictures
Visit = Callable[[str, "nn.Module | None", Callable[[], Any]], Any]


def by_module(model: GMIQA, size: int = 224, n: int = 1, training: bool = False, repeats: int = 3) -> pd.DataFrame:
    """One row per module for `n` pictures of size x size, which are one graph of n nodes, and a last row `total`.

    training    forward and backward in place of forward alone
    columns     parameters; gflop: 10^9 additions and multiplications in matrix products and convolutions, counted
                without computing; ms on this machine, the best of `repeats` (for n > 2 the modules before the graph are
                timed on 2 pictures and scaled up)
    """
    model = copy.deepcopy(model).train(training)  # gradients and BatchNorm statistics stay with the copy
    device = next(model.parameters()).device
    counted: dict[str, float] = {}
    parameters: dict[str, int] = {}
    timed: dict[str, float] = {}

    def count(name: str, module: nn.Module | None, run: Callable[[], Any]) -> Any:
        parameters[name] = sum(p.numel() for p in module.parameters()) if module is not None else 0
        with FlopCounterMode(display=False) as counter:
            out = run()
        counted[name] = counter.get_total_flops() / 1e9
        return out

    few = TIMED if training else min(n, TIMED)  # batch statistics need more than one picture

    def clock(name: str, module: nn.Module | None, run: Callable[[], Any]) -> Any:
        best = float("inf")
        out = run()  # the first call prepares kernels
        for _ in range(repeats):
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            best = min(best, time.perf_counter() - start)
        timed[name] = best * 1000 * (n / few if name in ("backbone", "pyramid", "node_builder") else 1)
        return out

    with torch.device("meta"):
        abstract = GMIQA(**model.config).eval()  # BatchNorm adds nothing to what is counted
    _walk(abstract, torch.zeros(n, 3, size, size, device="meta"), n, training, count)
    _walk(model, torch.rand(few, 3, size, size, device=device), n, training, clock)
    rows = [(name, parameters[name], counted[name], timed[name]) for name in counted]
    table = pd.DataFrame(rows, columns=["module", "parameters", "gflop", "ms"])
    total = table.drop(columns="module").sum()
    table.loc[len(table)] = ["total", int(total["parameters"]), total["gflop"], total["ms"]]
    return table.set_index("module").astype({"parameters": int})


def _walk(model: GMIQA, x: Tensor, n: int, training: bool, visit: Visit) -> None:
    """Visit the modules in the order of the data. Each gets what the one before gave, cut off from its gradient."""

    def step(name: str, module: nn.Module | None, function: Callable[..., Any], *inputs: Tensor) -> Any:
        inputs = tuple(_fresh(i, training) for i in inputs)

        def run() -> Any:
            with torch.set_grad_enabled(training):
                out = function(*inputs)
                if training:
                    tensors = tuple(out) if isinstance(out, tuple | list) else (out,)
                    torch.autograd.backward(tensors, [torch.ones_like(t) for t in tensors])
            return out

        return visit(name, module, run)

    features = step("backbone", model.backbone, model.backbone, x)
    pooled = step("pyramid", model.pyramid, model.pyramid, features)
    nodes = step("node_builder", model.node_builder, model.node_builder, pooled)
    by_pooled = model.config["edge_init"] == "pooled"
    everyone = torch.arange(n, device=x.device) % len(nodes)
    x = nodes[everyone]
    A = torch.eye(n, device=x.device)
    loops = mean = x[:, :0]
    if model.relation is not None and model.config["graph"] == "full":
        E = step("edge_builder", model.relation, model.relation, pooled[everyone] if by_pooled else x)
        A, loops, mean = type_adjacency(E, model.config["type_adjacency"]), E.diagonal().T, E.mean(1)
    elif model.relation is not None:
        loops = mean = step("mlp", model.relation, model.relation, x)
    branches = model.config["branches"]
    if "type" in branches:
        step("type_branch", model.type_branch, model.type_branch, x, A)
        step("classifier", model.classifier, lambda x: model.classifier(model.type_branch(x[:, None], A[:1, :1])), x)
    if "level" in branches:
        step("level_branch", model.level_branch, model.level_branch, x, mean)
    if "score" in branches:
        step("score_head", model.score_head, model.score_head, torch.cat([x, loops], -1))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _fresh(x: Tensor | list[Tensor], training: bool) -> Any:
    """The same values with a gradient of their own; the backbone may give a list of maps."""
    if isinstance(x, list):
        return [_fresh(part, training) for part in x]
    return x.detach().requires_grad_(training)
