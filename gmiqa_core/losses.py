"""Every loss of both papers, and ours, each with its equation.

The quality-aware loss is MetaQAP's: squared error, and one minus a Spearman correlation that has a gradient,
    L = w1 * MSE + w2 * (1 - rho),   rho = Pearson of soft ranks,   r_i = 0.5 + sum_j sigmoid((x_i - x_j) / tau)
The paper gives the form and w1 = w2 = 0.5. We do not know its surrogate for the ranks; this one is ours. As tau goes to
0, the soft ranks become ranks (ties get their mean, since sigmoid(0) = 0.5) and rho becomes Spearman's. Time and memory
grow with n^2 for a batch of n.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gmiqa_core.batch import Target
from gmiqa_core.errors import UserError

LEVEL_LOSSES = ("kl", "sampled_mse")
SCORE_LOSSES = ("nll", "mse", "quality_aware")
LEAST_SPREAD = 0.01  # of a target; KADID-10k's cells lie between 0.03 and 0.17


def triplet_loss(codes: Tensor, margin: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes (3,G,t) of anchor, positive, negative -> mean triplet loss over G, and the share of triplets it acts on."""
    near, far = (codes[0] - codes[1]).norm(dim=-1), (codes[0] - codes[2]).norm(dim=-1)
    loss = F.relu(near - far + margin)
    active = (loss > 0).float().mean()
    return loss.mean(), {"active": active, "distance_same": near.mean(), "distance_other": far.mean()}


def level_loss(kind: str, mu: Tensor, sigma: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """kl: KL(N(target, spread) || N(mu, sigma)), least at mu = target and sigma = spread. sampled_mse, the paper's:
    (mu + sigma eps - target)^2. Its expectation is (mu - target)^2 + sigma^2, so it drives sigma to 0."""
    if kind == "kl":
        spread = spread.clamp(min=LEAST_SPREAD)
        return ((sigma / spread).log() + (spread**2 + (mu - target) ** 2) / (2 * sigma**2) - 0.5).mean()
    if kind == "sampled_mse":
        return (mu + sigma * torch.randn_like(sigma) - target).square().mean()
    raise UserError(f"level_loss = {kind!r} is not known; choose one of {', '.join(LEVEL_LOSSES)}.")


def gaussian_nll(mu: Tensor, sigma: Tensor, quality: Tensor, spread: Tensor | float = 0.0) -> Tensor:
    """Mean of E_q [-log N(q; mu, sigma)] for scores q ~ N(quality, spread), up to a constant:
    ((quality - mu)^2 + spread^2) / (2 sigma^2) + log sigma."""
    return (((quality - mu) ** 2 + spread**2) / (2 * sigma**2) + sigma.log()).mean()


def score_loss(kind: str, mu: Tensor, sigma: Tensor, target: Target, scale: float = 1.0) -> Tensor:
    """nll: Gaussian likelihood. mse: the paper's; sigma stays untrained. quality_aware: MetaQAP's, in units of `scale`,
    the standard deviation of the training scores; sigma stays untrained, too."""
    if kind == "nll":
        return gaussian_nll(mu, sigma, target.quality, target.spread)
    if kind == "mse":
        return (mu - target.quality).square().mean()
    return quality_aware_loss(mu, target.quality, scale=scale)


def soft_ranks(x: Tensor, temperature: float = 0.1) -> Tensor:
    """(n,) values -> (n,) ranks from 1 to n, differentiable; `temperature` in the unit of x."""
    return 0.5 + torch.sigmoid((x[:, None] - x[None, :]) / temperature).sum(1)


def soft_spearman(prediction: Tensor, target: Tensor, temperature: float = 0.1) -> Tensor:
    """Pearson correlation of the soft ranks of (n,) predictions and targets; 0 where one of them is constant."""
    a, b = (soft_ranks(x, temperature) for x in (prediction, target))
    a, b = a - a.mean(), b - b.mean()
    power = (a * a).sum() * (b * b).sum()
    return (a * b).sum() / (power + 1e-12).sqrt()


def quality_aware_loss(prediction: Tensor, target: Tensor, mse_weight: float = 0.5, rank_weight: float = 0.5,
                       temperature: float = 0.1, scale: Tensor | float = 1.0) -> Tensor:
    """Loss of (n,) predictions on (n,) targets in units of `scale`, the training scores' standard deviation.

    When standardised, both parts are of order 1. On [0,1] the squared error would be about 0.02, and on 0..100 in the
    hundreds, so the two weights would mean nothing.
    """
    prediction, target = prediction / scale, target / scale
    loss = mse_weight * (prediction - target).square().mean()
    if rank_weight and len(target) > 1:
        loss = loss + rank_weight * (1 - soft_spearman(prediction, target, temperature))
    return loss
