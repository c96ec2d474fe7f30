"""The quality-aware loss: squared error, and one minus a Spearman correlation that has a gradient.

    L = w1 * MSE + w2 * (1 - rho),   rho = Pearson of soft ranks,   r_i = 0.5 + sum_j sigmoid((x_i - x_j) / tau)

The MetaQAP paper names the form and w1 = w2 = 0.5; its surrogate for the ranks is not known to us, this one is ours.
As tau goes to 0 the soft ranks become ranks (ties get their mean, since sigmoid(0) = 0.5) and rho becomes Spearman's.
Time and memory grow with n^2 for a batch of n.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
                       temperature: float = 0.1, scale: float = 1.0) -> Tensor:
    """Loss of (n,) predictions on (n,) targets in units of `scale`, the training scores' standard deviation.

    Standardised, both parts are of order 1; on [0,1] the squared error would be about 0.02 and on 0..100 in the
    hundreds, and the two weights would mean nothing.
    """
    prediction, target = prediction / scale, target / scale
    loss = mse_weight * (prediction - target).square().mean()
    if rank_weight and len(target) > 1:
        loss = loss + rank_weight * (1 - soft_spearman(prediction, target, temperature))
    return loss
