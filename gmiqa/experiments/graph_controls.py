"""Does the relation between pictures help? A trained network against itself without edges, and against
its judgments of single pictures.

    crops = several_crops(contents, 96)                          # pictures of unseen contents, three crops of each
    table = controls(model, all_nodes(model, crops.images), crops, known)
    gains(table)                                                 # paired differences, over groups of contents

Controls leave the network as it is and change its edges: none (A = I), all equal, shuffled. References have no edges at
all: the log-probabilities of the single pictures added up, their own levels, the nodes V alone. If the pictures of a
type were independent and each alone read well, the sum of what they say would be all that there is to know about their
type: the graph's code has to beat this sum, not the mean of single codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gmiqa import evaluate
from gmiqa.data.images.gather import to_unit
from gmiqa.data.synthetic import Reference, test_batches
from gmiqa.data.synthetic.pristine import at_least, crop_at
from gmiqa.evaluate.claims import UNDECIDED
from gmiqa.experiments.graph_probe import neighbours
from gmiqa_core.batch import Batch
from gmiqa_core.errors import UserError
from gmiqa_core.network import GMIQA

EDGES = ("as trained", "none (A = I)", "all equal", "shuffled")
SUM, ALONE = "sum of single log-probabilities", "each picture alone"
OWN, MEAN, V_ALONE, V_AND_OWN = "as trained", "e_ii at its mean", "ridge on V", "ridge on V and e_ii"
# Nothing is claimed against added log-probabilities: it would be the claim about edges once more (docs/study.md).
CLAIMS = {
    ("type", EDGES[1]): "Edges make the type of a graph easier to name",
    ("level", ALONE): "A picture's severity is estimated better in its graph than alone",
    ("severity", ALONE): "A graph's mean severity is estimated better than by its pictures' own levels",
    ("score", MEAN): "The picture's own edge makes its score better",
}  # fmt: skip
METRIC = {"type": "srocc", "neighbour": "srocc", "level": "rmse", "severity": "rmse", "score": "srocc"}  # direction
MARGIN = {"type": 0.02, "neighbour": 0.02, "level": 0.01, "severity": 0.01, "score": 0.02}  # what would matter
# The losses of the paper alone, as settings: on free codes as in its text, and on codes of length 1.
PAPER_LOSSES = {"graph_classify": 0.0, "graph_quality": 0.0, "level_loss": "sampled_mse"}
ARMS = {"paper": {**PAPER_LOSSES, "graph_normalise_codes": False}, "paper_unit": {**PAPER_LOSSES,
        "graph_normalise_codes": True}}  # fmt: skip
UNIT = "groups of contents"
CENTRE = (0.5, 0.5)
PLACES = ((0.5, 0.0), CENTRE, (0.5, 1.0))  # of the crops: left, centre, right


def several_crops(contents: Sequence[Reference], crop: int, **options: Any) -> Batch:
    """Every (type, level) of every content, distorted once and cropped at three places: so two contents hold thirty
    pictures of a type, enough for a graph of 16 without a picture twice. Options of synthetic.test_batches."""
    parts = []
    for whole in test_batches(contents, stored=True, **options):
        for place in PLACES:
            pictures = torch.stack([crop_at(at_least(p, crop), (crop, crop), place) for p in whole.images])
            parts.append(Batch(to_unit(pictures), whole.quality, whole.spread, whole.type, whole.level, whole.severity,
                               whole.content))
    return Batch.cat(parts)


def centre(crops: Batch) -> Batch:
    """The centre crops of several_crops: what synthetic.test_set gives."""
    cells = len(crops) // (len(PLACES) * len(crops.content.unique()))
    return crops[torch.arange(len(crops), device=crops.type.device) // cells % len(PLACES) == PLACES.index(CENTRE)]


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
    over the diagonal, so that a graph keeps its edges, but not their places."""
    if how == "as trained":
        return E
    if how == "all equal":
        return E.mean((-3, -2), keepdim=True).expand_as(E)
    n, generator = E.shape[-2], torch.Generator().manual_seed(seed)
    i, j = torch.triu_indices(n, n, 1)
    order, loops = torch.randperm(len(i), generator=generator), torch.randperm(n, generator=generator)
    result, k = E.clone(), torch.arange(n)
    result[..., k, k, :] = E[..., loops, loops, :]
    result[..., i, j, :] = result[..., j, i, :] = E[..., i[order], j[order], :]
    return result


@torch.no_grad()
def controls(model: GMIQA, V: Tensor, batch: Batch, known: Sequence[int], n: int = 16, graphs: int = 4, group: int = 2,
             edges: Sequence[str] = EDGES, seed: int = 0) -> pd.DataFrame:
    """Tidy table: outcome, arm, unit (a group of contents), value. `edges`: which controls.

    type        share of graphs of the `known` types that the classifier names right, read from the graph's code; for
                the reference, from the single log-probabilities added up. None known (a network whose losses train no
                classifier): left out, and so are the scores, which no loss of theirs trains either
    neighbour   share of graphs of all types whose code is nearest to one of their type, among the other groups'
    level       mean absolute error of a picture's severity in its graph; alone for the reference
    severity    the same of the graph's mean severity, against the mean of its pictures' own levels
    score       SROCC of the scores with the quality of the cells, pictures alone
    """
    model.eval()
    table = graphs_of(batch, n, graphs, group, seed)
    members = torch.from_numpy(np.stack(table["members"].to_list())).to(V.device)
    single, truth = model.level(V[:, None])[0].flatten(), batch.severity.to(V.device)
    level, codes, named = {ALONE: single[members]}, {}, {}
    for arm in edges:
        parts = [_read(model, V[m], arm, seed) for m in members.split(64)]
        codes[arm], level[arm] = (torch.cat(x) for x in zip(*parts, strict=True))
    if known:
        names = torch.tensor(sorted(known), device=V.device)
        alone = model.classify(V)[:, names].log_softmax(-1)
        named = {arm: names[model.classifier(code)[:, names].argmax(-1)] for arm, code in codes.items()}
        named[SUM] = torch.cat([names[alone[m].sum(1).argmax(-1)] for m in members.split(64)])
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
    rows += _scores(model, V, batch, table) if known else []
    return pd.DataFrame(rows, columns=["outcome", "arm", "unit", "value"])


def gains(table: pd.DataFrame, arm: str = OWN) -> pd.DataFrame:
    """Every outcome of an arm minus that of every other arm, paired over the units; tables of several networks, one
    below the other, are averaged over the networks first. Columns outcome, against, value, other, delta, low, high,
    answer, n, margin, p."""
    rows = []
    for outcome, part in table.groupby("outcome", sort=False):
        wide = part.pivot_table(index="unit", columns="arm", values="value", sort=False)
        for other in [a for a in wide.columns if a != arm and arm in wide]:
            answer = evaluate.paired(wide[arm] - wide[other], METRIC[outcome], over=UNIT, margin=MARGIN[outcome])
            rows.append((outcome, other, wide[arm].mean(), wide[other].mean(), answer.delta, answer.low, answer.high,
                         answer.outcome, answer.n, answer.margin, answer.p))
    return pd.DataFrame(rows, columns=["outcome", "against", "value", "other", "delta", "low", "high", "answer", "n",
                                       "margin", "p"])


def as_claim(answer: Any) -> dict[str, Any]:
    """A row of `gains` as stage.claim takes it. It is about one network, which decides nothing about others."""
    return {"value": f"{answer.delta:+.3f}", "outcome": UNDECIDED, "n": answer.n, "unit": UNIT, "runs": 1,
            "low": answer.low, "high": answer.high, "p": answer.p, "margin": answer.margin}


def side_by_side(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Networks as arms: what each table of `controls` says of its network as trained."""
    return pd.concat([table[table["arm"] == OWN].assign(arm=name) for name, table in tables.items()])


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
    x, loop = V[:, : model.config["node_width"]], model.edges(V[:, None])[:, 0, 0]
    quality = batch.quality.to(V.device)
    predictions = {OWN: model.score_head(torch.cat([x, loop], -1))[0],
                   MEAN: model.score_head(torch.cat([x, loop.mean(0).expand_as(loop)], -1))[0]}
    pictures = {u: torch.from_numpy(np.unique(np.concatenate(part["members"].to_list()))).to(V.device)
                for u, part in table.groupby("unit")}
    rows = [("score", arm, u, evaluate.srocc(y[p], quality[p])) for arm, y in predictions.items()
            for u, p in pictures.items()]
    for arm, inputs in ((V_ALONE, x), (V_AND_OWN, torch.cat([x, loop], -1))):
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
