"""Types 11 to 15: noises, and the denoiser that type 15 puts after one. Noise is drawn on the CPU, so devices agree."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gmiqa_core.distortions.colourspaces import rgb_to_ycbcr, ycbcr_to_rgb


def _draw(draw, x: Tensor, generators: list[Generator]) -> Tensor:  # noqa: ANN001
    """One independent field per image, (n,3,h,w) on the device of x."""
    return torch.stack([draw(x.shape[1:], generator=g) for g in generators]).to(x.device)


def white_noise(x: Tensor, variance: float, generators: list[Generator]) -> Tensor:
    return x + math.sqrt(variance) * _draw(torch.randn, x, generators)


def white_noise_colour(x: Tensor, variance: float, generators: list[Generator]) -> Tensor:
    """Gaussian noise in YCbCr, clipped there and again in RGB."""
    noisy = rgb_to_ycbcr(x) + math.sqrt(variance) * _draw(torch.randn, x, generators)
    return ycbcr_to_rgb(noisy.clamp(0, 1))


def impulse_noise(x: Tensor, density: float, generators: list[Generator]) -> Tensor:
    """Salt and pepper, each channel by itself: a value turns 0 or 1 with probability density / 2 each."""
    u = _draw(torch.rand, x, generators)
    return torch.where(u < density / 2, 0.0, torch.where(u < density, 1.0, x))


def multiplicative_noise(x: Tensor, variance: float, generators: list[Generator]) -> Tensor:
    """x + x n, n uniform with mean 0 and that variance (imnoise's speckle)."""
    return x + x * (math.sqrt(12 * variance) * (_draw(torch.rand, x, generators) - 0.5))


def denoise_dct(x: Tensor, variance: float, generators: list[Generator]) -> Tensor:
    """White noise of that variance, then a sliding DCT denoiser in place of DnCNN, whose weights are not at hand.

    Every channel by itself, as MATLAB's DnCNN: 8x8 blocks two pixels apart, coefficients under 3 sigma set to zero,
    overlapping estimates averaged (Yu and Sapiro, "DCT image denoising", IPOL 2011).
    """
    noisy = white_noise(x, variance, generators).clamp(0, 1)
    n, c, h, w = noisy.shape
    block, step = 8, 2
    right, bottom = (-(w - block) % step if w > block else block - w), (-(h - block) % step if h > block else block - h)
    padded = F.pad(noisy, (0, right, 0, bottom), mode="replicate").reshape(n * c, 1, h + bottom, w + right)
    basis = _dct_basis(block).to(x.device)
    coefficients = basis @ F.unfold(padded, block, stride=step)
    kept = coefficients.abs() > 3 * math.sqrt(variance)
    kept[:, 0] = True
    estimates = basis.T @ (coefficients * kept)
    size = padded.shape[-2:]
    count = F.fold(torch.ones_like(estimates[:1]), size, block, stride=step)
    clean = F.fold(estimates, size, block, stride=step) / count
    return clean.reshape(n, c, *size)[..., :h, :w]


@functools.cache
def _dct_basis(block: int) -> Tensor:
    """(block^2, block^2): row k is the k-th two-dimensional DCT-II basis image, orthonormal."""
    position = torch.arange(block, dtype=torch.float64)
    one = torch.cos(math.pi / block * (position + 0.5) * position[:, None]) * math.sqrt(2 / block)
    one[0] /= math.sqrt(2)
    return torch.kron(one, one).float()
