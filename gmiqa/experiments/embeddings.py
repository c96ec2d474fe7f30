"""What the network's codes know about distortions: maps of the codes, and numbers that need no map.

A map (UMAP, or PCA by name) is a picture of neighbourhoods and proves nothing by itself, so `measure` works in the
original space: silhouette by type (Rousseeuw 1987), nearest-neighbour type accuracy, and how well the level is read
from neighbours of the same type; `trustworthiness` (Venna & Kaski 2001) says how far a map may be believed. Neighbours
come from other contents: two crops of one scene look alike whatever their distortion. Intervals resample contents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmiqa.evaluate.agreement import METRICS
from gmiqa.evaluate.intervals import interval, resamples
from gmiqa_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray
METHODS = ("umap", "pca")
MEASURES = {
    "silhouette": "silhouette by type",
    "neighbour_type": "type of the nearest neighbour",
    "level": "level within type, Spearman",
}


def codes(model: Any, images: Tensor, chunk: int = 64) -> dict[str, Array]:
    """Images (n,3,h,w) in [0,1] -> "type_code" (n,t) of every picture as a graph of one, "V" (n,d), "severity" (n,)."""
    import torch

    device = next(model.parameters()).device
    parts: dict[str, list[Array]] = {"type_code": [], "V": [], "severity": []}
    model.eval()
    with torch.no_grad():
        for part in images.split(chunk):
            V = model.nodes(part.to(device))
            singles = V[:, None]  # n graphs of one node each
            parts["V"].append(V[:, : model.config["node_width"]].float().cpu().numpy())
            parts["type_code"].append(model.type_code(singles).float().cpu().numpy())
            parts["severity"].append(model.level(singles)[0][:, 0].float().cpu().numpy())
    return {name: np.concatenate(rows) for name, rows in parts.items()}


def project(
    X: Any, ids: Any = None, method: str = "umap", seed: int = 0, neighbours: int = 15, min_dist: float = 0.1,
    epochs: int = 200,
) -> Array:
    """X (n,d) -> (n,2), the same for the same seed, whatever the order of the rows.

    UMAP repeats with a seed, but permuted rows give other points: rows are sorted by `ids` (n unique labels) first, and
    the result comes back in the given order. A constant X gives zeros.
    """
    X = np.asarray(X, dtype=np.float32)
    if method not in METHODS:
        raise UserError(f"method {method!r} is not known. Choose one of: {', '.join(METHODS)}.")
    if X.ndim != 2 or len(X) < 3 or not np.isfinite(X).all():
        raise UserError(f"project: expected finite codes (n, d) with n of at least 3, found shape {X.shape}.")
    order = np.arange(len(X)) if ids is None else np.argsort(np.asarray(ids), kind="stable")
    start = _pca(X[order])
    if method == "pca" or not start.any():
        result = start
    else:
        import warnings

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_jobs value|.*n_jobs.*overridden")
            import umap

            size = 10 * start / np.abs(start).max()
            result = umap.UMAP(n_neighbors=min(neighbours, len(X) - 1), min_dist=min_dist, n_epochs=epochs, n_jobs=1,
                               init=size.astype(np.float32), random_state=seed).fit_transform(X[order])  # fmt: skip
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return np.asarray(result, dtype=np.float64)[back]


def _pca(X: Array) -> Array:
    """The first two principal components; the largest loading of each is positive, which fixes the sign."""
    centred = X.astype(np.float64) - X.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.vstack([axes, np.zeros((2, X.shape[1]))])[:2]
    largest = np.abs(axes).argmax(1)
    return centred @ (axes * np.where(axes[[0, 1], largest] < 0, -1.0, 1.0)[:, None]).T


def align(Y: Array, to: Array) -> Array:
    """Y (n,2) moved, turned, mirrored and scaled onto `to` (n,2) as well as possible (Procrustes), for common axes."""
    Y, target = Y - Y.mean(0), to - to.mean(0)
    U, s, Vt = np.linalg.svd(Y.T @ target)
    return s.sum() / max(float((Y**2).sum()), 1e-12) * Y @ (U @ Vt) + to.mean(0)


def distances(X: Array) -> Array:
    """Euclidean distances (n,n)."""
    X = np.asarray(X, dtype=np.float64)
    X = X - X.mean(0)
    square = (X**2).sum(1)
    return np.sqrt(np.maximum(square[:, None] + square - 2 * X @ X.T, 0))


def silhouette(D: Array, types: Array, contents: Array) -> Array:
    """Per picture (b - a) / max(a, b) in [-1, 1]; a: mean distance to its own type, b: to the nearest other type."""
    apart = contents[:, None] != contents
    names = np.unique(types)
    mean = np.full((len(D), len(names)), np.nan)
    for k, name in enumerate(names):
        use = apart & (types == name)
        mean[:, k] = np.divide((D * use).sum(1), use.sum(1), out=np.full(len(D), np.nan), where=use.any(1))
    same = types[:, None] == names
    a, b = mean[same], np.nanmin(np.where(same, np.nan, mean), axis=1)
    return (b - a) / np.maximum(np.maximum(a, b), 1e-12)


def neighbour_type(D: Array, types: Array, contents: Array) -> Array:
    """Per picture: has its nearest neighbour among the other contents the same type (0 or 1)?"""
    apart = np.where(contents[:, None] != contents, D, np.inf)
    return (types[apart.argmin(1)] == types).astype(float)


def neighbour_level(D: Array, types: Array, levels: Array, contents: Array, k: int = 3) -> Array:
    """Per picture: the mean level of its k nearest neighbours of the same type among the other contents."""
    allowed = np.where((contents[:, None] != contents) & (types[:, None] == types), D, np.inf)
    nearest = allowed.argsort(1, kind="stable")[:, :k]
    weight = np.isfinite(np.take_along_axis(allowed, nearest, 1))
    return np.where(weight, levels[nearest], 0.0).sum(1) / np.maximum(weight.sum(1), 1)


def measure(X: Any, types: Any, levels: Any, contents: Any, bootstrap: int = 500, seed: int = 0) -> pd.DataFrame:
    """The numbers in the original space -> index measure; value, low, high, n, units (contents), chance.

    silhouette       mean over pictures
    neighbour_type   share of pictures; chance is one over the number of types
    level            Spearman of level and level read from neighbours, within each type, mean over types
    """
    types, levels, contents = (np.asarray(v) for v in (types, levels, contents))
    if len(np.unique(contents)) < 2 or len(np.unique(types)) < 2:
        raise UserError("measure: pictures of at least two contents and two distortion types are needed.")
    units = np.unique(contents.astype(str), return_inverse=True)[1]
    D = distances(X)
    W = resamples(units, bootstrap, seed)
    count = int(units.max()) + 1
    names = np.unique(types)
    rows = {}
    for name, each, chance in (("silhouette", silhouette(D, types, contents), 0.0),
                               ("neighbour_type", neighbour_type(D, types, contents), 1 / len(names))):  # fmt: skip
        low, high = interval(float(each.mean()), (W * each).sum(1) / W.sum(1), count)
        rows[name] = {"value": float(each.mean()), "low": low, "high": high, "chance": chance}
    read = neighbour_level(D, types, levels, contents)
    value = _within(np.ones((1, len(types))), read, levels, types, names)[0]
    low, high = interval(value, _within(W, read, levels, types, names), count)
    rows["level"] = {"value": value, "low": low, "high": high, "chance": 0.0}
    return pd.DataFrame.from_dict(rows, orient="index").assign(n=len(types), units=count).rename_axis("measure")


def _within(W: Array, read: Array, levels: Array, types: Array, names: Array) -> Array:
    """Mean over types of the weighted Spearman (B,); a type read as constant counts as 0: levels not told apart."""
    spearman, of_type = METRICS["srocc"].weighted, [types == t for t in names]
    per_type = [spearman(W[:, use], read[use], levels[use].astype(float)) for use in of_type]
    return np.nan_to_num(np.array(per_type)).mean(0)


def trustworthiness(X: Any, Y: Any, k: int = 10) -> float:
    """1 - 2 / (n k (2n - 3k - 1)) sum_i sum_j max(0, rank_X(i,j) - k), j among the k neighbours of i on the map Y."""
    n = len(X)
    if not 0 < k < n / 2:
        raise UserError(f"trustworthiness: k = {k} neighbours of {n} points; k must be less than half of them.")
    far, near = distances(X), distances(Y)
    np.fill_diagonal(far, -1)
    np.fill_diagonal(near, -1)
    ranks = far.argsort(1, kind="stable").argsort(1)  # 0 is the picture itself
    chosen = near.argsort(1, kind="stable")[:, 1 : k + 1]
    penalty = np.maximum(np.take_along_axis(ranks, chosen, 1) - k, 0).sum()
    return float(1 - 2 * penalty / (n * k * (2 * n - 3 * k - 1)))
