"""The distortion graph: its nodes are pictures of one distortion, and the edge e_ij compares pictures i and j.

Notation of Jia & Wei 2026: V (...,N,node_width) nodes, E (...,N,N,edge_width) edges; leading dimensions are graphs.
The layers are torch-geometric's dense GCN. The adjacency over edges is the cosine of the initial edges plus I, an
N^2 x N^2 matrix. EdgeBuilder multiplies by it without building it; `dense=True` builds it, as the reference.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_VARIANCE = 1e-10  # spread of a graph's edges below which they count as equal


def full(x: Tensor) -> Tensor:
    """Tensors that autocast left in half precision become float32; others stay as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


@functools.cache
def geometric(module: str) -> Any:
    """A module of torch-geometric, loaded when it is first needed, without its warning that torch.jit is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return importlib.import_module(f"torch_geometric.{module}")


class NodeBuilder(nn.Module):
    """Pyramid features (...,D) -> nodes V (...,node_width): fully connected layers, each with ReLU; one layer where
    `hidden` is None."""

    def __init__(self, inputs: int, hidden: int | None, node_width: int):
        super().__init__()
        widths = [inputs, node_width] if hidden is None else [inputs, hidden, node_width]
        self.layers = nn.Sequential()
        for a, b in pairwise(widths):
            self.layers.extend([nn.Linear(a, b), nn.ReLU()])

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class GCN(nn.Module):
    """Parameters of one dense GCN layer, named as in torch_geometric.nn.DenseGCNConv, whose forward runs on them:
    X (B,N,inputs), A (B,N,N) with its loops -> D A D X W + b. Loading torch-geometric takes seconds, and a score, which
    is a graph of one picture, never needs it. So the first graph that has an adjacency loads it.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.lin = nn.Linear(inputs, outputs, bias=False)
        nn.init.xavier_uniform_(self.lin.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, X: Tensor, A: Tensor) -> Tensor:
        return geometric("nn").DenseGCNConv.forward(self, X, A, add_loop=False)


def pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The N(N+1)/2 pairs i <= j, which suffice as e_ij = e_ji, and the (N,N) table from edge (i,j) to its pair."""
    i, j = torch.triu_indices(n, n, device=device)
    table = torch.empty(n, n, dtype=torch.long, device=device)
    table[i, j] = table[j, i] = torch.arange(len(i), device=device)
    return i, j, table


def initial_edges(V: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """e_ij = normalise(V_i) * normalise(V_j), elementwise; its sum is the cosine of the two nodes."""
    V = F.normalize(V, dim=-1)
    return V[..., i, :] * V[..., j, :]


class EdgeBuilder(nn.Module):
    """GCN over the edges: V (...,N,inputs) -> E (...,N,N,widths[-1]), ReLU between its layers and, with `positive`,
    after the last one.

    With F the initial edges normalised row by row and A = F F^T + I, a layer is X -> D A D X W + b, where D holds
    s^-1/2 and s = F (F^T 1) + 1 are the degrees (below 1 they count as 1, as in DenseGCNConv). As
        D A D X = D (F (F^T (D X)) + D X)
    cost and memory grow with N^2, not N^4. Rows i < j stand for both (i,j) and (j,i): they weigh 2 in every F^T.

    residual    D A D X + X in place of D A D X. The degrees are near N^2, so the I hardly counts and the layers pull
                all edges together; the residual keeps what is particular to one edge
    dense       build A and call DenseGCNConv: the same function and parameters, for tests and benchmarks
    positive    ReLU on the output too, as in the paper. Smoothing gives all edges of a graph one sign; where that is
                negative, relu(mean of E) would have neither an edge nor a gradient
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (128, 64, 64), residual: bool = False, dense: bool = False,
                 positive: bool = False):
        super().__init__()
        self.residual, self.dense, self.positive = residual, dense, positive
        layers = [GCN(a, b) for a, b in zip([inputs, *widths], widths, strict=False)]
        self.layers = nn.ModuleList(layers)
        with torch.no_grad():  # entries of e_ij are near 1 / inputs, its norm near inputs^-1/2: start from unit edges
            layers[0].lin.weight.mul_(inputs**0.5)

    def forward(self, V: Tensor, layers: list[Tensor] | None = None) -> Tensor:
        """`layers`, if given, receives the edges (...,N,N,width) before and after each layer, to look at."""
        n = V.shape[-2]
        i, j, table = pairs(n, V.device)
        if self.dense:
            i, j = (k.flatten() for k in torch.meshgrid(*[torch.arange(n, device=V.device)] * 2, indexing="ij"))
            table = torch.arange(n * n, device=V.device).view(n, n)
        X = initial_edges(V, i, j)
        rows = F.normalize(X, dim=-1)
        times = _dense_product(rows) if self.dense else _factorised_product(rows, 2.0 - (i == j).to(X.dtype))
        if layers is not None:
            layers.append(X[..., table, :])
        layer: Any
        for k, layer in enumerate(self.layers):
            XW = layer.lin(X)
            out = times(layer, X) if self.dense else times(XW) + layer.bias
            X = out + XW if self.residual else out
            if self.positive or k < len(self.layers) - 1:
                X = F.relu(X)
            if layers is not None:
                layers.append(X[..., table, :])
        return X[..., table, :]


def _factorised_product(rows: Tensor, weight: Tensor):
    """X (...,M,d) -> D A D X for half the rows; `weight` is 2 for i < j and 1 for i = j."""
    columns = (rows * weight[:, None]).transpose(-1, -2)
    degree = rows @ columns.sum(-1, keepdim=True) + 1
    D = degree.clamp(min=1).rsqrt()

    def times(X: Tensor) -> Tensor:
        X = D * X
        return D * (rows @ (columns @ X) + X)

    return times


def _dense_product(rows: Tensor):
    """The same through the N^2 x N^2 matrix and torch-geometric's own layer (A already holds the loops)."""
    flat = rows.reshape(-1, *rows.shape[-2:])
    A = flat @ flat.transpose(-1, -2) + torch.eye(flat.shape[-2], dtype=rows.dtype, device=rows.device)

    def times(layer: nn.Module, X: Tensor) -> Tensor:
        out = layer(X.reshape(-1, *X.shape[-2:]), A)
        return out.view(*X.shape[:-1], out.shape[-1])

    return times


class TypeBranch(nn.Module):
    """Nodes and their (N,N) adjacency -> the type code (...,type_width) of each graph: a GCN of `layers` layers with
    ReLU between them, then the mean over nodes. One layer alone is linear, and its code is no more than a weighted
    mean of what the nodes say by themselves."""

    def __init__(self, node_width: int, type_width: int, layers: int = 1):
        super().__init__()
        widths = [node_width] + [type_width] * (layers - 1)
        self.before = nn.ModuleList(GCN(a, b) for a, b in pairwise(widths))
        self.gcn = GCN(widths[-1], type_width)

    def forward(self, V: Tensor, A: Tensor) -> Tensor:
        n = V.shape[-2]
        X, A = V.reshape(-1, n, V.shape[-1]), A.expand(*V.shape[:-2], n, n).reshape(-1, n, n)
        for layer in self.before:
            X = F.relu(_convolved(layer, X, A))
        X = _convolved(self.gcn, X, A)
        return X.mean(-2).view(*V.shape[:-2], X.shape[-1])


def _convolved(layer: Any, X: Tensor, A: Tensor) -> Tensor:
    """One GCN layer; the normalised adjacency of a single node is 1, whatever A holds."""
    return layer.lin(X) + layer.bias if X.shape[-2] == 1 else layer(X, A)


def type_adjacency(E: Tensor, kind: str = "mean") -> Tensor:
    """A_v (...,N,N) from the mean a_ij of each edge over its channels; every degree is at least 1, whatever E holds.

    mean        relu(a) + I, average pooling as in the paper. Smoothed edges are nearly equal, and so are these entries
    contrast    sigmoid(z) / (N - 1) + I with z_ij = (a_ij - mean) / deviation over the edges i != j of the graph.
                Differences between edges count, however small they are beside the edges themselves. A node weighs as
                much as its neighbours together, because mixing nodes before a non-linearity loses what each says
    """
    a, eye = E.mean(-1), torch.eye(E.shape[-2], dtype=E.dtype, device=E.device)
    if kind == "mean":
        return F.relu(a) + eye
    others = max(1, E.shape[-2] - 1)
    pairs = E.shape[-2] * others
    centred = (a - (a * (1 - eye)).sum((-2, -1), keepdim=True) / pairs) * (1 - eye)
    variance = centred.square().sum((-2, -1), keepdim=True) / pairs
    return torch.sigmoid(centred * (variance + LEAST_VARIANCE).rsqrt()) / others * (1 - eye) + eye


class Attention(nn.Module):
    """What a node learns from its neighbours: V (...,N,inputs) -> (...,N,width), attention of several heads.

    Ours. One picture shows its type badly, and its level only once the type is known; sixteen of one type show the
    type. So a node's level gains from its neighbours; the type of the graph, a sum over its pictures, does not.
    """

    def __init__(self, inputs: int, width: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.enter, self.leave = nn.Linear(inputs, width), nn.Linear(width, width)
        self.ask = nn.Linear(width, 3 * width)

    def forward(self, V: Tensor) -> Tensor:
        X = self.enter(V)
        asked = self.ask(F.layer_norm(X, X.shape[-1:])).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in asked)
        seen = F.scaled_dot_product_attention(query, key, value)
        return X + self.leave(seen.transpose(-2, -3).flatten(-2))


class GaussianHead(nn.Module):
    """(...,inputs) -> mu in (0,1) and sigma > 0, each (...): the level branch and the score head
    ([V_i, e_ii] -> the quality of picture i, higher is better) are two of these.

    sigma = softplus(.) + 0.01: with a spread below the scale's resolution, one picture would dominate the likelihood.
    """

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, 2)
        self.layers = nn.Sequential(first, nn.ReLU(), last)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[1] = -2.0  # sigma starts near 0.14, the spread of human scores in a KADID-10k cell

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, sigma = full(self.layers(x)).unbind(-1)
        return torch.sigmoid(mu), F.softplus(sigma) + 0.01


class LevelBranch(GaussianHead):
    """[V_i, mean_j e_ij] -> mu_i, sigma_i: the severity of picture i's distortion in [0,1] and its spread. With
    `attention`, the output of Attention comes third."""

    def __init__(self, node_width: int, edge_width: int, hidden: int, attention: bool = False):
        super().__init__(node_width + edge_width + attention * hidden, hidden)
        self.attention = Attention(node_width, hidden) if attention else None

    def forward(self, V: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        seen = [] if self.attention is None else [self.attention(V)]
        return super().forward(torch.cat([V, mean, *seen], -1))
