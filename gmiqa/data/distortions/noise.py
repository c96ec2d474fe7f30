"""Types 11 to 15: noises, and the denoiser that type 15 puts after one. Noise is drawn on the CPU, so devices agree."""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from gmiqa.data.distortions.colourspaces import rgb_to_ycbcr, ycbcr_to_rgb


def _draw(draw: Callable[..., Tensor], x: Tensor, generators: list[Generator]) -> Tensor:
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
    """White noise of that variance, then a sliding DCT denoiser in place of DnCNN, whose weights are not available.

    Every channel by itself, as MATLAB's DnCNN: 8x8 DCT blocks on four shifted grids, coefficients under 3 sigma set to
    zero, the four estimates averaged (Yu and Sapiro, "DCT image denoising", IPOL 2011, with four of its 64 shifts).
    """
    noisy = white_noise(x, variance, generators).clamp(0, 1)
    n, c, h, w = noisy.shape
    block = 8
    rows, columns = -(-h // block), -(-w // block)
    basis = _dct_basis(block).to(x.device)
    # Up to 7 pixels before (the shift) and enough behind for whole blocks on each grid.
    padded = F.pad(noisy, (block, (columns + 1) * block - w, block, (rows + 1) * block - h), mode="replicate")
    total = torch.zeros_like(noisy)
    for top, left in ((0, 0), (2, 4), (4, 2), (6, 6)):
        grid = padded[..., block - top :, block - left :][..., : (rows + 1) * block, : (columns + 1) * block]
        blocks = grid.reshape(n, c, rows + 1, block, columns + 1, block).transpose(3, 4).reshape(-1, block * block)
        coefficients = blocks @ basis.T
        small = coefficients.abs() < 3 * math.sqrt(variance)
        small[:, 0] = False
        blocks = coefficients.masked_fill_(small, 0.0) @ basis
        grid = blocks.reshape(n, c, rows + 1, columns + 1, block, block).transpose(3, 4).reshape(grid.shape)
        total += grid[..., top : top + h, left : left + w]
    return total / 4


@functools.cache
def _dct_basis(block: int) -> Tensor:
    """(block^2, block^2): row k is the k-th two-dimensional DCT-II basis image, orthonormal."""
    position = torch.arange(block, dtype=torch.float64)
    one = torch.cos(math.pi / block * (position + 0.5) * position[:, None]) * math.sqrt(2 / block)
    one[0] /= math.sqrt(2)
    return torch.kron(one, one).float()
