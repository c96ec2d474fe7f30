"""How one network learns all that it is asked about a picture: score, sigma, distortion, severity, and where.

Each step is one pass over pictures of one size: photographs with human scores, windows of distorted versions of one
content each, and pictures that are distorted in one region. One pass, so that BatchNorm sees in training what it sees
in use. A version's score is its content's own, times the share that KADID-10k's viewers left to its distortion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa.data.pictures import Pictures
from gmiqa.release.versions import Versions
from gmiqa_core.batch import to_float, upload
from gmiqa_core.local_quality import STEP
from gmiqa_core.losses import gaussian_nll, level_loss, quality_aware_loss

GRADUAL = (1, 2, 16, 17, 18, 7, 25)  # blurs, darker, brighter, shifted, paler, flatter: gradual change is no distortion
LEAST_SEVERITY = 0.65  # of a distorted region: even if people hardly mind it, it differs
RANKED = 0.1  # least difference of two shares of quality whose order is learned
MARGIN = 0.02  # of the scores


@dataclass(frozen=True)
class Mixture:
    """How many pictures of each kind a step holds, and what each loss weighs beside the quality-aware one.

    scored       photographs with human scores
    contents     contents whose `versions` versions each are compared, the undistorted one among them
    regions      pictures that are distorted in one region
    """

    scored: int = 32
    contents: int = 7
    versions: int = 4
    regions: int = 16
    sigma: float = 0.1
    share: float = 1.0
    order: float = 0.2
    types: float = 0.3
    ordinary: float = 0.1
    severity: float = 0.05
    places: float = 0.5
    undistorted: float = 0.3  # of an undistorted version among the others, when it is named


@dataclass
class Judging:
    """The objective. Photographs and versions lie on the network's device; `good` (n,) is 1 for photographs that may
    stand for undistorted ones, else 0."""

    photographs: Pictures
    versions: Versions
    good: Tensor
    side: int
    seed: int
    mixture: Mixture = Mixture()

    def __post_init__(self) -> None:
        self.scale = float(self.photographs.quality.std())

    def __call__(self, model: Any, step: int, micro: int) -> tuple[Tensor, dict[str, Any]]:
        m, rng = self.mixture, np.random.default_rng((self.seed, step, micro, 17))
        target = self.photographs.batch(self.seed, step, m.scored, self.side)
        index, windows = self.compared(rng)
        regions, severity = self.distorted_in_regions(rng)
        images = torch.cat([to_float(part.to(regions.device)) for part in (target.images, windows, regions)])
        maps = model.maps(images)
        scored, judged = len(target.images), len(target.images) + len(index)
        V = model.nodes_of([part[:judged] for part in maps])
        mu, sigma = model.score(V)
        quality = target.quality.to(mu.device)
        losses = {
            "scores": quality_aware_loss(mu[:scored], quality, scale=self.scale),
            "sigma": m.sigma * gaussian_nll(mu[:scored].detach(), sigma[:scored], quality),
            **self._of_versions(mu[scored:], index),
            **self._of_types(model, V, index, self.good[target.rows]),
            "places": m.places * F.binary_cross_entropy_with_logits(
                model.local_branch(images[judged:], [part[judged:] for part in maps]), severity),
        }
        error = (mu[:scored] - quality).square().mean().sqrt()
        return sum(losses.values()), {"rmse": error, **losses}  # type: ignore[return-value]

    def compared(self, rng: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Rows of the versions (contents * versions,), content by content, the undistorted one first; and their
        windows, at the same place in each version of a content."""
        m, rows = self.mixture, self.versions.rows
        chosen = rng.choice(len(rows), m.contents, replace=len(rows) < m.contents)
        index = np.concatenate([[rows[c][0], *self._versions_of(rows[c][1:], rng)] for c in chosen])
        at = rng.random((m.contents, 2)).repeat(m.versions, 0)
        flip = rng.integers(2, size=m.contents).repeat(m.versions)
        return index, self.versions.windows(index, at, flip, self.side)

    def _versions_of(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """All levels of one type that a content has, then others, as many as a step compares."""
        first = rng.choice(rows)
        same = self.versions.kind[rows] == self.versions.kind[first]
        others = rng.permutation(rows[~same])
        count = self.mixture.versions - 1
        return np.concatenate([rng.permutation(rows[same])[:count], others])[:count]

    def _of_versions(self, mu: Tensor, index: np.ndarray) -> dict[str, Tensor]:
        """Distorted versions against their undistorted one, and in their order."""
        m = self.mixture
        share = upload(torch.from_numpy(self.versions.share[index]).float(), mu.device).view(m.contents, m.versions)
        mu = mu.view(m.contents, m.versions)
        wanted = mu[:, :1].detach() * share
        away = (mu[:, 1:] - wanted[:, 1:]).square().mean() / self.scale**2
        better = share[:, :, None] - share[:, None, :] > RANKED
        wrong = F.relu(MARGIN - (mu[:, :, None] - mu[:, None, :])) / self.scale
        return {"share": m.share * away, "order": m.order * (wrong * better).sum() / better.sum().clamp(min=1)}

    def _of_types(self, model: Any, V: Tensor, index: np.ndarray, good: Tensor) -> dict[str, Tensor]:
        """Type and severity of the versions; photographs of the better half are `none of these`."""
        m, scored = self.mixture, len(good)
        logits = model.classify(V)
        kind, lost = (upload(torch.from_numpy(column[index]), V.device)
                      for column in (self.versions.kind, self.versions.lost))
        none = F.cross_entropy(logits[:scored], kind.new_zeros(scored), reduction="none")
        mu, sigma = (x.flatten() for x in model.level(V[scored:, None]))
        weights = torch.where(kind == 0, m.undistorted, 1.0)
        named = F.cross_entropy(logits[scored:], kind, reduction="none")
        return {"types": m.types * (named * weights).sum() / weights.sum(),
                "ordinary": m.ordinary * (none * good).sum() / good.sum().clamp(min=1),
                "severity": m.severity * level_loss("kl", mu, sigma, lost.float(), torch.full_like(mu, 0.05))}

    def distorted_in_regions(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (regions,3,side,side) in [0,1] that are distorted within an ellipse or a rectangle, or not at all;
        and the severity of their places. Half of them are mildly distorted all over, and half change gradually."""
        n, versions = self.mixture.regions, self.versions
        rows = [versions.rows[c] for c in rng.choice(len(versions.rows), n)]
        drawn = {
            "mild": [self._pick(r, rng, versions.level[r] <= 2) if rng.random() < 0.5 else r[0] for r in rows],
            "gradual": [self._pick(r, rng, np.isin(versions.kind[r], GRADUAL)) for r in rows],
            "strong": [self._pick(r, rng, versions.level[r] > 0) for r in rows],
        }
        at, flip = rng.random((n, 2)), rng.integers(2, size=n)
        mild, gradual, strong = (to_float(versions.windows(np.array(index), at, flip, self.side))
                                 for index in drawn.values())
        changes = regions(rng, n, self.side, mild.device, (0.4, 1.2), (0.7, 1.5), ellipses=1.0)
        changes = changes * upload(torch.from_numpy(rng.random(n) < 0.5), mild.device).view(-1, 1, 1, 1)
        mask = regions(rng, n, self.side, mild.device, (0.25, 0.8), (0.001, 0.03, 0.1), ellipses=0.5)
        mask = mask * upload(torch.from_numpy(rng.random(n) < 0.93), mild.device).view(-1, 1, 1, 1)
        lost = versions.lost[np.array(drawn["strong"])]
        severity = np.minimum(1, LEAST_SEVERITY + (1 - LEAST_SEVERITY) * lost / 0.9)
        x = mild + (gradual - mild) * changes
        x = x + (strong - x) * mask
        wanted = mask * upload(torch.from_numpy(severity).float(), mild.device).view(-1, 1, 1, 1)
        return (x * 255).round() / 255, F.avg_pool2d(wanted, STEP)[:, 0]

    def _pick(self, rows: np.ndarray, rng: np.random.Generator, wanted: np.ndarray) -> int:
        """One of the wanted versions, strong levels more often; the undistorted one where none is wanted."""
        among = rows[wanted] if wanted.any() else rows[:1]
        weights = (self.versions.level[among] + 1.0) ** 1.5
        return int(rng.choice(among, p=weights / weights.sum()))


def regions(rng: np.random.Generator, n: int, side: int, device: torch.device, sizes: tuple[float, float],
            edges: Sequence[float], ellipses: float) -> Tensor:
    """Masks (n,1,side,side) of ellipses or rectangles: 1 inside, 0 outside. Sizes and centres are drawn as shares of
    the side; an edge is as wide as one of `edges`, in units of half the region's size."""
    numbers = np.stack([*(rng.uniform(*sizes, (2, n)) / 2), *rng.uniform(0, 1, (2, n)), rng.choice(edges, n),
                        rng.random(n) < ellipses])
    height, width, y, x, edge, ellipse = upload(torch.from_numpy(numbers).float(), device).view(6, n, 1, 1, 1)
    place = (torch.arange(side, device=device) + 0.5) / side
    down, right = (place[:, None] - y) / height, (place - x) / width
    distance = torch.where(ellipse > 0, torch.hypot(down, right), torch.maximum(down.abs(), right.abs()))
    return ((1 - distance) / edge + 0.5).clamp(0, 1)

