"""What type codes, levels and edges are worth on unseen contents.

    probe(model, test_set(contents)).summary()       type accuracy of the nearest code, error of the level, by N
    edge_variance(model, V)                          how alike the edges of a graph become, layer by layer
    refit_level_branch(model, V, batch, "kl")        what a loss does to sigma
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.graph import geometric, type_adjacency
from gmiqa_core.losses import level_loss
from gmiqa_core.network import GMIQA, build


@dataclass
class Probe:
    """What graphs of unseen contents say. codes: N -> (graphs, type_width); graphs: N, type and hit (its nearest
    neighbour has its type), in the order of codes; nodes: N, type, level, content, severity, spread, mu, sigma of every
    picture of every graph."""

    codes: dict[int, Tensor]
    graphs: pd.DataFrame
    nodes: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """By N: type accuracy, the level branch's mean absolute error, number of graphs."""
        error = (self.nodes["mu"] - self.nodes["severity"]).abs().groupby(self.nodes["N"]).mean()
        hits = self.graphs.groupby("N")["hit"]
        return pd.DataFrame({"type_accuracy": hits.mean(), "level_error": error, "graphs": hits.size()})


@torch.no_grad()
def all_nodes(model: GMIQA, images: Tensor, chunk: int = 32) -> Tensor:
    """model.nodes in eval mode, in chunks: (n,3,H,W) -> V (n,d)."""
    training_mode, device = model.training, next(model.parameters()).device
    model.eval()
    V = torch.cat([model.nodes(part.to(device)) for part in images.split(chunk)])
    model.train(training_mode)
    return V


def neighbours(code: Tensor, kind: Tensor, side: Tensor) -> Tensor:
    """Whether the code (graphs, width) nearest to each, among those of another `side`, has its type (graphs,)."""
    distance = torch.cdist(code, code).masked_fill(side[:, None] == side[None], torch.inf)
    return kind[distance.argmin(1)] == kind


@torch.no_grad()
def probe(model: GMIQA, batch: Batch, sizes: Sequence[int] = (1, 16), graphs: int = 8, seed: int = 0,
          V: Tensor | None = None) -> Probe:
    """Build `graphs` graphs per type, N and half of the contents, mixed levels and contents, from every cell of the
    contents (synthetic.test_set), and name each graph by its nearest neighbour among those of the other half: a
    neighbour shares no content with it. Chance is 1 / number of types."""
    halves = [h for h in np.array_split(np.random.default_rng(seed).permutation(np.unique(batch.content.cpu())), 2)]
    if len(halves[1]) == 0:
        raise UserError("probe needs pictures of at least two contents: a graph is named by graphs of other contents.")
    V = all_nodes(model, batch.images) if V is None else V
    type_of, content_of = batch.type.cpu().numpy(), batch.content.cpu().numpy()
    model.eval()
    codes, named, nodes = {}, [], []
    for n in sizes:
        rng = np.random.default_rng((seed, n))
        members, kinds, half = [], [], []
        for h, contents in enumerate(halves):
            for kind in np.unique(type_of):
                rows = np.flatnonzero((type_of == kind) & np.isin(content_of, contents))
                members += [rng.choice(rows, n, replace=len(rows) < n) for _ in range(graphs)]
                kinds += [int(kind)] * graphs
                half += [h] * graphs
        index, kind, side = torch.from_numpy(np.array(members)), torch.tensor(kinds), torch.tensor(half)
        parts = [_read(model, V[i.to(V.device)]) for i in index.split(max(1, 1024 // n))]
        code, mu, sigma = (torch.cat(x) for x in zip(*parts, strict=True))
        codes[n] = code
        named.append(pd.DataFrame({"N": n, "type": kind.numpy(), "hit": neighbours(code, kind, side).numpy()}))
        drawn = index.flatten()
        nodes.append(pd.DataFrame({
            "N": n, "type": type_of[drawn], "level": batch.level.cpu().numpy()[drawn], "content": content_of[drawn],
            "severity": batch.severity.cpu().numpy()[drawn], "spread": batch.spread.cpu().numpy()[drawn],
            "mu": mu.flatten().numpy(), "sigma": sigma.flatten().numpy(),
        }))  # fmt: skip
    return Probe(codes, pd.concat(named, ignore_index=True), pd.concat(nodes, ignore_index=True))


def watch(batch: Batch, sizes: Sequence[int] = (1, 16), **options: Any) -> Callable[[GMIQA], dict[str, float]]:
    """`evaluate` for training.train: type accuracy and level error by N; `score` is the accuracy at the largest N."""

    def evaluate(model: GMIQA) -> dict[str, float]:
        table = probe(model, batch, sizes, **options).summary()
        values = {f"{name}_{n}": float(table.loc[n, name]) for n in sizes for name in ("type_accuracy", "level_error")}
        return {"score": values[f"type_accuracy_{max(sizes)}"], **values}

    return evaluate


def refit_level_branch(model: GMIQA, V: Tensor, batch: Batch, loss: str, steps: int = 400, lr: float = 3e-3,
                       seed: int = 0, opinions: bool = False) -> GMIQA:
    """A copy of `model` with only its level branch trained anew, on the fixed nodes V (n,d) of `batch`, each a graph of
    one. It shows what a loss does to sigma, with everything else equal.

    opinions    the label is a single score drawn from people's in every step, and no spread is given; else it is their
                mean and their spread, of which the sampled error uses the mean alone
    """
    torch.manual_seed(seed)
    copy = build(**model.config).to(V.device)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("level_branch.")}
    copy.load_state_dict(kept, strict=False)
    copy.eval().requires_grad_(False)
    E = copy.edges(V[:, None]) if copy.config["graph"] == "full" else None
    optimizer = torch.optim.Adam(copy.level_branch.requires_grad_(True).parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        mu, sigma = (x[:, 0] for x in copy.level(V[:, None], E))
        label, spread = batch.severity.to(V.device), batch.spread.to(V.device)
        if opinions:
            label, spread = label + spread * torch.randn_like(spread), torch.zeros_like(spread)
        level_loss(loss, mu, sigma, label, spread).backward()
        optimizer.step()
    return copy


def sigmas(model: GMIQA, V: Tensor, batch: Batch, loss: str, seed: int = 0, opinions: bool = False) -> pd.DataFrame:
    """Sigma under a loss: the level branch refitted on the nodes V of half of the contents, asked about the others.
    Columns type, level, content, spread, sigma."""
    half = batch.content % 2 == 0
    refitted = refit_level_branch(model, V[half], batch[half], loss, seed=seed, opinions=opinions)
    rest = batch[~half].to("cpu")
    with torch.no_grad():
        sigma = refitted.level(V[~half][:, None])[1][:, 0].cpu()
    return pd.DataFrame({"type": rest.type, "level": rest.level, "content": rest.content, "spread": rest.spread,
                         "sigma": sigma})


def smoothing(model: GMIQA, V: Tensor, seed: int = 0) -> pd.DataFrame:
    """edge_variance of graphs of 4, 16 and 64 of the nodes V, in the trained network and in deeper ones at their random
    start, with and without a residual: DataFrame network, residual, N, layer, variance."""
    rows = []
    for n in (4, 16, 64):
        chosen = V[np.random.default_rng(seed).permutation(np.resize(np.arange(len(V)), n))]
        for residual in (False, True):
            start = build(**{**model.config, "edge_residual": residual}).to(V.device)
            for depth in (5,) if residual else (5, None):
                values = edge_variance(start if depth else model, chosen, depth, seed)
                name, has = ("random start, 5 layers", residual) if depth else ("this network, trained",
                                                                                 model.config["edge_residual"])
                rows += [dict(network=name, residual=has, N=n, layer=k, variance=v) for k, v in enumerate(values)]
    return pd.DataFrame(rows)


@torch.no_grad()
def edge_variance(model: GMIQA, V: Tensor, depth: int | None = None, seed: int = 0) -> list[float]:
    """Variance of the edges (N,N,width) about their graph's mean, as a share of their energy, before and after each
    layer; V (N,d). With `depth`: of an edge GCN of that depth at its random start."""
    if depth is not None:
        torch.manual_seed(seed)
        model = build(**{**model.config, "edge_depth": depth}).to(V.device)
    layers: list[Tensor] = []
    model.edges(V, layers)
    flat = [E.flatten(0, 1) for E in layers]
    return [float((E - E.mean(0)).square().sum() / E.square().sum().clamp(min=1e-30)) for E in flat]


def _read(model: GMIQA, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    E = model.edges(V) if model.config["graph"] == "full" else None
    mu, sigma = model.level(V, E)
    return model.type_code(V, E).cpu(), mu.cpu(), sigma.cpu()


def distortion_graph(V: Tensor, E: Tensor, adjacency: str = "mean", **per_node: Tensor | list) -> Any:
    """One graph as torch_geometric Data to look at, save and draw: x (N,node_width), edge_index (2,N*N),
    edge_attr (N*N,edge_width), edge_cosine (N*N) before the GCN, edge_weight (N*N) of the type branch's adjacency, and
    whatever is given `per_node`, for example level=, severity=, content=, image=.
    """
    n = len(V)
    unit = F.normalize(V.detach(), dim=-1)
    index = torch.stack([torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)])
    return geometric("data").Data(
        x=V.detach().cpu(),
        edge_index=index,
        edge_attr=E.detach().reshape(n * n, -1).cpu(),
        edge_cosine=(unit @ unit.T).flatten().cpu(),
        edge_weight=type_adjacency(E.detach(), adjacency).flatten().cpu(),
        **per_node,
    )
