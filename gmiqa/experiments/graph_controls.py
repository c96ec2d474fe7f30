"""Does the relation between pictures help? One trained network with its edges taken away, against its single judgments.

    views = several_crops(contents, 96)                          # pictures of unseen contents, three crops of each
    table = controls(model, all_nodes(model, views.images), views, known)
    gains(table)                                                 # paired differences, over groups of contents

Controls leave the network as it is and change its edges: none (A = I), all equal, shuffled. References have no edges at
all: the log-probabilities of the single pictures added up, their own levels, the nodes V alone. The pictures of a type
are drawn independently of each other, so what each of them says alone, added up, is all that there is to know about
their type once that is said well: the sum is the bar, not the mean of single codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa import evaluate
from gmiqa.data.synthetic import Content, test_batches
from gmiqa.data.synthetic.contents import crop_at
from gmiqa.experiments.graph_probe import all_nodes, neighbours
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.network import GMIQA

EDGES = ("as trained", "none (A = I)", "all equal", "shuffled")
SUM, ALONE = "sum of single log-probabilities", "each picture alone"
OWN, MEAN, V_ALONE, V_AND_OWN = "as trained", "e_ii at its mean", "ridge on V", "ridge on V and e_ii"
METRIC = {"type": "srocc", "neighbour": "srocc", "level": "rmse", "severity": "rmse", "score": "srocc"}  # direction
PLACES = ((0.5, 0.0), (0.5, 0.5), (0.5, 1.0))  # of the crops: left, centre, right


def several_crops(contents: Sequence[Content], crop: int, **options: Any) -> Batch:
    """Every (type, level) of every content, distorted once and cropped at three places: so two contents hold thirty
    pictures of a type, enough for a graph of 16 without a picture twice. Options of synthetic.test_batches."""
    parts = []
    for whole in test_batches(contents, **options):
        for place in PLACES:
            pictures = torch.stack([crop_at(p, (crop, crop), place) for p in whole.images])
            parts.append(Batch(pictures, whole.quality, whole.spread, whole.type, whole.level, whole.severity,
                               whole.content))
    return Batch.cat(parts)


def graphs_of(batch: Batch, n: int, graphs: int, group: int, seed: int) -> pd.DataFrame:
    """`graphs` graphs for each type and each group of `group` contents: columns unit (the group), type, members (n row
    numbers). Groups share no content, so they are independent."""
    rng = np.random.default_rng((seed, n))
    kind, content = batch.type.cpu().numpy(), batch.content.cpu().numpy()
    order = rng.permutation(np.unique(content))
    if len(order) < 2 * group:
        raise UserError(f"controls need at least {2 * group} contents in groups of {group}; there are {len(order)}.")
    rows = []
    for unit in range(len(order) // group):
        inside = np.isin(content, order[unit * group : (unit + 1) * group])
        for t in np.unique(kind[kind > 0]):
            members = np.flatnonzero(inside & (kind == t))
            rows += [(unit, int(t), rng.choice(members, n, replace=len(members) < n)) for _ in range(graphs)]
    return pd.DataFrame(rows, columns=["unit", "type", "members"])


def changed(E: Tensor, how: str, seed: int = 0) -> Tensor:
    """Edges (...,N,N,w) as trained, with all edges equal to their graph's mean, or shuffled over the pairs i < j and
    over the diagonal, so that a graph keeps the edges it has, but not where."""
    if how == "as trained":
        return E
    if how == "all equal":
        return E.mean((-3, -2), keepdim=True).expand_as(E)
    n, generator = E.shape[-2], torch.Generator().manual_seed(seed)
    i, j = torch.triu_indices(n, n, 1)
    order, own = torch.randperm(len(i), generator=generator), torch.randperm(n, generator=generator)
    result, k = E.clone(), torch.arange(n)
    result[..., k, k, :] = E[..., own, own, :]
    result[..., i, j, :] = result[..., j, i, :] = E[..., i[order], j[order], :]
    return result


@torch.no_grad()
def controls(model: GMIQA, V: Tensor, batch: Batch, known: Sequence[int], n: int = 16, graphs: int = 4, group: int = 2,
             seed: int = 0) -> pd.DataFrame:
    """Tidy table: outcome, arm, unit (a group of contents), value.

    type        share of graphs of the `known` types that the classifier names right, read from the graph's code; for
                the reference, from the single log-probabilities added up
    neighbour   share of graphs of all types whose code is nearest to one of their type, among the other groups'
    level       mean absolute error of a picture's severity in its graph; alone for the reference
    severity    the same of the graph's mean severity, against the mean of its pictures' own levels
    score       SROCC of the scores with the quality of the cells, pictures alone
    """
    model.eval()
    table = graphs_of(batch, n, graphs, group, seed)
    members = torch.from_numpy(np.stack(table["members"].to_list())).to(V.device)
    names = torch.tensor(sorted(known), device=V.device)
    alone = model.classify(V)[:, names].log_softmax(-1)
    own, truth = model.level(V[:, None])[0].flatten(), batch.severity.to(V.device)
    named = {SUM: torch.cat([names[alone[m].sum(1).argmax(-1)] for m in members.split(64)])}
    level, codes = {ALONE: own[members]}, {}
    for arm in EDGES:
        parts = [_read(model, V[m], arm, seed) for m in members.split(64)]
        codes[arm], level[arm] = (torch.cat(x) for x in zip(*parts, strict=True))
        named[arm] = names[model.classifier(codes[arm])[:, names].argmax(-1)]
    kind = torch.tensor(table["type"].to_numpy())
    unit, trained = table["unit"].to_numpy(), np.isin(table["type"], known)
    rows = []
    for arm, answer in named.items():
        rows += _by_unit("type", arm, unit[trained], (answer.cpu() == kind).numpy()[trained])
    for arm, code in codes.items():
        rows += _by_unit("neighbour", arm, unit, neighbours(code.cpu(), kind, torch.tensor(unit)).numpy())
    for arm, mu in level.items():
        rows += _by_unit("level", arm, unit, (mu - truth[members]).abs().mean(1).cpu().numpy())
        rows += _by_unit("severity", arm, unit, (mu - truth[members]).mean(1).abs().cpu().numpy())
    return pd.DataFrame([*rows, *_scores(model, V, batch, table)], columns=["outcome", "arm", "unit", "value"])


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Every outcome of the network as trained minus that of every other arm, paired over the units and, where `table`
    has several networks (column network), averaged over those first: outcome, against, value, other, delta, low, high,
    answer (better, worse, undecided), n."""
    rows = []
    for outcome, part in table.groupby("outcome", sort=False):
        wide = part.pivot_table(index="unit", columns="arm", values="value", sort=False)
        for arm in [a for a in wide.columns if a != OWN]:
            answer = evaluate.paired(wide[OWN] - wide[arm], METRIC[outcome], over="groups of contents")
            rows.append((outcome, arm, wide[OWN].mean(), wide[arm].mean(), answer.delta, answer.low, answer.high,
                         answer.outcome, answer.n))
    return pd.DataFrame(rows, columns=["outcome", "against", "as trained", "other", "delta", "low", "high", "answer",
                                       "n"])


def _read(model: GMIQA, V: Tensor, arm: str, seed: int) -> tuple[Tensor, Tensor]:
    """Type code and levels of graphs (g,n,d) under an arm; without edges the code is that of n graphs of one."""
    if arm == EDGES[1]:
        return model.type_code(V[..., None, :]).mean(1), model.level(V[..., None, :])[0][..., 0]
    E = changed(model.edges(V), arm, seed)
    return model.type_code(V, E), model.level(V, E)[0]


def _by_unit(outcome: str, arm: str, unit: np.ndarray, values: np.ndarray) -> list[tuple]:
    return [(outcome, arm, int(u), float(values[unit == u].mean())) for u in np.unique(unit)]


def _scores(model: GMIQA, V: Tensor, batch: Batch, table: pd.DataFrame) -> list[tuple]:
    """SROCC of each unit's pictures, each a graph of one; the ridges are fitted on the other units' pictures."""
    x, own = V[:, : model.config["node_width"]], model.edges(V[:, None])[:, 0, 0]
    quality = batch.quality.to(V.device)
    predictions = {OWN: model.score_head(torch.cat([x, own], -1))[0],
                   MEAN: model.score_head(torch.cat([x, own.mean(0).expand_as(own)], -1))[0]}
    pictures = {u: torch.from_numpy(np.unique(np.concatenate(part["members"].to_list()))).to(V.device)
                for u, part in table.groupby("unit")}
    rows = [("score", arm, u, evaluate.srocc(y[p], quality[p])) for arm, y in predictions.items()
            for u, p in pictures.items()]
    for arm, inputs in ((V_ALONE, x), (V_AND_OWN, torch.cat([x, own], -1))):
        for u, p in pictures.items():
            others = torch.cat([q for w, q in pictures.items() if w != u])
            rows.append(("score", arm, u, evaluate.srocc(_ridge(inputs[others], quality[others], inputs[p]),
                                                         quality[p])))
    return rows


def _ridge(x: Tensor, y: Tensor, at: Tensor, weight: float = 0.01) -> Tensor:
    """Ridge regression on standardised inputs, its weight a share of their number."""
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    X, Y = ((x - mean) / deviation).double(), (y - y.mean()).double()
    eye = torch.eye(X.shape[1], dtype=X.dtype, device=X.device)
    solution = torch.linalg.solve(X.T @ X + weight * len(X) * eye, X.T @ Y)
    return ((at - mean) / deviation).double() @ solution + y.mean()
